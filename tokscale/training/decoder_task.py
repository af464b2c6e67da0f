"""Training of a decoder alone, on the latents of a tokenizer that is done (ViTok's second stage)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokscale.bottlenecks.draws import Draws
from tokscale.config import DecoderFinetuneConfig
from tokscale.models.tokenizer import Tokenizer
from tokscale.stability import Point, signs
from tokscale.training.reconstruction_task import ReconstructionTask
from tokscale.training.tasks import Named


class DecoderTask(ReconstructionTask):
    """Trains a decoder; encoder and bottleneck are in evaluation mode, take no gradient, and are no submodules.

    They stay whole on every rank: only the decoder's blocks may be shared out.
    """

    section = "decoder_finetune.training"

    def __init__(
        self, tokenizer: Tokenizer, config: DecoderFinetuneConfig, resolution: int, seed: int, frames: int = 1
    ) -> None:
        super().__init__(config.losses.complete, config.training, resolution, seed, frames)
        self.decoder = tokenizer.decoder.requires_grad_(True)
        self._frozen = [module.requires_grad_(False).eval() for module in (tokenizer.encoder, tokenizer.bottleneck)]
        self._layout, self._tail = tokenizer.layout, tokenizer.tail
        self._samples = config.posterior == "sample"
        self.start_average()

    @property
    def result(self) -> nn.Module:
        return self.decoder

    def on_train_start(self) -> None:
        super().on_train_start()
        for module in self._frozen:
            module.to(self.device)

    def reconstructed(self, images: Tensor, draws: Draws) -> tuple[Tensor, Named, Named]:
        latents = self.latents(images, draws)
        made = self.decoder(latents, self._layout.of_images(images))[0]
        return made.reshape(images.shape), {}, {}

    @torch.no_grad()
    def latents(self, images: Tensor, draws: Draws) -> Tensor:
        """What the decoder is given for images: codes, or of a posterior a sample or the mode."""
        encoder, bottleneck = self._frozen
        found = bottleneck(encoder(images))
        latents: Tensor = found.latents
        if self._samples and found.mean is not None:
            noise = draws.normal("posterior", found.mean.shape, found.mean.device)
            latents = found.mean + (0.5 * found.logvar).exp() * noise.to(found.mean.dtype)
        return latents if self._tail is None else self._tail.drawn(latents, draws)

    def warnings(self, past: Sequence[Point]) -> list[str]:
        return signs(past, codes=None, latents=0, warmup=self.training_config.warmup, entropy=False,
                     place="decoder_finetune.")  # fmt: skip

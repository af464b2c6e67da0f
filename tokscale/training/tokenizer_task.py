"""Training of every tokenizer: its losses added up, and a discriminator's turn in the same step where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.config import used
from tokscale.data import to_model_range
from tokscale.losses.perceptual import perceptual_distance
from tokscale.losses.reconstruction import reconstruction_loss
from tokscale.losses.semantic import Alignment, alignment_loss
from tokscale.models.tokenizer import Tokenizer
from tokscale.stability import Point, signs
from tokscale.teachers.base import VisionTeacher
from tokscale.training.adversary import Adversary
from tokscale.training.optimization import build_optimizer, learning_rate
from tokscale.training.shortcut import Shortcut
from tokscale.training.tasks import Named, Part, Task, of_all_ranks
from tokscale.training_cost import Trained


class TokenizerTask(Task):
    """Trains a tokenizer: pixel loss, what its bottleneck asks for, and what the config asks of other networks.

    Frozen networks are no submodules: no checkpoint, no optimizer and no exchange of gradients knows them. Raises
    ``WeightsError`` when one of them needs weights that are not here.
    """

    def __init__(self, tokenizer: Tokenizer, config: Trained, seed: int, teacher: VisionTeacher | None = None) -> None:
        super().__init__(config.training, seed)
        losses = config.losses
        gan, perceptual, self.semantic = used(losses.gan), used(losses.perceptual), used(losses.semantic)
        assert (self.semantic is None) == (teacher is None), "a semantic loss, and no other, has a teacher"
        self.tokenizer = tokenizer
        self.reconstruction_loss = reconstruction_loss(losses)
        self.adversary = Adversary(gan, config.training, seed) if gan else None
        shortcut = used(losses.shortcut)
        self.shortcut = Shortcut(tokenizer, shortcut, self.reconstruction_loss) if shortcut else None
        self.alignment = None
        if teacher is not None:
            torch.manual_seed(seed_for("alignment", seed))
            self.alignment = Alignment(config.tokenizer.decoder.width, teacher.dim)
        self.perceptual_weight = perceptual.weight if perceptual else 0.0
        self._perceptual = [perceptual_distance(perceptual)] if perceptual else []  # in lists: no submodules
        self._teachers = [teacher] if teacher else []
        self._indices: list[Tensor] = []  # codes of the step's micro-batches
        self._judged: tuple[Tensor, Tensor] | None = None  # images and reconstructions of a pass
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_parameters() if name.startswith("adversary.")
        ]

    @property
    def training_only_params(self) -> int:
        """Parameters that are trained and left behind."""
        modules = [module for module in (self.alignment, self.adversary) if module is not None]
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    # --- optimizers ---

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        own = torch.nn.ModuleList([self.tokenizer, *([self.alignment] if self.alignment else [])])
        optimizers: list[torch.optim.Optimizer] = [build_optimizer(own, self.training_config)]
        if self.adversary is not None:
            optimizers.append(build_optimizer(self.adversary, self.adversary.training_config))
        return optimizers

    def learning_rates(self) -> list[float]:
        rates = super().learning_rates()
        return rates if self.adversary is None else [*rates, learning_rate(self.step, self.adversary.training_config)]

    def takes_part(self, number: int) -> bool:
        return number == 0 or self._is_judged()

    def name_of_norm(self, number: int) -> str:
        return ("gradient_norm", "discriminator_gradient_norm")[number]

    # --- a step ---

    def on_train_start(self) -> None:
        for network in self._perceptual:
            network.to(self.device)
        for teacher in self._teachers:
            teacher.to(self.device)

    def on_train_batch_start(self, batch: Part, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self._indices.clear()
        if self.shortcut is not None:
            self.shortcut.close_after(self.images_seen)

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        images = to_model_range(part[0])
        self.tokenizer.bottleneck.draws = draws
        tap = self.semantic.layer if self.semantic else None
        reconstruction, bottleneck, features = self.tokenizer(images, tap)
        reconstruction = reconstruction.float()
        if bottleneck.indices is not None:
            self._indices.append(bottleneck.indices)
        losses = {"reconstruction": self.reconstruction_loss(reconstruction, images), **bottleneck.losses}
        return losses | self._losses_beside(images, reconstruction, features), bottleneck.statistics

    def _losses_beside(self, images: Tensor, reconstruction: Tensor, features: Tensor | None) -> Named:
        """The losses that other networks give, and those past the transformers, weighted."""
        losses: Named = {}
        for network in self._perceptual:
            losses["perceptual"] = self.perceptual_weight * network(reconstruction, images).mean()
        for teacher in self._teachers:
            assert self.alignment is not None
            assert self.semantic is not None
            aims = teacher.features(images)
            losses["semantic"] = self.semantic.weight * alignment_loss(self.alignment(features), aims)
        if self.shortcut is not None and self.shortcut.is_open:
            losses |= self.shortcut.losses(images)
        if self.adversary is not None and self._is_judged():
            losses["gan"] = self.adversary.told(reconstruction)
            self._judged = images, reconstruction.detach()
        return losses

    def after_pass(self, weight: float) -> None:
        """The discriminator's turn: its gradients from the images that have just passed."""
        if self._judged is None:
            return
        assert self.adversary is not None
        loss, watched = self.adversary.loss(*self._judged)
        self._judged = None
        self.keep({"discriminator": loss, **watched}, weight)
        with self.full_precision():
            # Not by Lightning, which would have DDP exchange the tokenizer's gradients again.
            torch.autograd.backward(loss * weight)

    def finish_step(self) -> None:
        self.tokenizer.bottleneck.finish_step()
        if self.adversary is not None and self._is_judged():
            self.adversary.average_gradients()

    def _is_judged(self) -> bool:
        return self.adversary is not None and self.adversary.has_joined(self.images_seen)

    # --- around the steps ---

    def pass_size(self, share: int, asked: int | None) -> int:
        size = super().pass_size(share, asked)
        group = self.adversary.judge.group if self.adversary is not None else 1
        return size // group * group or size

    def notes(self, share: int) -> list[str]:
        """What a reader of the record has to know of how it was trained, by a rank's share of the batch."""
        note = self.adversary.note(share, self.micro_batch or share) if self.adversary is not None else None
        return [] if note is None else [note]

    def warnings(self, past: Sequence[Point]) -> list[str]:
        latents = self.training_config.batch_size * self.tokenizer.num_latent_tokens
        return signs(past, codes=self.tokenizer.bottleneck.codebook_size, latents=latents,
                     warmup=self.training_config.warmup,
                     entropy=hasattr(self.tokenizer.bottleneck, "entropy_weight"))  # fmt: skip

    def check_finite(self) -> dict[str, float]:
        values = super().check_finite()
        if self._indices:
            statistics = self.tokenizer.bottleneck.code_statistics(of_all_ranks(torch.cat(self._indices)))
            values |= {name: float(value) for name, value in statistics.items()}
        return values

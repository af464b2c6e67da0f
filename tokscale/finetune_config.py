"""Config of a tokenizer's second training, in which only its decoder learns."""

from __future__ import annotations

from typing import Literal

from tokscale.fields import Config
from tokscale.gan_config import DecoderGan
from tokscale.losses_config import LossesConfig, LpipsLoss, PerceptualLoss
from tokscale.training_config import DecoderTraining


class DecoderLosses(Config):
    """What a finetuned decoder's images are held to; a section that is null, or has no weight, takes no part.

    The defaults are ViTok's (2.3): mean squared error, LPIPS with weight 1, and a discriminator.
    """

    reconstruction: Literal["mse", "l1", "charbonnier"] = "mse"
    perceptual: PerceptualLoss | None = LpipsLoss()
    gan: DecoderGan | None = DecoderGan()

    @property
    def complete(self) -> LossesConfig:
        """The same as losses of a tokenizer, with nothing beyond."""
        return LossesConfig(reconstruction=self.reconstruction, perceptual=self.perceptual, gan=self.gan)


class DecoderFinetuneConfig(Config):
    """Train a finished tokenizer's decoder on, with encoder and bottleneck frozen (ViTok's second stage).

    One tokenizer serves many such decoders. The latents stay what they were, so that probes on them do not care.
    """

    training: DecoderTraining = DecoderTraining()
    losses: DecoderLosses = DecoderLosses()
    posterior: Literal["sample", "mode"] = "sample"
    """what the decoder is given of a Gaussian posterior: a sample, as in the first training (the paper does not say; a
    generative model's latents are samples too), or the mode, which is what reconstructions are measured with"""

    def check(self, resolution: int) -> None:
        """Raise ``ValueError`` when these losses cannot be taken of such images."""
        if self.losses.gan is not None:
            self.losses.gan.check(resolution, "decoder_finetune.losses.gan.discriminator")

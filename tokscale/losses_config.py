"""Configs of a tokenizer's losses; those of its bottleneck stand with the bottleneck."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field

from tokscale.fields import Config, CountOrZero, Natural, NonNegative, Positive


class PerceptualLoss(Config):
    """LPIPS (Zhang et al. 2018): distance of a frozen VGG-16's features of reconstruction and image."""

    kind: Literal["lpips"] = "lpips"
    weight: NonNegative = 1.0


class PatchDiscriminator(Config):
    """Convolutions that judge overlapping patches of an image (Isola et al. 2017)."""

    kind: Literal["patchgan"] = "patchgan"
    width: Natural = 64
    """channels of the first convolution; they double from one to the next, up to eight times as many"""
    depth: Natural = 3
    """convolutions that halve the image"""


class GanLoss(Config):
    """A discriminator between images and reconstructions, trained beside the tokenizer; hinge loss."""

    weight: NonNegative = 0.5
    start: CountOrZero = 0
    """images that the tokenizer has seen before the discriminator joins"""
    lr: Positive | None = None
    """peak learning rate of the discriminator; the tokenizer's when none is given"""
    discriminator: PatchDiscriminator = PatchDiscriminator()


class SemanticLoss(Config):
    """Cosine similarity of a frozen network's patch features and an MLP on the decoder's (GigaTok 4.2)."""

    weight: NonNegative = 0.5
    features: Literal["dinov2-b"] = "dinov2-b"
    layer: Natural = 3
    """block of the decoder's transformer whose output is aligned, counted from 1"""


_Weighted = TypeVar("_Weighted", PerceptualLoss, GanLoss, SemanticLoss)


class LossesConfig(Config):
    """What the tokenizer's reconstruction is held to; a section that is absent, or has no weight, takes no part."""

    reconstruction: Literal["mse", "l1", "charbonnier"] = "mse"
    perceptual: PerceptualLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})
    gan: GanLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})
    semantic: SemanticLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})


def used(section: _Weighted | None) -> _Weighted | None:
    """The section of a loss that takes part; None where it is absent or weighs nothing."""
    return section if section is not None and section.weight > 0 else None

"""Configs of adversarial losses: discriminators, how they learn, and what holds them back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from tokscale.fields import Config, CountOrZero, Fraction, Natural, NonNegative, Positive, kind_of

# --- discriminators ---


class PatchDiscriminator(Config):
    """Convolutions that judge overlapping patches of an image (Isola et al. 2017)."""

    kind: Literal["patchgan"] = "patchgan"
    width: Natural = 64
    """channels of the first convolution; they double from one to the next, up to eight times as many"""
    depth: Natural = 3
    """convolutions that halve the image"""
    norm: Literal["batch", "group", "none"] = Field(default="batch", json_schema_extra={"since": "0.2"})
    """group norm and none judge each image by itself"""
    norm_images: Natural = Field(default=16, json_schema_extra={"since": "0.2"})
    """images that share the statistics of a batch norm: consecutive ones of the global batch"""

    def refusal(self, resolution: int) -> str | None:
        """Why images of so many pixels a side cannot be judged, as words that follow its place; None where they can."""
        smallest = 3 << self.depth
        if resolution >= smallest:
            return None
        return (
            f".depth {self.depth} leaves nothing to judge of data.resolution {resolution}: it takes {smallest} pixels "
            "or more"
        )


class StyleGanDiscriminator(Config):
    """Residual blocks that halve an image down to 4 to 7 pixels a side and judge it whole (Karras et al. 2020)."""

    kind: Literal["stylegan"] = "stylegan"
    channel_base: Natural = 32768
    """a map of n pixels a side has channel_base / n channels; StyleGAN2's large configuration"""
    channel_max: Natural = 512
    """channels of a map at most"""
    stddev_images: Natural = 4
    """images whose standard deviation is one more channel: consecutive ones of the global batch"""

    def sides(self, resolution: int) -> list[int]:
        """Pixels a side of the map before each block, and after the last."""
        sides = [resolution]
        while sides[-1] >= 8:
            sides.append(sides[-1] // 2)
        return sides

    def widths(self, resolution: int) -> list[int]:
        """Channels of the maps of ``sides``."""
        return [max(1, min(self.channel_base // side, self.channel_max)) for side in self.sides(resolution)]

    def refusal(self, resolution: int) -> str | None:
        """Why images of so many pixels a side cannot be judged, as words that follow its place; None where they can."""
        factor = 1 << (len(self.sides(resolution)) - 1)
        if resolution % factor == 0:
            return None
        return (
            f": stylegan halves images down to 4 to 7 pixels, and {factor} does not divide data.resolution {resolution}"
        )


AnyDiscriminator = PatchDiscriminator | StyleGanDiscriminator
_UNION = Annotated[PatchDiscriminator, Tag("patchgan")] | Annotated[StyleGanDiscriminator, Tag("stylegan")]

# --- regularisation ---


class R1Penalty(Config):
    """Half the squared gradient of the logits by the image (Mescheder et al. 2018), taken in some of the steps."""

    weight: NonNegative = 10.0
    """gamma; the loss is weight / 2 times the squared norm"""
    every: Natural = 16
    """steps of the discriminator from one penalty to the next, which weighs as many times as much"""


class LeCamPenalty(Config):
    """Squared distance of logits beyond the running mean of the other side's (Tseng et al. 2021)."""

    weight: NonNegative = 1e-3
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """of the running means, from one step of the discriminator to the next"""


# --- the loss ---


class GanLoss(Config):
    """A discriminator between images and reconstructions, trained beside the tokenizer."""

    weight: NonNegative = 0.5
    """of the tokenizer's side of the loss"""
    loss: Literal["hinge", "non-saturating"] = Field(default="hinge", json_schema_extra={"since": "0.2"})
    start: CountOrZero = 0
    """images that the tokenizer has seen before the discriminator joins"""
    warmup: Fraction = Field(default=0.0, json_schema_extra={"since": "0.2"})
    """share of the budget over which the weight rises linearly from there on"""
    lr: Positive | None = None
    """peak learning rate of the discriminator; the tokenizer's when none is given"""
    lr_warmup: Fraction | None = Field(default=None, json_schema_extra={"since": "0.2"})
    """share of the budget over which its rate rises linearly from where it joins; with the tokenizer's when none is
    given"""
    discriminator: Annotated[_UNION, kind_of("patchgan")] = PatchDiscriminator()
    r1: R1Penalty | None = Field(default=None, json_schema_extra={"since": "0.2"})
    lecam: LeCamPenalty | None = Field(default=None, json_schema_extra={"since": "0.2"})

    def check(self, resolution: int, place: str) -> None:
        """Raise ``ValueError`` when the discriminator, at ``place`` of the spec, cannot judge such images."""
        if (why := self.discriminator.refusal(resolution)) is not None:
            raise ValueError(place + why)


class DecoderGan(GanLoss):
    """The discriminator of a decoder's second training, with the settings of ViTok (arXiv 2501.09755).

    The paper contradicts itself about the weight: 1.0 in section 2.3, and .05 in appendix A.2 as the best that was
    tried, at the rate of 2e-5 that both name. The default is .05, the one that a comparison stands behind. Its
    "25k linear warmup" of 100,000 steps is taken for both the discriminator's rate, as its table has it, and the
    weight, as its code has it.
    """

    weight: NonNegative = 0.05
    lr: Positive | None = 2e-5
    warmup: Fraction = 0.25
    lr_warmup: Fraction | None = 0.25
    discriminator: Annotated[_UNION, kind_of("stylegan")] = StyleGanDiscriminator()

"""Config of random tail masking, by which one tokenizer serves bottlenecks of many lengths."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tokscale.fields import Config, Natural


class TailMasking(Config):
    """In training, each image keeps the first l of its latent tokens, and the rest are zeros (ViTok A.3, after
    ElasticTok); every length is as likely.

    ViTok does not say what a hidden token becomes, nor whether the bottleneck's losses are of it too: here it is the
    latent of zeros, the mean of the prior, which needs no parameters, and the losses are of all tokens.
    """

    lengths: Annotated[tuple[Natural, ...], Field(min_length=1)]
    """powers of two, rising up to the number of latent tokens"""
    evaluation_length: Natural | None = None
    """tokens that are measured, cached and modelled: one of ``lengths``; null: all. It is no part of the trained
    tokenizer, which all lengths share"""

    @model_validator(mode="after")
    def _rises(self) -> TailMasking:
        rising = all(first < second for first, second in zip(self.lengths, self.lengths[1:], strict=False))
        if not rising or any(length & (length - 1) for length in self.lengths):
            raise ValueError(f"tail_masking.lengths {list(self.lengths)} must be powers of two that rise")
        if self.evaluation_length is not None and self.evaluation_length not in self.lengths:
            raise ValueError(f"tail_masking.evaluation_length {self.evaluation_length} is none of the lengths "
                             f"{list(self.lengths)} of training")  # fmt: skip
        return self

    def check(self, tokens: int, frames: int) -> None:
        """Raise ``ValueError`` for a number of latent tokens that the lengths do not end at, and for clips."""
        if self.lengths[-1] != tokens:
            raise ValueError(f"tokenizer.tail_masking.lengths must end at the {tokens} latent tokens of an image, not "
                             f"at {self.lengths[-1]}")  # fmt: skip
        if frames > 1:
            raise ValueError(f"tokenizer.tail_masking is of images, and data.frames is {frames}")

"""Configs of training: an optimizer over a budget of images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tokscale.fields import Config, Count, CountOrZero, Fraction, Natural, NonNegative, Positive, parse_count
from tokscale.tokenizer_config import GptSize


class OptimizationConfig(Config):
    """AdamW over a budget of images seen; the learning rate warms up linearly and then follows a half cosine."""

    images: Count = 102_400_000
    batch_size: Count = 1024
    lr: Positive = 1e-4
    """peak learning rate at this batch size; it is not rescaled"""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    weight_decay: NonNegative = 1e-4
    warmup: Fraction = 0.03
    """share of the budget"""
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr: Fraction = 0.0
    """share of the peak at the end of the cosine"""
    gradient_clip: NonNegative = 1.0
    """norm; 0 never clips"""
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def steps(self) -> int:
        """Optimizer steps: the budget in batches, rounded up."""
        return -(-self.images // self.batch_size)


class AveragedTraining(OptimizationConfig):
    """Training whose weights may be averaged over its steps; what is averaged is then what is measured."""

    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, json_schema_extra={"since": "0.2"})
    """decay of an exponential moving average of the weights, by step"""


class DecoderTraining(AveragedTraining):
    """Training of a decoder alone, as ViTok's second stage (arXiv 2501.09755, 2.3): 100,000 steps."""

    images: Count = 25_600_000
    batch_size: Count = 256
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.9999


class IntermediateProbe(Config):
    """A small autoregressive probe on a fixed set of training images, trained anew on the weights of the moment."""

    size: GptSize = Field(default="nano", validate_default=True)
    images: Annotated[int, BeforeValidator(parse_count), Field(ge=16)] = 1024
    """training images that the probe learns from; a quarter as many more are held out for its loss"""
    epochs: Natural = 8


class TrainingConfig(AveragedTraining):
    """Training of a tokenizer. What only looks at it is no part of its id: the weights are the same, bit by bit."""

    probe_every: CountOrZero = Field(default=0, json_schema_extra={"watching": True})
    """images between two intermediate probes, whose loss a search may prune by; 0 never probes"""
    probe: IntermediateProbe = Field(default=IntermediateProbe(), json_schema_extra={"watching": True})

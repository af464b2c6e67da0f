"""Configs of training: an optimizer over a budget of images."""

from __future__ import annotations

from typing import Literal

from tokscale.fields import Config, Count, Fraction, NonNegative, Positive


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


class TrainingConfig(OptimizationConfig):
    """Training of a tokenizer."""

"""What training a tokenizer takes with all that stands beside it: a teacher, a discriminator, a perceptual network."""

from __future__ import annotations

from typing import Protocol

from tokscale.config import (
    ClassifierTeacher,
    DataConfig,
    GigaTokTokenizer,
    LossesConfig,
    OptimizationConfig,
    TokenizerConfig,
    TrainingConfig,
    VitTokenizer,
    used,
)
from tokscale.formulas import training_flops
from tokscale.gigatok_formulas import convolutional_decoder
from tokscale.loss_formulas import LossCosts, loss_costs
from tokscale.tally import Tally

ASSUMED_CLASSES = 1000
"""classes of a folder of photographs that nobody has opened yet: ImageNet's"""


class Trained(Protocol):
    """Whatever says how a tokenizer is trained: a trial, or the config of its stage."""

    @property
    def data(self) -> DataConfig: ...
    @property
    def tokenizer(self) -> TokenizerConfig: ...
    @property
    def losses(self) -> LossesConfig: ...
    @property
    def training(self) -> TrainingConfig: ...


def loss_sizes(trial: Trained) -> LossCosts:
    """What stands beside a tokenizer while it trains."""
    tokenizer, resolution = trial.tokenizer, trial.data.resolution
    cells = tokenizer.latent_tokens(resolution) if isinstance(tokenizer, VitTokenizer) else tokenizer.cells(resolution)
    classes = classes_of(trial) or ASSUMED_CLASSES
    costs = loss_costs(trial.losses, tokenizer.decoder.width, cells, resolution, classes)
    return costs._replace(kept=costs.kept + _shortcut(trial).kept)


def _shortcut(trial: Trained) -> Tally:
    """The decoder's convolutions, which a shortcut passes through a second time."""
    tokenizer = trial.tokenizer
    if used(trial.losses.shortcut) is None or not isinstance(tokenizer, GigaTokTokenizer):
        return Tally()
    return convolutional_decoder(tokenizer.convolution, trial.data.resolution)


def tokenizer_training_flops(trial: Trained) -> float:
    """FLOPs of a tokenizer's whole training, with what stands beside it.

    A discriminator joins, and a shortcut ends, between two steps.
    """
    images, losses = training_images(trial.training), loss_sizes(trial)
    gan, shortcut = used(trial.losses.gan), used(trial.losses.shortcut)
    batch = trial.training.batch_size
    judged = 0 if gan is None else max(0, images - -(-gan.start // batch) * batch)
    helped = 0 if shortcut is None else min(images, -(-shortcut.until // batch) * batch)
    each = training_flops(trial.tokenizer, trial.data.resolution) + losses.always
    return images * each + judged * losses.adversarial + helped * 3.0 * _shortcut(trial).flops


def classes_of(trial: Trained) -> int | None:
    """Classes of the data, where the config alone can tell."""
    return getattr(trial.data, "classes", None)


def training_images(training: OptimizationConfig) -> int:
    """Images that training sees: whole batches, the last one included."""
    return training.steps * training.batch_size


def teacher_training(teacher: ClassifierTeacher) -> TrainingConfig:
    """How a stand-in teacher is trained."""
    return TrainingConfig(
        images=teacher.images, batch_size=teacher.batch_size, lr=teacher.lr, precision=teacher.precision,
        weight_decay=0.05, warmup=0.05, betas=(0.9, 0.95),
    )  # fmt: skip

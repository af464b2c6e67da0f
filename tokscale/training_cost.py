"""What training a tokenizer takes with all that stands beside it: a teacher, a discriminator, a perceptual network."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tokscale.config import (
    AveragedTraining,
    ClassifierTeacher,
    DataConfig,
    DecoderFinetuneConfig,
    GigaTokTokenizer,
    LossesConfig,
    OptimizationConfig,
    TokenizerConfig,
    TrainingConfig,
    used,
)
from tokscale.formulas import tokenizer_flops, training_flops
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
    def training(self) -> AveragedTraining: ...


class Finetuning(NamedTuple):
    """How a tokenizer's decoder is trained on."""

    data: DataConfig
    tokenizer: TokenizerConfig
    losses: LossesConfig
    training: AveragedTraining


def finetuning(data: DataConfig, tokenizer: TokenizerConfig, config: DecoderFinetuneConfig) -> Finetuning:
    """The second training of a tokenizer on some data."""
    return Finetuning(data, tokenizer, config.losses.complete, config.training)


def loss_sizes(trial: Trained) -> LossCosts:
    """What stands beside a tokenizer while it trains."""
    tokenizer, (resolution, frames) = trial.tokenizer, trial.data.extent
    cells = tokenizer.cells(resolution, frames)
    classes = classes_of(trial) or ASSUMED_CLASSES
    costs = loss_costs(trial.losses, tokenizer.decoder.width, cells, resolution, classes, frames)
    return costs._replace(kept=costs.kept + _shortcut(trial))


def _shortcut(trial: Trained) -> Tally:
    """The decoder's convolutions, which a shortcut passes through a second time."""
    tokenizer = trial.tokenizer
    if used(trial.losses.shortcut) is None or not isinstance(tokenizer, GigaTokTokenizer):
        return Tally()
    return convolutional_decoder(tokenizer.convolution, trial.data.resolution)


def tokenizer_training_flops(trial: Trained) -> float:
    """FLOPs of a tokenizer's whole training, with what stands beside it; a shortcut ends between two steps."""
    images, shortcut = training_images(trial.training), used(trial.losses.shortcut)
    batch = trial.training.batch_size
    helped = 0 if shortcut is None else min(images, -(-shortcut.until // batch) * batch)
    each = training_flops(trial.tokenizer, *trial.data.extent)
    return images * each + _flops_beside(trial) + helped * 3.0 * _shortcut(trial).flops


def finetuning_flops(finetuning: Trained) -> float:
    """FLOPs of a decoder's whole training: the encoder's forward pass and three of the decoder, and what is beside."""
    flops = tokenizer_flops(finetuning.tokenizer, *finetuning.data.extent)
    images = training_images(finetuning.training)
    return images * (flops["encode"] + 3.0 * flops["decode"]) + _flops_beside(finetuning)


def _flops_beside(trial: Trained) -> float:
    """FLOPs of what stands beside; a discriminator joins between two steps, and is penalised in some of them."""
    images, gan, losses = training_images(trial.training), used(trial.losses.gan), loss_sizes(trial)
    batch = trial.training.batch_size
    steps = 0 if gan is None else max(0, trial.training.steps - -(-gan.start // batch))
    r1 = None if gan is None else used(gan.r1)
    penalised = 0 if r1 is None else -(-steps // r1.every)
    return images * losses.always + batch * (steps * losses.adversarial + penalised * losses.penalty)


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

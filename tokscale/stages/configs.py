"""What each kind of stage is configured by: sections of the trial, under the names that they have there."""

from __future__ import annotations

from tokscale.config import (
    ClassifierTeacher,
    Config,
    DataConfig,
    DecoderFinetuneConfig,
    EvaluationConfig,
    GenerationConfig,
    IntermediateProbe,
    LatentsConfig,
    LinearProbeConfig,
    LossesConfig,
    ProbeConfig,
    TokenizerConfig,
    TrainingConfig,
)
from tokscale.tail_config import TailMasking


class TeacherStage(Config):
    """Train a classifier that stands in for a pretrained teacher."""

    data: DataConfig
    teacher: ClassifierTeacher


class TokenizerStage(Config):
    """Train a tokenizer."""

    data: DataConfig
    tokenizer: TokenizerConfig
    losses: LossesConfig
    training: TrainingConfig
    seed: int


class Watching(Config):
    """What a tokenizer's training is to tell of itself."""

    probe_every: int = 0
    probe: IntermediateProbe = IntermediateProbe()


class DecoderFinetuneStage(Config):
    """Train a finished tokenizer's decoder on."""

    data: DataConfig
    decoder_finetune: DecoderFinetuneConfig
    seed: int


class ReconstructionStage(Config):
    """Measure a tokenizer's reconstructions of the validation set."""

    data: DataConfig
    evaluation: EvaluationConfig
    tail_masking: TailMasking | None = None


class LatentsStage(Config):
    """Encode the data once."""

    data: DataConfig
    latents: LatentsConfig
    tail_masking: TailMasking | None = None


class ProbeStage(Config):
    """Train a probe on cached latents and measure its rate."""

    probe: ProbeConfig
    seed: int


class GenerationStage(Config):
    """Sample a probe, decode, and measure the images."""

    data: DataConfig
    generation: GenerationConfig
    evaluation: EvaluationConfig
    seed: int
    tail_masking: TailMasking | None = None


class LinearProbeStage(Config):
    """Train linear classifiers on features of the probe and of the tokenizer's encoder, and measure them."""

    data: DataConfig
    linear_probe: LinearProbeConfig
    seed: int
    tail_masking: TailMasking | None = None

"""The tree of a trial's configuration: frozen, strict, complete.

Anything that a spec does not say takes the default documented here. Sizes may be given by a preset's name; what is
stored, hashed and recorded is always the numbers. Runtime matters (devices, folders, checkpoint timers) are no part of
this tree: they do not change what a trial is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from tokscale.fields import (
    MIN_MEASURED,
    Config,
    Count,
    Fraction,
    Measured,
    Natural,
    NonNegative,
    Positive,
    Seed,
    kind_of,
    parse_count,
)
from tokscale.losses_config import (
    ClassifierTeacher,
    GanLoss,
    LossesConfig,
    LpipsLoss,
    PatchDiscriminator,
    PerceptualLoss,
    RandomVggLoss,
    SemanticLoss,
    stand_in_teacher,
    used,
)
from tokscale.tokenizer_config import (
    BottleneckConfig,
    ConvolutionSize,
    FSQBottleneck,
    GigaTokTokenizer,
    GptSize,
    KLBottleneck,
    LFQBottleneck,
    TokenizerConfig,
    TransformerSize,
    VitSize,
    VitTokenizer,
    VQBottleneck,
)

__all__ = [
    "MIN_MEASURED",
    "AutoregressiveProbe",
    "BottleneckConfig",
    "ClassifierTeacher",
    "Config",
    "ConvolutionSize",
    "Count",
    "DataConfig",
    "EvaluationConfig",
    "FSQBottleneck",
    "Fraction",
    "GanLoss",
    "GenerationConfig",
    "GigaTokTokenizer",
    "GptSize",
    "ImageFolderData",
    "KLBottleneck",
    "LFQBottleneck",
    "LatentsConfig",
    "LossesConfig",
    "LpipsLoss",
    "Measured",
    "NonNegative",
    "PatchDiscriminator",
    "PerceptualLoss",
    "Positive",
    "ProbeConfig",
    "ProbeTrainingConfig",
    "ProceduralData",
    "RandomVggLoss",
    "Seed",
    "SemanticLoss",
    "ShardsData",
    "TokenizerConfig",
    "TrainingConfig",
    "TransformerSize",
    "TrialConfig",
    "TrialSections",
    "VQBottleneck",
    "VitSize",
    "VitTokenizer",
    "parse_count",
    "stand_in_teacher",
    "used",
]


# --- data ---


class ProceduralData(Config):
    """Dead-leaves images, endless and class-conditional, made as they are needed; a pure function of seed and index."""

    kind: Literal["procedural"] = "procedural"
    resolution: Annotated[int, Field(ge=16, le=4096)] = 32
    classes: Annotated[int, Field(ge=1, le=10)] = 10
    seed: Seed = 0
    validation_images: Measured = Field(default=1024, json_schema_extra={"validation_only": True})


class ImageFolderData(Config):
    """Photographs in class folders, with train/ and val/ below the root or a split by hash of the file's path."""

    kind: Literal["image_folder"]
    root: str
    resolution: Annotated[int, Field(ge=16, le=4096)] = 256
    validation_root: str | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    validation_images: Measured | None = Field(default=None, json_schema_extra={"validation_only": True})
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    seed: Seed = 0


class ShardsData(Config):
    """Photographs in WebDataset tar shards: ``pattern`` is a glob, braces such as {000..127} are expanded."""

    kind: Literal["shards"]
    pattern: str
    validation_pattern: str
    resolution: Annotated[int, Field(ge=16, le=4096)] = 256
    validation_images: Measured | None = Field(default=None, json_schema_extra={"validation_only": True})
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    seed: Seed = 0


DataConfig = Annotated[
    Annotated[ProceduralData, Tag("procedural")]
    | Annotated[ImageFolderData, Tag("image_folder")]
    | Annotated[ShardsData, Tag("shards")],
    kind_of("procedural"),
]


# --- training and measuring ---


class TrainingConfig(Config):
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


class LatentsConfig(Config):
    """How many training images are encoded for the probe, and how their latents are stored."""

    images: Count = 1_281_167
    dtype: Literal["float32", "float16"] = "float32"


class ProbeTrainingConfig(TrainingConfig):
    """As for the tokenizer, with GigaTok's defaults for AR probing: 50 epochs of ImageNet at a constant rate."""

    images: Count = 64_000_000
    batch_size: Count = 256
    weight_decay: NonNegative = 0.05
    warmup: Fraction = 0.0
    schedule: Literal["cosine", "constant"] = "constant"


class AutoregressiveProbe(Config):
    """A small GPT on cached latents, in LlamaGen's manner: cross-entropy for codes, a density for continuous ones."""

    kind: Literal["autoregressive"] = "autoregressive"
    size: GptSize = Field(default="B", validate_default=True)
    class_dropout: Fraction = 0.1
    """share of images that train the unconditional model, for classifier-free guidance"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixtures: Natural = 8
    """Gaussian components of the density of one token; only for continuous latents"""
    training: ProbeTrainingConfig = ProbeTrainingConfig()


ProbeConfig = Annotated[Annotated[AutoregressiveProbe, Tag("autoregressive")], kind_of("autoregressive")]


class EvaluationConfig(Config):
    """How reconstructions and samples are measured."""

    features: Literal["random-conv"] = "random-conv"
    pictures: Annotated[int, Field(ge=1, le=64)] = 8


class GenerationConfig(Config):
    """How the probe is sampled for measuring generation; class labels are those of the validation set, in order."""

    images: Measured = 1024
    cfg_scale: Annotated[float, Field(ge=1)] = 1.0
    temperature: Positive = 1.0
    batch_size: Count = 64


class TrialSections(Config):
    """The sections of a trial, each valid by itself."""

    data: DataConfig = ProceduralData()
    tokenizer: TokenizerConfig = VitTokenizer()
    losses: LossesConfig = LossesConfig()
    training: TrainingConfig = TrainingConfig()
    latents: LatentsConfig = LatentsConfig()
    probe: ProbeConfig | None = AutoregressiveProbe()
    evaluation: EvaluationConfig = EvaluationConfig()
    generation: GenerationConfig | None = GenerationConfig()
    seed: Seed = 0


class TrialConfig(TrialSections):
    """One tokenizer configuration with one seed, judged completely: one row of the results table."""

    @model_validator(mode="after")
    def _checked(self) -> TrialConfig:
        self.check()
        return self

    def check(self) -> None:
        """Hold sections against one another; an impossible pair raises ``ValueError`` with both values."""
        self.tokenizer.check(self.data.resolution)
        self.losses.check(self.data.resolution, self.tokenizer.decoder.depth, getattr(self.data, "classes", None))

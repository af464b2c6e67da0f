"""The tree of a trial's configuration: frozen, strict, complete.

Anything that a spec does not say takes the default documented here. Sizes may be given by a preset's name; what is
stored, hashed and recorded is always the numbers. Runtime matters (devices, folders, checkpoint timers) are no part of
this tree: they do not change what a trial is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from tokscale import presets
from tokscale.errors import one_of

_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


class Config(BaseModel):
    """Base of every config: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def parse_count(value: object) -> object:
    """A count with an optional k, M or G (powers of 1000): ``102.4M`` is 102,400,000; it must come out whole."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)([kKMG]?)", value.strip().replace("_", ""))
        if match is None:
            raise ValueError("a count is a whole number, which may carry k, M or G")
        value = float(match[1]) * _SUFFIXES[match[2]]
    if isinstance(value, bool):
        raise ValueError("a count is a whole number, not true or false")
    if isinstance(value, float):
        if not math.isfinite(value) or not math.isclose(value, round(value), rel_tol=1e-12):
            raise ValueError("a count must be a whole number")
        return round(value)
    return value


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a whole number is needed, not true or false")
    return value


MIN_MEASURED = 4
"""images below which there is no covariance worth the name, nor a third neighbour for precision and recall"""

Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0, lt=2**53)]
Seed = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, lt=2**63)]
Measured = Annotated[int, BeforeValidator(parse_count), Field(ge=MIN_MEASURED)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


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


# --- tokenizer ---


class TransformerSize(Config):
    """Width, depth (blocks) and heads of a transformer."""

    width: Annotated[int, Field(gt=0)]
    depth: Annotated[int, Field(gt=0)]
    heads: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _divides(self) -> TransformerSize:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        if (self.width // self.heads) % 4:
            raise ValueError(
                f"a head of {self.width // self.heads} channels (width {self.width} / {self.heads} heads) cannot carry "
                "2D rotary positions: it must be a multiple of 4"
            )
        return self


def _named(family: str) -> BeforeValidator:
    def resolve(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in presets.FAMILIES[family]:
            raise ValueError(f"no {family} size {value!r}; {one_of(presets.FAMILIES[family], value)}")
        return presets.lookup(family, value)

    return BeforeValidator(resolve)


VitSize = Annotated[TransformerSize, _named("vit")]
GptSize = Annotated[TransformerSize, _named("gpt")]


class KLBottleneck(Config):
    """A diagonal Gaussian per token (Kingma & Welling 2014), as in ViTok; E = L x channels."""

    kind: Literal["kl"] = "kl"
    channels: Annotated[int, Field(gt=0)] = 16
    weight: NonNegative = 1e-3
    """of the KL divergence, averaged over the latent's dimensions, against the mean pixel loss"""


class VQBottleneck(Config):
    """Nearest of K learned, l2-normalised codes (van den Oord et al. 2017; Yu et al. 2022), as in GigaTok."""

    kind: Literal["vq"]
    codebook_size: Annotated[int, Field(ge=2)] = 16384
    code_dim: Annotated[int, Field(gt=0)] = 8
    commitment: NonNegative = 0.25
    codebook_weight: NonNegative = 1.0
    revive_after: Annotated[int, Field(ge=0)] = 100
    """steps without use after which a code is set to a latent of the batch; 0 never does"""


class FSQBottleneck(Config):
    """Finite scalar quantisation (Mentzer et al. 2023): channel i is rounded to one of levels[i] values."""

    kind: Literal["fsq"]
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 8, 8, 6, 5)


def _kind(default: str) -> Discriminator:
    def kind(value: object) -> object:
        return value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", None)

    return Discriminator(kind)


BottleneckConfig = Annotated[
    Annotated[KLBottleneck, Tag("kl")] | Annotated[VQBottleneck, Tag("vq")] | Annotated[FSQBottleneck, Tag("fsq")],
    _kind("kl"),
]
DataConfig = Annotated[
    Annotated[ProceduralData, Tag("procedural")]
    | Annotated[ImageFolderData, Tag("image_folder")]
    | Annotated[ShardsData, Tag("shards")],
    _kind("procedural"),
]


class VitTokenizer(Config):
    """ViTok: patches -> ViT encoder -> bottleneck -> ViT decoder -> pixels; the two sizes are independent."""

    kind: Literal["vit"] = "vit"
    encoder: VitSize = Field(default="S", validate_default=True)
    decoder: VitSize = Field(default="B", validate_default=True)
    patch: Annotated[int, Field(gt=0)] = 16
    bottleneck: BottleneckConfig = KLBottleneck()


TokenizerConfig = Annotated[Annotated[VitTokenizer, Tag("vit")], _kind("vit")]


# --- training and measuring ---


class LossesConfig(Config):
    """What the tokenizer's reconstruction is held to; the bottleneck's own losses stand with the bottleneck."""

    reconstruction: Literal["mse", "l1", "charbonnier"] = "mse"


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
    mixtures: Annotated[int, Field(gt=0)] = 8
    """Gaussian components of the density of one token; only for continuous latents"""
    training: ProbeTrainingConfig = ProbeTrainingConfig()


ProbeConfig = Annotated[Annotated[AutoregressiveProbe, Tag("autoregressive")], _kind("autoregressive")]


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
        if self.data.resolution % self.tokenizer.patch:
            raise ValueError(
                f"tokenizer.patch {self.tokenizer.patch} does not divide data.resolution {self.data.resolution}"
            )

"""The tree of a trial's configuration: frozen, strict, complete.

Anything that a spec does not say takes the default documented here. Sizes may be given by a preset's name; what is
stored, hashed and recorded is always the numbers. Runtime matters (devices, folders, checkpoint timers) are no part of
this tree: they do not change what a trial is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from tokscale.data_config import (
    DataConfig,
    ImageFolderData,
    ProceduralData,
    ProceduralVideoData,
    ShardsData,
    VideoFolderData,
)
from tokscale.feature_names import DISTANCES, Features, read_features
from tokscale.fields import (
    MIN_EXTRAPOLATED,
    MIN_MEASURED,
    TRAIN,
    Config,
    Count,
    Fraction,
    Measured,
    NonNegative,
    Positive,
    ReferenceSet,
    Seed,
    parse_count,
)
from tokscale.finetune_config import DecoderFinetuneConfig
from tokscale.gan_config import (
    AnyDiscriminator,
    DecoderGan,
    GanLoss,
    LeCamPenalty,
    PatchDiscriminator,
    R1Penalty,
    StyleGanDiscriminator,
)
from tokscale.losses_config import (
    ClassifierTeacher,
    HubTeacher,
    LossesConfig,
    LpipsLoss,
    PerceptualLoss,
    RandomVggLoss,
    SemanticLoss,
    ShortcutLoss,
    stand_in_teacher,
    used,
)
from tokscale.probe_config import (
    AutoregressiveProbe,
    CfgSearch,
    DiffusionProbe,
    GenerationConfig,
    LatentsConfig,
    LinearProbeConfig,
    ProbeConfig,
    ProbeTrainingConfig,
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
    check_three_axes,
)
from tokscale.training_config import (
    AveragedTraining,
    DecoderTraining,
    IntermediateProbe,
    OptimizationConfig,
    TrainingConfig,
)

__all__ = [
    "MIN_MEASURED",
    "AnyDiscriminator",
    "AutoregressiveProbe",
    "AveragedTraining",
    "BottleneckConfig",
    "CfgSearch",
    "ClassifierTeacher",
    "Config",
    "ConvolutionSize",
    "Count",
    "DataConfig",
    "DecoderFinetuneConfig",
    "DecoderGan",
    "DecoderTraining",
    "DiffusionProbe",
    "EvaluationConfig",
    "FSQBottleneck",
    "Fraction",
    "GanLoss",
    "GenerationConfig",
    "GigaTokTokenizer",
    "GptSize",
    "HubTeacher",
    "ImageFolderData",
    "IntermediateProbe",
    "KLBottleneck",
    "LFQBottleneck",
    "LatentsConfig",
    "LeCamPenalty",
    "LinearProbeConfig",
    "LossesConfig",
    "LpipsLoss",
    "Measured",
    "NonNegative",
    "OptimizationConfig",
    "PatchDiscriminator",
    "PerceptualLoss",
    "Positive",
    "ProbeConfig",
    "ProbeTrainingConfig",
    "ProceduralData",
    "ProceduralVideoData",
    "R1Penalty",
    "RandomVggLoss",
    "Seed",
    "SemanticLoss",
    "ShardsData",
    "ShortcutLoss",
    "StyleGanDiscriminator",
    "TokenizerConfig",
    "TrainingConfig",
    "TransformerSize",
    "TrialConfig",
    "TrialSections",
    "VQBottleneck",
    "VideoFolderData",
    "VitSize",
    "VitTokenizer",
    "parse_count",
    "stand_in_teacher",
    "used",
]


# --- measuring ---

FeatureNames = Annotated[
    Features,
    BeforeValidator(read_features),
    WithJsonSchema({"anyOf": [{"enum": list(DISTANCES)}, {"type": "array", "items": {"enum": list(DISTANCES)}}]}),
]


class EvaluationConfig(Config):
    """How reconstructions and samples are measured."""

    features: FeatureNames = "random-conv"
    """network of Fréchet distances: random-conv, a stand-in (rfd, gfd); inception-tf2015, the network of published
    FIDs and Inception scores (rfid, ris, gfid, gis), or inception-torchvision, that of ViTok's; dinov2-b and its like
    (rfdd, gfdd). Their weights are files: `tokscale weights list`. Or a list of several, which measure in one pass;
    precision, recall and searches for a scale of guidance go by the first"""
    pictures: Annotated[int, Field(ge=1, le=64)] = 8
    clip_features: Literal["random-conv3d", "i3d"] = Field(default="random-conv3d", json_schema_extra={"since": "0.2"})
    """network of Fréchet distances of whole clips: random-conv3d, a stand-in (rfcd, gfcd); i3d, the network of
    published FVDs (rfvd, gfvd), whose weights are a file. Images have no clips"""
    reference: ReferenceSet = Field(default="validation", json_schema_extra={"since": "0.2"})
    """of reconstructions: validation, the originals; or the path of an .npz in ADM's format"""
    extrapolate: bool = Field(default=False, json_schema_extra={"since": "0.2"})
    """whether the Fréchet distance of samples is also extrapolated to infinitely many (gfid_inf, gfd_inf)"""


MIN_I3D_FRAMES = 10
"""of a clip: fewer leave I3D's last average over time nothing to take"""


# --- a trial ---


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
    linear_probe: LinearProbeConfig | None = Field(default=None, json_schema_extra={"since": "0.2"})
    decoder_finetune: DecoderFinetuneConfig | None = Field(default=None, json_schema_extra={"since": "0.2"})
    seed: Seed = 0


class TrialConfig(TrialSections):
    """One tokenizer configuration with one seed, judged completely: one row of the results table."""

    @model_validator(mode="after")
    def _checked(self) -> TrialConfig:
        self.check()
        return self

    def check(self) -> None:
        """Hold sections against one another; an impossible pair raises ``ValueError`` with both values."""
        self._check_clips()
        self.tokenizer.check(*self.data.extent)
        self.losses.check(self.data.resolution, self.tokenizer.decoder.depth, getattr(self.data, "classes", None))
        if used(self.losses.shortcut) is not None and not isinstance(self.tokenizer, GigaTokTokenizer):
            raise ValueError("losses.shortcut goes past the transformers of a gigatok tokenizer, and tokenizer.kind is "
                             f"{self.tokenizer.kind}")  # fmt: skip
        if self.decoder_finetune is not None:
            self.decoder_finetune.check(self.data.resolution)
        self._check_codes()
        self._check_probe()
        if self.latents.augment != "none" and not getattr(self.data, "flip", False):
            raise ValueError(f"latents.augment {self.latents.augment} mirrors images: it takes photographs with "
                             "data.flip (the classes of procedural images differ by orientation)")  # fmt: skip
        if self.linear_probe is not None and self.probe is None:
            raise ValueError("a linear_probe classifies features of the probe, and probe is null")
        few = self.generation is not None and self.generation.images < MIN_EXTRAPOLATED
        if self.evaluation.extrapolate and few:
            raise ValueError(f"evaluation.extrapolate needs generation.images of {MIN_EXTRAPOLATED} or more")
        endless = isinstance(self.data, ProceduralData | ProceduralVideoData)
        if endless and self.generation is not None and self.generation.reference == TRAIN:
            raise ValueError(f"generation.reference {TRAIN} is all training images, and data.kind {self.data.kind} has "
                             f"no end of them: name a number, {TRAIN}:50k")  # fmt: skip

    def _check_probe(self) -> None:
        """Raise ``ValueError`` for a probe that cannot model these latents, or not be sampled as asked for."""
        bottleneck = self.tokenizer.bottleneck
        if isinstance(self.probe, DiffusionProbe) and bottleneck.codes is not None:
            raise ValueError(
                f"probe.kind diffusion models continuous latents, and tokenizer.bottleneck {bottleneck.kind} has "
                "codes: take probe.kind autoregressive, or a kl bottleneck"
            )
        if self.probe is not None and self.generation is not None:
            self.generation.check(self.probe)

    def _check_clips(self) -> None:
        """Raise ``ValueError`` for what takes images alone, and is asked to take clips."""
        if not self.data.clips:
            return
        given = f"data.kind {self.data.kind} has clips"
        if not isinstance(self.tokenizer, VitTokenizer):
            raise ValueError(f"{given}, and a {self.tokenizer.kind} tokenizer takes images: use tokenizer.kind vit")
        if used(self.losses.semantic) is not None:
            raise ValueError(f"{given}, and losses.semantic aligns features of images: its weight must be 0")
        if self.evaluation.clip_features == "i3d" and 1 < self.data.frames < MIN_I3D_FRAMES:
            raise ValueError(f"evaluation.clip_features i3d sees clips of {MIN_I3D_FRAMES} frames or more, or images, "
                             f"and data.frames is {self.data.frames}")  # fmt: skip
        probe, frames = self.probe, self.data.frames // self.tokenizer.tubelet
        if frames > 1 and probe is not None and probe.positions == "rotary":
            check_three_axes("probe.size", probe.size)

    def _check_codes(self) -> None:
        """Raise ``ValueError`` for more codes than training has latents."""
        codes, images = self.tokenizer.bottleneck.codes, self.training.images
        tokens = self.tokenizer.encoded_tokens(*self.data.extent)
        if codes is not None and codes > tokens * images:
            raise ValueError(
                f"tokenizer.bottleneck has {codes:,} codes, which {images:,} training.images of {tokens} tokens cannot "
                f"fill: at most {tokens * images:,}"
            )

"""Configs of what is done with a trained tokenizer's latents: encoding them, probes on them, and sampling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Tag, model_validator

from tokscale.fields import (
    Config,
    Count,
    Fraction,
    Measured,
    Natural,
    NonNegative,
    Positive,
    SampleReferenceSet,
    kind_of,
    parse_count,
)
from tokscale.tokenizer_config import DitSize, GptSize
from tokscale.training_config import OptimizationConfig

Augment = Literal["none", "flip", "ten-crop"]
VARIANTS: dict[Augment, int] = {"none": 1, "flip": 2, "ten-crop": 20}
"""of each training image; ten crops at each of two sizes"""


class LatentsConfig(Config):
    """How many training images are encoded for the probe, and how their latents are stored."""

    images: Count = 1_281_167
    dtype: Literal["float32", "float16"] = "float32"
    augment: Augment = Field(default="none", json_schema_extra={"since": "0.2"})
    """variants of each training image that are encoded, of which the probe draws one in every epoch: none, the image
    alone; flip, mirrored too; ten-crop, LlamaGen's at 1.1 and 1.05 times the resolution, 20 in all. Photographs only"""

    @property
    def variants(self) -> int:
        """Variants of each training image."""
        return VARIANTS[self.augment]


class ProbeTrainingConfig(OptimizationConfig):
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
    positions: Literal["rotary", "learned"] = Field(default="rotary", json_schema_extra={"since": "0.2"})
    """rotary: turned queries and keys, on both axes where tokens have rows and columns (LlamaGen); learned: an
    embedding added at each place of the sequence (GigaTok's probes of 1D tokens)"""
    class_dropout: Fraction = 0.1
    """share of images that train the unconditional model, for classifier-free guidance"""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixtures: Natural = 8
    """Gaussian components of the density of one token; only for continuous latents"""
    training: ProbeTrainingConfig = ProbeTrainingConfig()


class DiffusionTrainingConfig(OptimizationConfig):
    """As for the tokenizer, with the defaults of ViTok's diffusion models: 500,000 steps at batch 256."""

    images: Count = 128_000_000
    batch_size: Count = 256
    warmup: Fraction = 0.1
    final_lr: Fraction = 0.3


NOISE_LEVELS = 1000
"""steps of the forward process of the ddpm objective"""


class DiffusionProbe(Config):
    """A diffusion transformer (DiT) on cached continuous latents, as ViTok judges its tokenizers by."""

    kind: Literal["diffusion"]
    size: DitSize = Field(default="L", validate_default=True)
    objective: Literal["flow", "ddpm"] = "flow"
    """flow: straight paths from latents to noise, whose velocity is learned (rectified flow); ddpm: 1000 levels of a
    linear schedule, whose noise is learned (ViTok)"""
    times: Literal["uniform", "logit-normal"] = "uniform"
    """how the times of training are drawn; logit-normal, for flow only, has more of them in the middle"""
    positions: Literal["learned", "rotary"] = "learned"
    """learned: an embedding added at each place; rotary: turned queries and keys, on both axes of a grid"""
    class_dropout: Fraction = 0.1
    """share of images that train the unconditional model, for classifier-free guidance"""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """of the average over the weights of all steps, which alone is measured and sampled"""
    training: DiffusionTrainingConfig = DiffusionTrainingConfig()

    @model_validator(mode="after")
    def _timed(self) -> DiffusionProbe:
        if self.objective == "ddpm" and self.times != "uniform":
            raise ValueError(f"objective ddpm has its {NOISE_LEVELS} levels of noise drawn uniformly: times "
                             f"{self.times} is for objective flow")  # fmt: skip
        return self


ProbeConfig = Annotated[
    Annotated[AutoregressiveProbe, Tag("autoregressive")] | Annotated[DiffusionProbe, Tag("diffusion")],
    kind_of("autoregressive"),
]


class LinearProbeConfig(Config):
    """Linear classifiers on frozen features, pooled over positions: of the autoregressive probe's middle block, and of
    what the tokenizer's encoder hands to its bottleneck. Normalised without affine weights and trained with LARS, as
    MAE's (He et al. 2022)."""

    images: Measured = 1_281_167
    """training images whose features are taken, each once and without augmentation"""
    epochs: Natural = 90
    warmup_epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Annotated[int, BeforeValidator(parse_count), Field(ge=2)] = 1024
    """a smaller set is one batch; MAE takes 16384 of ImageNet"""
    lr: Positive = 0.1
    """peak learning rate for a batch of 256; the one used is in proportion to the batch. LARS moves weights by a
    thousandth of it in a step: sets much smaller than ImageNet want a larger one"""
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _ends(self) -> LinearProbeConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"a warm-up of {self.warmup_epochs} epochs leaves nothing of {self.epochs}")
        return self


class CfgSearch(Config):
    """The scale of guidance with the lowest Fréchet distance, by steps down from where it begins (GigaTok, app. B)."""

    step: Annotated[float, Field(ge=0.01)] = 0.25
    highest: Annotated[float, Field(ge=1, le=100)] = 5.0
    """scale beyond which none is tried"""
    images: Measured = 1024
    """samples for each scale that is tried"""


CfgScale = Annotated[float, Field(ge=1, le=100)]


class GenerationConfig(Config):
    """How the probe is sampled for measuring generation; class labels are those of the validation set, in order."""

    images: Measured = 1024
    cfg_scale: Annotated[float, Field(ge=1)] = 1.0
    """of classifier-free guidance; 1 is none. With ``cfg_search``, where the search begins"""
    cfg_start: Fraction = Field(default=0.0, json_schema_extra={"since": "0.2"})
    """share of an image's tokens that come first, without guidance; GigaTok's large models take .18, its probes 0"""
    cfg_search: CfgSearch | None = Field(default=None, json_schema_extra={"since": "0.2"})
    cfg_scales: Annotated[tuple[CfgScale, ...], Field(min_length=1)] | None = Field(
        default=None, json_schema_extra={"since": "0.2"}
    )
    """scales that are all measured, each on the same labels and noise; the columns without a scale in their name are
    those of the lowest Fréchet distance, which becomes ``cfg_scale``"""
    sampler_steps: Natural = Field(default=250, json_schema_extra={"since": "0.2"})
    """of a diffusion probe's sampler, from noise to latents"""
    solver: Literal["euler", "heun"] = Field(default="euler", json_schema_extra={"since": "0.2"})
    """of a flow's differential equation; heun looks twice in each step. A ddpm probe is sampled by DDIM"""
    temperature: Positive = 1.0
    batch_size: Count = 64
    reference: SampleReferenceSet = Field(default="validation", json_schema_extra={"since": "0.2"})
    """of samples: validation, the validation set; train, the training set, or train:50k, so many images of it; or the
    path of an .npz in ADM's format, such as VIRTUAL_imagenet256_labeled.npz, with statistics, images or both"""

    @model_validator(mode="after")
    def _reachable(self) -> GenerationConfig:
        if self.cfg_search is not None and self.cfg_scale > self.cfg_search.highest:
            raise ValueError(f"the search for cfg_scale begins at {self.cfg_scale:g}, beyond its highest of "
                             f"{self.cfg_search.highest:g}")  # fmt: skip
        if self.cfg_scales is not None:
            self._check_scales(self.cfg_scales)
        return self

    def _check_scales(self, scales: tuple[float, ...]) -> None:
        if len(set(scales)) < len(scales):
            raise ValueError(f"cfg_scales names a scale twice: {', '.join(f'{scale:g}' for scale in scales)}")
        if self.cfg_search is not None or self.cfg_scale != 1:
            other = "cfg_search" if self.cfg_search is not None else f"cfg_scale {self.cfg_scale:g}"
            raise ValueError(f"cfg_scales says all scales that are measured: {other} cannot stand beside it")

    def check(self, probe: ProbeConfig) -> None:
        """Raise ``ValueError`` for a way of sampling that this kind of probe has not."""
        if not isinstance(probe, DiffusionProbe):
            return
        for name, usual in (("temperature", 1.0), ("cfg_start", 0.0)):
            if getattr(self, name) != usual:
                raise ValueError(f"generation.{name} {getattr(self, name):g} is for autoregressive probes: a diffusion "
                                 f"probe has no tokens in turn, leave it at {usual:g}")  # fmt: skip
        if probe.objective == "ddpm" and self.sampler_steps > NOISE_LEVELS:
            raise ValueError(f"generation.sampler_steps {self.sampler_steps} are more than the {NOISE_LEVELS} levels "
                             "of noise of probe.objective ddpm")  # fmt: skip
        if probe.objective == "ddpm" and self.solver != "euler":
            raise ValueError(f"generation.solver {self.solver} is for probe.objective flow: ddpm is sampled by DDIM")

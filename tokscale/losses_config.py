"""Configs of a tokenizer's losses; those of its bottleneck stand with the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tokscale.fields import Config, Count, Natural, NonNegative, Positive, Seed, kind_of
from tokscale.gan_config import GanLoss
from tokscale.tokenizer_config import VitSize

# --- perceptual ---


class FeatureDistance(Config):
    """A distance in the features of a frozen network, by its kind."""

    kind: str
    weight: NonNegative = 1.0


class LpipsLoss(FeatureDistance):
    """LPIPS (Zhang et al. 2018): distance of a frozen VGG-16's features of reconstruction and image."""

    kind: Literal["lpips"] = "lpips"


class RandomVggLoss(FeatureDistance):
    """A stand-in for LPIPS where no weights are: the same distance in a small fixed random network."""

    kind: Literal["random-vgg"]


PerceptualLoss = Annotated[
    Annotated[LpipsLoss, Tag("lpips")] | Annotated[RandomVggLoss, Tag("random-vgg")], kind_of("lpips")
]


# --- semantic ---

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels in [0, 1]

Dinov2 = Literal["dinov2-s", "dinov2-b", "dinov2-l", "dinov2-g", "dinov2-s-reg", "dinov2-b-reg", "dinov2-l-reg",
                 "dinov2-g-reg"]  # fmt: skip


class ClassifierTeacher(Config):
    """A stand-in for DINOv2 where no weights are: a small ViT that learns the data's classes, in a stage of its own.

    AdamW with 5 % warm-up, a half cosine, weight decay 0.05.
    """

    kind: Literal["classifier"]
    size: VitSize = Field(default="micro", validate_default=True)
    patch: Natural = 4
    images: Count = 256_000
    batch_size: Count = 128
    lr: Positive = 1e-3
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Seed = 0
    """of the teacher alone: trials of all seeds share it"""


def _quoted(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("put the hash in quotes: YAML takes digits alone for a number")
    return value


class HubTeacher(Config):
    """Any vision encoder of a copy of a torch.hub repository, such as timm's SigLIP or CLIP (GigaTok, Table 6).

    Its weights are a file on the disk, held to their hash; nothing is fetched. Width and depth are those of the
    network, which a plan has not seen.
    """

    kind: Literal["hub"]
    repository: str
    """folder with a hubconf.py"""
    entry: str
    """function of hubconf.py that builds the network; it is called with ``pretrained=False``"""
    weights: str
    """file of the network's state: .safetensors, or what torch.save wrote"""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$"), BeforeValidator(_quoted)]
    """of that file, or its first digits: an id must know which weights these are"""
    width: Natural
    """channels of a patch's features"""
    depth: Natural
    patch: Natural = 14
    """pixels a side"""
    side: Natural = 224
    """pixels a side of the image as it is shown, whatever the data's resolution"""
    prefix: Annotated[int, Field(ge=0)] = 0
    """tokens before those of the patches"""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """of pixels in [0, 1], which is taken off"""
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD

    @model_validator(mode="after")
    def _divides(self) -> HubTeacher:
        if self.side % self.patch:
            raise ValueError(f"patches of {self.patch} do not divide an image of {self.side} pixels")
        return self


def _named_or_trained(value: object) -> object:
    if isinstance(value, str):
        return "dinov2"
    return value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)


Teacher = Annotated[
    Annotated[Dinov2, Tag("dinov2")]
    | Annotated[ClassifierTeacher, Tag("classifier")]
    | Annotated[HubTeacher, Tag("hub")],
    Discriminator(_named_or_trained),
]


class SemanticLoss(Config):
    """Cosine similarity of a frozen network's patch features and an MLP on the decoder's (GigaTok 4.2)."""

    weight: NonNegative = 0.5
    features: Teacher = "dinov2-b"
    layer: Natural = 3
    """block of the decoder's transformer whose output is aligned, counted from 1"""


# --- past the transformers ---


class ShortcutLoss(Config):
    """Early help for a gigatok tokenizer, past its transformers (GigaTok, appendix C).

    The convolutions also reconstruct straight from their own feature map, and the decoder's map is held to it. The
    authors give it to all but the largest tokenizer, and advise a warm-up and an entropy loss in its place by now.
    """

    weight: NonNegative = 1.0
    """of both terms: the pixel loss of the direct reconstruction, and the mean square between the maps"""
    until: Count = 1_920_000
    """images that the tokenizer has seen when it ends; 15,000 steps of 128"""


# --- all of them ---


class _Weighted(Protocol):
    @property
    def weight(self) -> float: ...


_Section = TypeVar("_Section", bound=_Weighted)


class LossesConfig(Config):
    """What the tokenizer's reconstruction is held to; a section that is absent, or has no weight, takes no part."""

    reconstruction: Literal["mse", "l1", "charbonnier"] = "mse"
    perceptual: PerceptualLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})
    gan: GanLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})
    semantic: SemanticLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})
    shortcut: ShortcutLoss | None = Field(default=None, json_schema_extra={"since": "0.2"})

    def check(self, resolution: int, decoder_depth: int, classes: int | None) -> None:
        """Raise ``ValueError`` when these losses cannot be taken of such images and such a decoder.

        ``classes`` of the data are None where only the data could tell.
        """
        semantic, gan = self.semantic, self.gan
        if semantic is not None and semantic.layer > decoder_depth:
            raise ValueError(
                f"losses.semantic.layer {semantic.layer} is beyond the {decoder_depth} blocks of tokenizer.decoder"
            )
        teacher = stand_in_teacher(self)
        if teacher is not None and resolution % teacher.patch:
            raise ValueError(
                f"losses.semantic.features.patch {teacher.patch} does not divide data.resolution {resolution}"
            )
        if teacher is not None and classes == 1:
            raise ValueError("losses.semantic.features: a classifier needs data of 2 or more classes, not 1")
        if gan is not None:
            gan.check(resolution, "losses.gan.discriminator")


def used(section: _Section | None) -> _Section | None:
    """The section of a loss that takes part; None where it is absent or weighs nothing."""
    return section if section is not None and section.weight > 0 else None


def stand_in_teacher(losses: LossesConfig) -> ClassifierTeacher | None:
    """The teacher that has to be trained first; None where there is none."""
    semantic = used(losses.semantic)
    return semantic.features if semantic is not None and isinstance(semantic.features, ClassifierTeacher) else None

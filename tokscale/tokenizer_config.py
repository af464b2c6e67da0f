"""Configs of tokenizers: sizes of transformers, bottlenecks, and the kinds of tokenizer that hold them."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, model_validator

from tokscale import presets
from tokscale.errors import one_of
from tokscale.fields import Config, Natural, NonNegative, Positive, kind_of
from tokscale.tail_config import TailMasking

# --- sizes ---


class TransformerSize(Config):
    """Width, depth (blocks) and heads of a transformer."""

    width: Natural
    depth: Natural
    heads: Natural

    @model_validator(mode="after")
    def _divides(self) -> TransformerSize:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        return self


def _turnable(size: TransformerSize) -> TransformerSize:
    if (size.width // size.heads) % 4:
        raise ValueError(
            f"a head of {size.width // size.heads} channels (width {size.width} / {size.heads} heads) cannot carry "
            "2D rotary positions: it must be a multiple of 4"
        )
    return size


def _named(family: str) -> BeforeValidator:
    def resolve(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value not in presets.FAMILIES[family]:
            raise ValueError(f"no {family} size {value!r}; {one_of(presets.FAMILIES[family], value)}")
        return presets.lookup(family, value)

    return BeforeValidator(resolve)


def check_three_axes(part: str, size: TransformerSize) -> None:
    """Raise ``ValueError`` for heads too narrow for rotary positions in time, rows and columns."""
    if size.width // size.heads < 8:
        raise ValueError(f"{part}: a head of {size.width // size.heads} channels cannot carry 3D rotary positions: "
                         "it must have 8 or more")  # fmt: skip


VitSize = Annotated[TransformerSize, AfterValidator(_turnable), _named("vit")]
GptSize = Annotated[TransformerSize, AfterValidator(_turnable), _named("gpt")]
DitSize = Annotated[TransformerSize, AfterValidator(_turnable), _named("dit")]
GigaTokSize = Annotated[TransformerSize, _named("gigatok")]


# --- bottlenecks ---


class KLBottleneck(Config):
    """A diagonal Gaussian per token (Kingma & Welling 2014), as in ViTok; E = L x channels."""

    kind: Literal["kl"] = "kl"
    channels: Natural = 16
    weight: NonNegative = 1e-3
    """of the KL divergence, averaged over the latent's dimensions, against the mean pixel loss"""

    @property
    def codes(self) -> None:
        """A continuous latent has none."""


class VQBottleneck(Config):
    """Nearest of K learned, l2-normalised codes (van den Oord et al. 2017; Yu et al. 2022), as in GigaTok."""

    kind: Literal["vq"]
    codebook_size: Annotated[int, Field(ge=2)] = 16384
    code_dim: Natural = 8
    commitment: NonNegative = 0.25
    codebook_weight: NonNegative = 1.0
    revive_after: Annotated[int, Field(ge=0)] = 100
    """steps without use after which a code is set to a latent of the batch; 0 never does"""
    entropy_weight: NonNegative = Field(default=0.0, json_schema_extra={"since": "0.2"})
    """of the entropy loss E[H(code given latent)] - H(code), which keeps all codes in use (Yu et al. 2024); of the
    latents that pass at once, on all devices"""
    entropy_temperature: Positive = Field(default=0.01, json_schema_extra={"since": "0.2"})
    """of the softmax over codes that the entropies are taken of"""

    @property
    def codes(self) -> int:
        """Values that a latent may have."""
        return self.codebook_size


class FSQBottleneck(Config):
    """Finite scalar quantisation (Mentzer et al. 2023): channel i is rounded to one of levels[i] values."""

    kind: Literal["fsq"]
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 8, 8, 6, 5)

    @property
    def codes(self) -> int:
        """Values that a latent may have."""
        return math.prod(self.levels)


class LFQBottleneck(Config):
    """Look-up-free quantisation (Yu et al. 2024, MAGVIT-v2): each of some channels becomes its sign; 2^bits codes."""

    kind: Literal["lfq"]
    bits: Annotated[int, Field(ge=1, le=24)] = 14
    """channels of a latent; more than 24 would make codes that no histogram and no probe could count"""
    commitment: NonNegative = 0.25
    entropy_weight: NonNegative = 0.1
    """of the entropy loss E[H(code given latent)] - H(code), without which few codes are used"""
    entropy_temperature: Positive = 0.01
    """of the softmax over codes that the entropies are taken of"""
    entropy_bits: Natural = 18
    """bits whose joint entropy H(code) is exact; of more bits, the entropies of so many at a time are added"""

    @property
    def codes(self) -> int:
        """Values that a latent may have."""
        return 1 << self.bits


BottleneckConfig = Annotated[
    Annotated[KLBottleneck, Tag("kl")]
    | Annotated[VQBottleneck, Tag("vq")]
    | Annotated[FSQBottleneck, Tag("fsq")]
    | Annotated[LFQBottleneck, Tag("lfq")],
    kind_of("kl"),
]


# --- tokenizers ---

Positions = Literal["rotary", "rotary_1d", "sincos", "learned", "none"]


class VitTokenizer(Config):
    """ViTok: patches -> ViT encoder -> bottleneck -> ViT decoder -> pixels; the two sizes are independent."""

    kind: Literal["vit"] = "vit"
    encoder: VitSize = Field(default="S", validate_default=True)
    decoder: VitSize = Field(default="B", validate_default=True)
    patch: Natural = 16
    bottleneck: BottleneckConfig = KLBottleneck()
    tubelet: Natural = Field(default=1, json_schema_extra={"since": "0.2"})
    """frames of a token: of clips, it covers tubelet x patch x patch pixels"""
    positions: Positions = Field(default="rotary", json_schema_extra={"since": "0.2"})
    """rotary: turned queries and keys, on each axis of the tokens' grid; rotary_1d: by the place in raster order, as in
    ViTok's code; sincos: fixed sines and cosines of each axis, added; learned: an embedding of each place, added, at
    one size of images; none"""
    latent_tokens: Natural | None = Field(default=None, json_schema_extra={"since": "0.2"})
    """a sequence of so many learned tokens beside those of the patches, which alone pass the bottleneck (Latent ViTok,
    A.3); null: the patches' own tokens do"""
    tail_masking: TailMasking | None = Field(default=None, json_schema_extra={"since": "0.2"})

    @model_validator(mode="after")
    def _has_places(self) -> VitTokenizer:
        if self.latent_tokens is not None and self.positions == "none":
            raise ValueError("with latent_tokens the decoder tells patches apart by their positions alone, which "
                             "positions: none leaves out")  # fmt: skip
        return self

    @property
    def tubelet_values(self) -> int:
        """Colour values of a tubelet."""
        return 3 * self.tubelet * self.patch**2

    def tokens_of(self, resolution: int, frames: int = 1) -> int:
        """Latent tokens L of a square image of this many pixels a side, or of a clip, as they are measured: all that
        are encoded, or the first of them where tail masking has a length."""
        kept = None if self.tail_masking is None else self.tail_masking.evaluation_length
        return kept or self.encoded_tokens(resolution, frames)

    def encoded_tokens(self, resolution: int, frames: int = 1) -> int:
        """Tokens that the encoder makes: one for each cell, unless ``latent_tokens`` says how many."""
        return self.latent_tokens or self.cells(resolution, frames)

    @property
    def trained(self) -> VitTokenizer:
        """What training depends on: the same at every length that is measured."""
        if self.tail_masking is None or self.tail_masking.evaluation_length is None:
            return self
        return self.model_copy(update={"tail_masking": TailMasking(lengths=self.tail_masking.lengths)})

    def cells(self, resolution: int, frames: int = 1) -> int:
        """Tubelets (T/q)(H/p)(W/p) of a square image of this many pixels a side, or of a clip (ViTok 2.2)."""
        return (frames // self.tubelet) * (resolution // self.patch) ** 2

    def check(self, resolution: int, frames: int = 1) -> None:
        """Raise ``ValueError`` when images of this resolution, or clips of so many frames, cannot be tokenized."""
        if resolution % self.patch:
            raise ValueError(f"tokenizer.patch {self.patch} does not divide data.resolution {resolution}")
        if frames % self.tubelet:
            raise ValueError(f"tokenizer.tubelet {self.tubelet} does not divide data.frames {frames} (an image has 1)")
        if frames > 1 and self.latent_tokens is not None:
            raise ValueError(f"tokenizer.latent_tokens {self.latent_tokens} are of images, and data.frames is "
                             f"{frames}: clips take latent_tokens: null")  # fmt: skip
        if self.tail_masking is not None:
            self.tail_masking.check(self.encoded_tokens(resolution, frames), frames)
        if frames > self.tubelet and self.positions == "rotary":
            for part, size in (("tokenizer.encoder", self.encoder), ("tokenizer.decoder", self.decoder)):
                check_three_axes(part, size)


class ConvolutionSize(Config):
    """The convolutional encoder and decoder around GigaTok's transformers; the default is the one size of the paper."""

    channels: Annotated[int, Field(gt=0, multiple_of=4)] = 128
    """of the full resolution"""
    multipliers: Annotated[tuple[Natural, ...], Field(min_length=1)] = (1, 1, 2, 2, 4)
    """channels of each level over ``channels``, the full resolution first; each further level halves the image"""
    encoder_blocks: Natural = 2
    """residual blocks of a level"""
    decoder_blocks: Natural = 3
    """residual blocks of a level"""
    map_channels: Natural = 256
    """of the feature map between convolutions and transformers"""

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels of each level, the full resolution first."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def downsampling(self) -> int:
        """Pixels a side of one cell of the feature map."""
        return int(2 ** (len(self.multipliers) - 1))


class GigaTokTokenizer(Config):
    """GigaTok: convolutions -> transformer -> bottleneck -> transformer -> convolutions.

    Encoder and decoder are the sizes of the two transformers; the convolutions have a size of their own, which GigaTok
    keeps fixed.
    """

    kind: Literal["gigatok"]
    encoder: GigaTokSize = Field(default="S", validate_default=True)
    decoder: GigaTokSize = Field(default="B", validate_default=True)
    layout: Literal["1d", "2d"] = "1d"
    """1d: Q-Formers between the feature map and a sequence of tokens; 2d: ViTs, one token for each cell of the map"""
    tokens: Natural = 256
    """latent tokens of an image"""
    bottleneck: BottleneckConfig = VQBottleneck(kind="vq")
    convolution: ConvolutionSize = Field(default=ConvolutionSize(), json_schema_extra={"since": "0.2"})

    def tokens_of(self, resolution: int, frames: int = 1) -> int:
        """Latent tokens of an image, the same at any resolution."""
        return self.tokens

    encoded_tokens = tokens_of

    @property
    def trained(self) -> GigaTokTokenizer:
        """What training depends on: all of it."""
        return self

    def cells(self, resolution: int, frames: int = 1) -> int:
        """Cells of the feature map of a square image of this many pixels a side."""
        return (resolution // self.convolution.downsampling) ** 2

    def check(self, resolution: int, frames: int = 1) -> None:
        """Raise ``ValueError`` when images of this resolution cannot be tokenized; of clips, trials know."""
        downsampling = self.convolution.downsampling
        if resolution % downsampling:
            raise ValueError(
                f"a gigatok tokenizer with {len(self.convolution.multipliers)} levels of convolutions needs a "
                f"data.resolution that {downsampling} divides, not {resolution}"
            )
        cells, power_of_two = self.cells(resolution), not self.tokens & (self.tokens - 1)
        given = f"tokenizer.tokens {self.tokens} is impossible at data.resolution {resolution}"
        if self.layout == "2d" and self.tokens != cells:
            raise ValueError(f"{given}: layout 2d has one token for each of {cells} cells")
        # Queries start as averages over 1, 1, 2, 4, ... regions of the map, the last time over half as many regions as
        # there are tokens (GigaTok, appendix C).
        if self.layout == "1d" and not (power_of_two and self.tokens <= 2 * cells):
            raise ValueError(f"{given}: layout 1d takes a power of two, up to {2 * cells}")


TokenizerConfig = Annotated[
    Annotated[VitTokenizer, Tag("vit")] | Annotated[GigaTokTokenizer, Tag("gigatok")], kind_of("vit")
]

"""A tokenizer: encoder, bottleneck, decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from tokscale.bottlenecks import Bottleneck, BottleneckResult, build_bottleneck
from tokscale.config import GigaTokTokenizer, TokenizerConfig, VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.gigatok import GigaTokDecoder, GigaTokEncoder
from tokscale.models.layers import BlockStack
from tokscale.models.vit import VitDecoder, VitEncoder

Grid = tuple[int, int]


@dataclass(frozen=True)
class PatchGrid:
    """One token for each patch, at any resolution that the patch divides; ``grid`` at the one built for."""

    grid: Grid
    patch: int

    def of_image(self, height: int, width: int) -> Grid:
        """Rows and columns of an image's tokens."""
        return _patches(height, width, self.patch)

    def of_tokens(self, tokens: int) -> Grid:
        """The grid built for, or the square one that holds as many tokens."""
        if tokens == math.prod(self.grid):
            return self.grid
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise ConfigError(
                "these latent tokens fill no square: decode needs their grid", given=f"{tokens} tokens",
                allowed=f"{math.prod(self.grid)} tokens, a square number of them, or grid=(rows, columns)",
            )  # fmt: skip
        return side, side


@dataclass(frozen=True)
class FixedGrid:
    """So many tokens at one resolution and no other, since positions are learned."""

    grid: Grid
    resolution: int

    def of_image(self, height: int, width: int) -> Grid:
        """The one grid, for an image of the one resolution."""
        if (height, width) != (self.resolution, self.resolution):
            raise ConfigError(
                "a tokenizer with learned positions takes one resolution", given=f"{height} x {width} pixels",
                allowed=f"{self.resolution} x {self.resolution}, for which it was built",
            )  # fmt: skip
        return self.grid

    def of_tokens(self, tokens: int) -> Grid:
        """The one grid, for as many tokens as it holds."""
        if tokens != math.prod(self.grid):
            raise ConfigError("a tokenizer with learned positions takes one number of latent tokens",
                              given=f"{tokens} tokens", allowed=str(math.prod(self.grid)))  # fmt: skip
        return self.grid


class Tokenizer(nn.Module):
    """Images to latents and back.

    ``encoder`` maps images (b, 3, h, w) to features (b, n, channels); ``decoder`` maps latents (b, n, d), their grid
    and the number of a block to images and that block's output.
    """

    def __init__(
        self, encoder: nn.Module, bottleneck: Bottleneck, decoder: nn.Module, layout: PatchGrid | FixedGrid
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.layout = layout

    @property
    def grid(self) -> Grid:
        """Rows and columns of latent tokens at the resolution built for; a sequence has one row."""
        return self.layout.grid

    @property
    def num_latent_tokens(self) -> int:
        """Latent tokens of an image at the resolution built for."""
        return math.prod(self.grid)

    @property
    def sizes(self) -> dict[str, int]:
        """Parameters by the results table's columns.

        The linear layer to the bottleneck belongs to the encoder, the one from the latents to the decoder; the
        bottleneck's own parameters (a codebook) count in ``tokenizer_params`` only.
        """
        encoder, bottleneck, decoder = map(_parameters, (self.encoder, self.bottleneck, self.decoder))
        return {
            "encoder_params": encoder,
            "decoder_params": decoder,
            "tokenizer_params": encoder + bottleneck + decoder,
            "training_only_params": 0,
        }

    def checkpoint_blocks(self, on: bool = True) -> None:
        """Make the activations of the transformers' blocks again in the backward pass, or keep them.

        A matter of memory alone: results and gradients are the same.
        """
        for module in self.modules():
            if isinstance(module, BlockStack):
                module.checkpoint_blocks = on

    def encode(self, images: Tensor) -> BottleneckResult:
        """Images (b, 3, h, w) in [-1, 1] to latents (b, n, d) and what belongs to them.

        In training mode the latents are sampled where the bottleneck has a posterior, in eval mode they are its mode.
        Raises ``ConfigError`` for an image of a size that this tokenizer does not take.
        """
        self.layout.of_image(images.shape[2], images.shape[3])
        result: BottleneckResult = self.bottleneck(self.encoder(images))
        return result

    def decode(self, latents: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents (b, n, d) to images (b, 3, h, w).

        Without ``grid`` (rows, columns) the tokens lie on the grid built for, or on the square one that holds as many.
        Raises ``ConfigError`` when neither does.
        """
        images: Tensor = self.decoder(latents, grid or self.layout.of_tokens(latents.shape[1]))[0]
        return images

    def forward(self, images: Tensor, tap: int | None = None) -> tuple[Tensor, BottleneckResult, Tensor | None]:
        """The reconstruction (b, 3, h, w) of images in [-1, 1], the bottleneck's result, and a look inside the decoder.

        The last is what comes out of block ``tap`` of the decoder's transformer, counted from 1: (b, cells, e), one
        row for each cell of the image, row by row.
        """
        result = self.encode(images)
        grid = self.layout.of_image(images.shape[2], images.shape[3])
        reconstruction, tapped = self.decoder(result.latents, grid, tap)
        return reconstruction, result, tapped


def build_tokenizer(config: TokenizerConfig, resolution: int) -> Tokenizer:
    """The tokenizer of a config, for square images of ``resolution`` pixels, with fresh random weights.

    Raises ``ConfigError`` when there is none for this resolution.
    """
    return _build_vit(config, resolution) if isinstance(config, VitTokenizer) else _build_gigatok(config, resolution)


def _build_vit(config: VitTokenizer, resolution: int) -> Tokenizer:
    grid = _patches(resolution, resolution, config.patch)
    bottleneck = build_bottleneck(config.bottleneck)
    channels, gain = bottleneck.encoder_channels, bottleneck.feature_gain
    encoder = VitEncoder(config.encoder, config.patch, grid, channels, gain)
    decoder = VitDecoder(config.decoder, config.patch, grid, bottleneck.latent_dim)
    return Tokenizer(encoder, bottleneck, decoder, PatchGrid(grid, config.patch))


def _build_gigatok(config: GigaTokTokenizer, resolution: int) -> Tokenizer:
    try:
        config.check(resolution)
    except ValueError as error:
        raise ConfigError(str(error), where="tokenizer") from None
    side = resolution // config.convolution.downsampling
    bottleneck = build_bottleneck(config.bottleneck)
    encoder = GigaTokEncoder(config, resolution, bottleneck.encoder_channels, bottleneck.feature_gain)
    decoder = GigaTokDecoder(config, resolution, bottleneck.latent_dim)
    grid = (side, side) if config.layout == "2d" else (1, config.tokens)
    return Tokenizer(encoder, bottleneck, decoder, FixedGrid(grid, resolution))


def _patches(height: int, width: int, patch: int) -> Grid:
    if height % patch or width % patch:
        raise ConfigError(
            "the patch does not divide the image", given=f"{height} x {width} pixels", allowed=f"multiples of {patch}"
        )
    return height // patch, width // patch


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

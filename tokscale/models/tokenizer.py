"""A tokenizer: encoder, bottleneck, decoder."""

from __future__ import annotations

import math

from torch import Tensor, nn

from tokscale.bottlenecks import Bottleneck, BottleneckResult, build_bottleneck
from tokscale.config import TokenizerConfig, VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.vit import VitDecoder, VitEncoder


class Tokenizer(nn.Module):
    """Images to latents and back, at the resolution built for or at any other that the patch divides.

    ``encoder`` maps images (b, 3, h, w) to features (b, n, channels); ``decoder`` maps latents (b, n, d) and their grid
    to images.
    """

    def __init__(
        self, encoder: nn.Module, bottleneck: Bottleneck, decoder: nn.Module, patch: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.patch = patch
        self.grid = grid
        """rows and columns of latent tokens at the resolution built for"""

    @property
    def num_latent_tokens(self) -> int:
        """Latent tokens of an image at the resolution built for."""
        return self.grid[0] * self.grid[1]

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

    def encode(self, images: Tensor) -> BottleneckResult:
        """Images (b, 3, h, w) in [-1, 1] to latents (b, n, d) and what belongs to them.

        In training mode the latents are sampled where the bottleneck has a posterior, in eval mode they are its mode.
        Raises ``ConfigError`` when the patch does not divide height and width.
        """
        _grid_of(images.shape[2], images.shape[3], self.patch)
        result: BottleneckResult = self.bottleneck(self.encoder(images))
        return result

    def decode(self, latents: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Latents (b, n, d) to images (b, 3, h, w).

        Without ``grid`` (rows, columns) the tokens lie on the grid built for, or on the square one that holds as many.
        Raises ``ConfigError`` when neither does.
        """
        images: Tensor = self.decoder(latents, grid or self._grid_for(latents.shape[1]))
        return images

    def forward(self, images: Tensor) -> tuple[Tensor, BottleneckResult]:
        """The reconstruction (b, 3, h, w) of images in [-1, 1], and the bottleneck's result."""
        result = self.encode(images)
        return self.decode(result.latents, _grid_of(images.shape[2], images.shape[3], self.patch)), result

    def _grid_for(self, tokens: int) -> tuple[int, int]:
        if tokens == self.num_latent_tokens:
            return self.grid
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise ConfigError(
                "these latent tokens fill no square: decode needs their grid", given=f"{tokens} tokens",
                allowed=f"{self.num_latent_tokens} tokens, a square number of them, or grid=(rows, columns)",
            )  # fmt: skip
        return side, side


def build_tokenizer(config: TokenizerConfig, resolution: int) -> Tokenizer:
    """The tokenizer of a config, for square images of ``resolution`` pixels, with fresh random weights.

    Raises ``ConfigError`` when the patch does not divide the resolution, and for a kind that is planned only.
    """
    if not isinstance(config, VitTokenizer):
        raise ConfigError("this version builds no tokenizer of this kind yet", where="tokenizer.kind",
                          given=config.kind, allowed="vit")  # fmt: skip
    grid = _grid_of(resolution, resolution, config.patch)
    bottleneck = build_bottleneck(config.bottleneck)
    channels, gain = bottleneck.encoder_channels, bottleneck.feature_gain
    encoder = VitEncoder(config.encoder, config.patch, grid, channels, gain)
    decoder = VitDecoder(config.decoder, config.patch, grid, bottleneck.latent_dim)
    return Tokenizer(encoder, bottleneck, decoder, config.patch, grid)


def _grid_of(height: int, width: int, patch: int) -> tuple[int, int]:
    if height % patch or width % patch:
        raise ConfigError(
            "the patch does not divide the image", given=f"{height} x {width} pixels", allowed=f"multiples of {patch}"
        )
    return height // patch, width // patch


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

"""The two halves of a ViT tokenizer (ViTok, arXiv 2501.09755): tubelets to features, latents to pixels.

A tubelet is q frames of a patch of p x p pixels; a patch of an image is one of one frame. Encoder and decoder share
nothing, their widths included: an "S-L" has the S encoder of 43 M parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from tokscale.config import TransformerSize
from tokscale.models.layers import Transformer, linear
from tokscale.models.positions import Grid
from tokscale.tokenizer_config import Positions


class Tubelet(NamedTuple):
    """What a token covers: pixels a side, and frames."""

    patch: int
    frames: int = 1

    @property
    def values(self) -> int:
        """Colour values."""
        return 3 * self.frames * self.patch**2


def to_tubelets(clips: Tensor, tubelet: Tubelet) -> Tensor:
    """Cut clips (b, c, t, h, w) into tubelets, in raster order: times, rows, columns; (b, n, c * q * p * p)."""
    batch, channels, times, height, width = clips.shape
    patch, frames = tubelet
    grid = clips.reshape(batch, channels, times // frames, frames, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, -1, channels * frames * patch * patch)


def from_tubelets(tubelets: Tensor, tubelet: Tubelet, grid: Grid) -> Tensor:
    """Lay tubelets (b, n, c * q * p * p) out as clips (b, c, t, h, w); the inverse of ``to_tubelets``."""
    times, rows, columns = grid
    patch, frames = tubelet
    pixels = tubelets.reshape(len(tubelets), times, rows, columns, -1, frames, patch, patch)
    clips = pixels.permute(0, 4, 1, 5, 2, 6, 3, 7)
    return clips.reshape(len(tubelets), -1, times * frames, rows * patch, columns * patch)


class VitEncoder(nn.Module):
    """Tubelet embedding, blocks, final LayerNorm, and a linear layer to the bottleneck's channels.

    ``gain`` is the factor on that last layer's first weights: features start with a spread of about 1.4 x gain. A
    ``grid`` of two axes takes images, or clips of one tubelet in time.
    """

    def __init__(
        self, size: TransformerSize, tubelet: Tubelet, grid: Grid, channels: int, gain: float = 1.0,
        positions: Positions = "rotary",
    ) -> None:  # fmt: skip
        super().__init__()
        self.tubelet, self.axes = tubelet, len(grid)
        # A convolution with kernel = stride = tubelet, written as the matrix product that it is: processors are slower
        # at strided convolutions, and several times slower at the transposed one that ends the decoder.
        self.embedding = linear(tubelet.values, size.width)
        self.transformer = Transformer(size.width, size.depth, size.heads, grid, positions)
        self.head = linear(size.width, channels, gain=gain)

    def tokens(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) or clips (b, 3, t, h, w) to what comes out of the transformer; (b, n, e)."""
        tokens: Tensor
        tokens, _ = self.transformer(*self.embedded(images))
        return tokens

    def embedded(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Images (b, 3, h, w) or clips (b, 3, t, h, w) to their tubelets' tokens (b, cells, e) and their grid."""
        clips = images[:, :, None] if images.ndim == 4 else images
        patch, frames = self.tubelet
        grid = (clips.shape[2] // frames, clips.shape[3] // patch, clips.shape[4] // patch)[3 - self.axes :]
        return self.embedding(to_tubelets(clips, self.tubelet)), grid

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) or clips (b, 3, t, h, w) to features (b, n, channels)."""
        features: Tensor = self.head(self.tokens(images))
        return features


class VitDecoder(nn.Module):
    """A linear layer from the latents, blocks, final LayerNorm, and the transpose of the tubelet embedding."""

    def __init__(
        self, size: TransformerSize, tubelet: Tubelet, grid: Grid, latent_dim: int, positions: Positions = "rotary"
    ) -> None:
        super().__init__()
        self.tubelet = tubelet
        self.embedding = linear(latent_dim, size.width)
        self.transformer = Transformer(size.width, size.depth, size.heads, grid, positions)
        self.head = linear(size.width, tubelet.values)

    def forward(self, latents: Tensor, grid: Grid, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Latents (b, n, d), lying in raster order on ``grid``, to images (b, 3, h, w); and block ``tap``'s (b, n, e).

        Clips (b, 3, t, h, w) of a grid with times, or of tubelets of several frames.
        """
        x, tapped = self.transformer(self.embedding(latents), grid, tap)
        return self.laid_out(x, grid), tapped

    def laid_out(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens (b, n, e) of the tubelets of ``grid``, as they leave the transformer, to images or clips."""
        clips = from_tubelets(self.head(x), self.tubelet, grid if len(grid) == 3 else (1, *grid))
        return clips.squeeze(2) if len(grid) == 2 and self.tubelet.frames == 1 else clips

"""The two halves of a ViT tokenizer (ViTok, arXiv 2501.09755): patches to features, latents to pixels.

Encoder and decoder share nothing, their widths included: an "S-L" has the S encoder of 43 M parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from tokscale.config import TransformerSize
from tokscale.models.layers import Transformer, linear


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Cut images (b, c, h, w) into patches, row by row; (b, p, c * patch * patch)."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch * patch)


def from_patches(patches: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """Lay patches (b, p, c * patch * patch) out as images (b, c, h, w); the inverse of ``to_patches``."""
    rows, columns = grid
    pixels = patches.reshape(len(patches), rows, columns, -1, patch, patch)
    return pixels.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, rows * patch, columns * patch)


class VitEncoder(nn.Module):
    """Patch embedding, blocks, final LayerNorm, and a linear layer to the bottleneck's channels.

    ``gain`` is the factor on that last layer's first weights: features start with a spread of about 1.4 x gain.
    """

    def __init__(
        self, size: TransformerSize, patch: int, grid: tuple[int, int], channels: int, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.patch = patch
        # A convolution with kernel = stride = patch, written as the matrix product that it is: processors are slower at
        # strided convolutions, and several times slower at the transposed one that ends the decoder.
        self.embedding = linear(3 * patch * patch, size.width)
        self.transformer = Transformer(size.width, size.depth, size.heads, grid)
        self.head = linear(size.width, channels, gain=gain)

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to features (b, n, channels)."""
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        x, _ = self.transformer(self.embedding(to_patches(images, self.patch)), grid)
        features: Tensor = self.head(x)
        return features


class VitDecoder(nn.Module):
    """A linear layer from the latents, blocks, final LayerNorm, and the transpose of the patch embedding."""

    def __init__(self, size: TransformerSize, patch: int, grid: tuple[int, int], latent_dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.embedding = linear(latent_dim, size.width)
        self.transformer = Transformer(size.width, size.depth, size.heads, grid)
        self.head = linear(size.width, 3 * patch * patch)

    def forward(self, latents: Tensor, grid: tuple[int, int], tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Latents (b, n, d), lying row by row on ``grid``, to images (b, 3, h, w); and block ``tap``'s (b, n, e)."""
        x, tapped = self.transformer(self.embedding(latents), grid, tap)
        return from_patches(self.head(x), self.patch, grid), tapped

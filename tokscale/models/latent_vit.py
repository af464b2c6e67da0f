"""The halves of a ViT tokenizer whose bottleneck is a sequence: Latent ViTok (arXiv 2501.09755, A.3).

Learned latent tokens pass through the encoder beside the tokens of the patches, and they alone go on to the bottleneck.
The decoder is given one learned mask token for every patch and, behind them, what came through the bottleneck, as in
TiTok (Yu et al. 2024, arXiv 2406.07550); its patches become the image. In both halves each token attends to all.

Patches have the places of their grid, rotary or other. Latent tokens are not turned: they are told apart by vectors
that start as sines and cosines of their number and are trained, in the encoder the tokens themselves, in the decoder
added to what is embedded of the latents. The paper says that they start so, and no more; the decoder's are our choice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tokscale.config import TransformerSize
from tokscale.models.positions import Grid, grid_positions, sincos_table
from tokscale.models.vit import Tubelet, VitDecoder, VitEncoder
from tokscale.tokenizer_config import Positions


def _sequence(tokens: int, width: int) -> nn.Parameter:
    """Vectors (tokens, width) that start as sines and cosines of their number."""
    return nn.Parameter(sincos_table(grid_positions(tokens), width))


class LatentVitEncoder(VitEncoder):
    """Patches and latent tokens through blocks; the latent tokens to the bottleneck's channels."""

    def __init__(
        self, size: TransformerSize, tubelet: Tubelet, grid: Grid, channels: int, latent_tokens: int,
        gain: float = 1.0, positions: Positions = "rotary",
    ) -> None:  # fmt: skip
        super().__init__(size, tubelet, grid, channels, gain, positions)
        self.latents = _sequence(latent_tokens, size.width)

    def tokens(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to the latent tokens that come out of the transformer; (b, latent tokens, e)."""
        patches, grid = self.embedded(images)
        latents = self.latents.to(patches.dtype).expand(len(patches), -1, -1)
        x: Tensor = self.transformer(torch.cat((patches, latents), dim=1), grid)[0]
        return x[:, patches.shape[1] :]


class LatentVitDecoder(VitDecoder):
    """Mask tokens of the patches and latents through blocks; the patches to pixels."""

    def __init__(
        self, size: TransformerSize, tubelet: Tubelet, grid: Grid, latent_dim: int, latent_tokens: int,
        positions: Positions = "rotary",
    ) -> None:  # fmt: skip
        super().__init__(size, tubelet, grid, latent_dim, positions)
        self.places = _sequence(latent_tokens, size.width)
        self.mask = nn.Parameter(nn.init.normal_(torch.empty(size.width), std=0.02))

    def forward(self, latents: Tensor, grid: Grid, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Latents (b, n, d) to images (b, 3, h, w) whose patches lie on ``grid``; and block ``tap``'s patches
        (b, cells, e).
        """
        embedded, cells = self.embedding(latents), math.prod(grid)
        told_apart = embedded + self.places.to(embedded.dtype)
        hidden = self.mask.to(embedded.dtype).expand(len(latents), cells, -1)
        x, tapped = self.transformer(torch.cat((hidden, told_apart), dim=1), grid, tap)
        return self.laid_out(x[:, :cells], grid), None if tapped is None else tapped[:, :cells]

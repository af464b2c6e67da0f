"""The two halves of a GigaTok tokenizer (arXiv 2504.08736): convolutions, and transformers next to the bottleneck.

In the 1D layout the transformers are Q-Formers: tokens that ask, cells of the feature map that answer, and the other
way round. In the 2D layout they are plain ViTs with one token for each cell. Positions are learned, so a tokenizer
takes the one resolution that it was built for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.config import GigaTokTokenizer, TransformerSize
from tokscale.models.convolutions import ConvolutionalDecoder, ConvolutionalEncoder
from tokscale.models.layers import BlockStack, linear
from tokscale.models.positions import Grid
from tokscale.models.qformer import PlainBlock, QFormerBlock, positions, start_small


def pooled_regions(cells: Tensor, tokens: int) -> Tensor:
    """Averages of a map (b, e, rows, columns) over ever finer regions, coarse to fine; (b, tokens, e).

    Over 1 region, and then over 2^i for i = 0, 1, ...: 2^(i // 2) rows of 2^((i + 1) // 2) regions, row by row
    (GigaTok, appendix C). ``tokens`` is a power of two.
    """
    pooled = [cells.mean((2, 3))[:, :, None]]
    for level in range(tokens.bit_length() - 1):
        shape = (2 ** (level // 2), 2 ** ((level + 1) // 2))
        pooled.append(F.adaptive_avg_pool2d(cells, shape).flatten(2))
    return torch.cat(pooled, dim=2).transpose(1, 2)


def _blocks(size: TransformerSize, layout: str) -> list[nn.Module]:
    block = QFormerBlock if layout == "1d" else PlainBlock
    return [block(size.width, size.heads) for _ in range(size.depth)]


class _Half(BlockStack):
    """What both transformers have: tokens of the map's channels come in, blocks, a last norm."""

    def __init__(self, size: TransformerSize, layout: str, channels: int, queries: int, memory: int) -> None:
        super().__init__(_blocks(size, layout))
        self.layout = layout
        self.embedding_norm = nn.LayerNorm(channels, eps=1e-6)
        self.embedding = nn.Linear(channels, size.width)
        self.query_positions = positions(queries, size.width)
        self.memory_positions = positions(memory, size.width) if layout == "1d" else None
        self.norm = nn.LayerNorm(size.width, eps=1e-6)

    def embedded(self, tokens: Tensor) -> Tensor:
        """(b, n, channels) -> (b, n, e)."""
        x: Tensor = self.embedding(self.embedding_norm(tokens))
        return x

    def asked(self, queries: Tensor, memory: Tensor, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Queries (b, n, e) after all blocks and the last norm, and after block ``tap``; a ViT has no memory."""
        seen = () if self.memory_positions is None else (memory + self.memory_positions,)
        x, tapped = self.through(queries + self.query_positions, *seen, tap=tap)
        return self.norm(x), tapped


class TransformerEncoder(_Half):
    """Cells of the feature map to latent tokens of the map's channels."""

    def __init__(self, config: GigaTokTokenizer, cells: int) -> None:
        size, channels = config.encoder, config.convolution.map_channels
        super().__init__(size, config.layout, channels, config.tokens, cells)
        self.tokens = config.tokens
        self.query_projection = nn.Linear(size.width, size.width) if config.layout == "1d" else None
        start_small(self)
        # As in a ViT tokenizer: small weights here would give bottlenecks features whose spread shrinks with the width.
        self.head = linear(size.width, channels)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(b, channels, rows, columns) -> (b, n, channels)."""
        rows, columns = feature_map.shape[2:]
        x = self.embedded(feature_map.flatten(2).transpose(1, 2))
        queries = x
        if self.query_projection is not None:
            cells = x.transpose(1, 2).reshape(len(x), -1, rows, columns)
            queries = self.query_projection(pooled_regions(cells, self.tokens))
        latents: Tensor = self.head(self.asked(queries, x)[0])
        return latents


class TransformerDecoder(_Half):
    """Latent tokens of the map's channels to the cells of a feature map."""

    def __init__(self, config: GigaTokTokenizer, side: int) -> None:
        size, channels = config.decoder, config.convolution.map_channels
        super().__init__(size, config.layout, channels, side * side, config.tokens)
        self.side = side
        start_small(self)
        self.head = nn.Conv2d(size.width, channels, 3, padding=1)

    def forward(self, latents: Tensor, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """(b, n, channels) -> (b, channels, rows, columns), and the cells (b, rows * columns, e) after a block."""
        x = self.embedded(latents)
        # in the 1D layout every cell starts as a copy of the first token, the coarsest average
        queries = x[:, :1].expand(-1, self.side**2, -1) if self.layout == "1d" else x
        cells, tapped = self.asked(queries, x, tap)
        feature_map: Tensor = self.head(cells.transpose(1, 2).reshape(len(x), -1, self.side, self.side))
        return feature_map, tapped


class GigaTokEncoder(nn.Module):
    """Convolutions, transformer, and a linear layer to the bottleneck's channels; ``gain`` scales its first weights."""

    def __init__(self, config: GigaTokTokenizer, resolution: int, channels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.convolutions = ConvolutionalEncoder(config.convolution)
        self.transformer = TransformerEncoder(config, config.cells(resolution))
        self.head = linear(config.convolution.map_channels, channels, gain=gain)

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to features (b, n, channels)."""
        features: Tensor = self.head(self.transformer(self.convolutions(images)))
        return features


class GigaTokDecoder(nn.Module):
    """A linear layer from the latents, transformer, convolutions."""

    def __init__(self, config: GigaTokTokenizer, resolution: int, latent_dim: int) -> None:
        super().__init__()
        self.embedding = linear(latent_dim, config.convolution.map_channels)
        self.transformer = TransformerDecoder(config, resolution // config.convolution.downsampling)
        self.convolutions = ConvolutionalDecoder(config.convolution)

    def forward(self, latents: Tensor, grid: Grid, tap: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Latents (b, n, d) to images (b, 3, h, w), and the map's cells (b, cells, e) after block ``tap``."""
        feature_map, tapped = self.transformer(self.embedding(latents), tap)
        return self.convolutions(feature_map), tapped

"""A tokenizer: encoder, bottleneck, decoder."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor, nn

from tokscale.bottlenecks import Bottleneck, BottleneckResult, build_bottleneck
from tokscale.config import GigaTokTokenizer, TokenizerConfig, VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.gigatok import GigaTokDecoder, GigaTokEncoder
from tokscale.models.latent_vit import LatentVitDecoder, LatentVitEncoder
from tokscale.models.layers import BlockStack
from tokscale.models.layout import FixedGrid, PatchGrid, Sequence, patches
from tokscale.models.positions import Grid
from tokscale.models.tail import Tail, filled
from tokscale.models.vit import Tubelet, VitDecoder, VitEncoder


class Tokenizer(nn.Module):
    """Images, or clips, to latents and back.

    ``encoder`` maps images (b, 3, h, w) or clips (b, 3, t, h, w) to features (b, n, channels); ``decoder`` maps latents
    (b, n, d), their grid and the number of a block to images or clips and that block's output.
    """

    def __init__(
        self, encoder: nn.Module, bottleneck: Bottleneck, decoder: nn.Module, layout: PatchGrid | Sequence | FixedGrid
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.layout = layout
        self.tail: Tail | None = None
        """which of the latent tokens are kept; None: all, always"""

    @property
    def grid(self) -> Grid:
        """Rows and columns of latent tokens at the size built for, before them times of clips; a sequence is a row.

        The first tokens of a longer latent are its first rows, or the beginning of one row.
        """
        grid, kept = self.layout.grid, None if self.tail is None else self.tail.kept
        if kept is None:
            return grid
        return (1, kept) if kept % grid[-1] else (kept // grid[-1], grid[-1])

    @property
    def num_latent_tokens(self) -> int:
        """Latent tokens of an image or clip of the size built for."""
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
        """Images (b, 3, h, w) or clips (b, 3, t, h, w) in [-1, 1] to latents (b, n, d) and what belongs to them.

        In training mode the latents are sampled where the bottleneck has a posterior, in eval mode they are its mode.
        Where tails are masked, training draws how many tokens of each image are no zeros; in eval mode, the first ones
        that are measured are all there is.
        Raises ``ConfigError`` for a size that this tokenizer does not take.
        """
        self.layout.of_images(images)
        return self.kept(self.bottleneck(self.encoder(images)))

    def kept(self, result: BottleneckResult) -> BottleneckResult:
        """What is left of a bottleneck's result where tails are masked."""
        if self.tail is None:
            return result
        if self.training:
            return replace(result, latents=self.tail.drawn(result.latents, self.bottleneck.draws))
        return self.tail.cut(result)

    def decode(self, latents: Tensor, grid: Grid | None = None) -> Tensor:
        """Latents (b, n, d) to images (b, 3, h, w); to clips (b, 3, t, h, w) where built for clips.

        Without ``grid``, (rows, columns) or (times, rows, columns), the tokens lie on the grid built for, or on an
        image's square one that holds as many; of latent tokens beside patches, the grid is the patches'. Raises
        ``ConfigError`` when neither does.
        """
        if grid is None:
            latents = latents if self.tail is None else filled(latents, math.prod(self.layout.grid))
            grid = self.layout.of_tokens(latents.shape[1])
        images: Tensor = self.decoder(self._filled(latents, grid), grid)[0]
        return images

    def _filled(self, latents: Tensor, grid: Grid) -> Tensor:
        """Latents with zeros in the place of tokens that are not kept."""
        if self.tail is None:
            return latents
        return filled(latents, self.layout.tokens if isinstance(self.layout, Sequence) else math.prod(grid))

    def forward(self, images: Tensor, tap: int | None = None) -> tuple[Tensor, BottleneckResult, Tensor | None]:
        """The reconstruction of images (b, 3, h, w) or clips (b, 3, t, h, w) in [-1, 1], of the same shape, the
        bottleneck's result, and a look inside the decoder.

        The last is what comes out of block ``tap`` of the decoder's transformer, counted from 1: (b, cells, e), one
        row for each cell of the image, row by row.
        """
        result = self.encode(images)
        grid = self.layout.of_images(images)
        reconstruction, tapped = self.decoder(self._filled(result.latents, grid), grid, tap)
        return reconstruction.reshape(images.shape), result, tapped


def build_tokenizer(config: TokenizerConfig, resolution: int, frames: int = 1) -> Tokenizer:
    """The tokenizer of a config, for square images of ``resolution`` pixels or clips of so many ``frames``, with fresh
    random weights.

    Raises ``ConfigError`` when there is none for this size.
    """
    if isinstance(config, VitTokenizer):
        tokenizer, tail = _build_vit(config, resolution, frames), config.tail_masking
        if tail is not None:
            tokenizer.tail = Tail(tail.lengths, tail.evaluation_length)
        return tokenizer
    return _build_gigatok(config, resolution)


def _build_vit(config: VitTokenizer, resolution: int, frames: int) -> Tokenizer:
    grid = patches(resolution, resolution, config.patch)
    if frames % config.tubelet:
        raise ConfigError("the tubelet does not divide the clip", where="tokenizer.tubelet", given=f"{frames} frames",
                          allowed=f"multiples of {config.tubelet}")  # fmt: skip
    if frames > 1 and config.latent_tokens is not None:
        raise ConfigError("latent tokens are of images", where="tokenizer.latent_tokens", given=f"{frames} frames",
                          allowed="data.frames: 1, or latent_tokens: null")  # fmt: skip
    if frames > config.tubelet:
        grid = (frames // config.tubelet, *grid)
    bottleneck, tubelet = build_bottleneck(config.bottleneck), Tubelet(config.patch, config.tubelet)
    channels, gain = bottleneck.encoder_channels, bottleneck.feature_gain
    layout = PatchGrid(grid, config.patch, config.tubelet, fixed=config.positions == "learned")
    tokens, positions, dim = config.latent_tokens, config.positions, bottleneck.latent_dim
    if tokens is None:
        encoder = VitEncoder(config.encoder, tubelet, grid, channels, gain, positions)
        return Tokenizer(encoder, bottleneck, VitDecoder(config.decoder, tubelet, grid, dim, positions), layout)
    encoder = LatentVitEncoder(config.encoder, tubelet, grid, channels, tokens, gain, positions)
    decoder = LatentVitDecoder(config.decoder, tubelet, grid, dim, tokens, positions)
    return Tokenizer(encoder, bottleneck, decoder, Sequence(tokens, layout))


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


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

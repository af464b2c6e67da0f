"""Parameters, FLOPs and kept activations of ViTok's tokenizers and of their blocks, by formula.

Counted as ``tokscale.formulas`` says, and exactly those of the modules built. Nothing here imports torch.
"""

from __future__ import annotations

from typing import NamedTuple

from tokscale.presets import vit_mlp_width
from tokscale.tokenizer_config import TransformerSize, VitTokenizer


class VitExtent(NamedTuple):
    """What passes through a ViT tokenizer for one image or clip, in tokens."""

    cells: int
    """tubelets of the image"""
    latents: int
    """that the bottleneck sees"""
    passing: int
    """through the blocks of each half: cells, and latent tokens where they stand beside them"""


def vit_extent(config: VitTokenizer, resolution: int, frames: int = 1) -> VitExtent:
    """Tokens of an image of this resolution, or of a clip of so many frames."""
    cells = config.cells(resolution, frames)
    return VitExtent(cells, config.encoded_tokens(resolution, frames), cells + (config.latent_tokens or 0))


def matrices(width: int, hidden: int) -> int:
    """Weights of one block's matrices: queries, keys, values, projection, and the three of a SwiGLU."""
    return 4 * width * width + 3 * width * hidden


def vit_block_params(width: int) -> int:
    """Parameters of a block."""
    hidden = vit_mlp_width(width)
    biases = width + 2 * hidden + width  # projection, gate and value, out
    return matrices(width, hidden) + biases + 4 * width


def vit_params(size: TransformerSize) -> int:
    """Parameters of blocks and of the norm behind them."""
    return size.depth * vit_block_params(size.width) + 2 * size.width


def transformer_flops(size: TransformerSize, hidden: int, tokens: int) -> int:
    """FLOPs of blocks with SwiGLUs of this hidden width, over one image."""
    return size.depth * (2 * tokens * matrices(size.width, hidden) + 4 * tokens * tokens * size.width)


def vit_tokenizer_params(
    config: VitTokenizer, extent: VitExtent, encoder_channels: int, latent_dim: int
) -> tuple[int, int]:
    """Parameters of encoder and decoder, with the layers to and from the bottleneck.

    Latent tokens are vectors of the encoder and places of the decoder, which also has one token for all hidden patches.
    """
    pixels, wide, deep = config.tubelet_values, config.encoder.width, config.decoder.width
    places = extent.cells if config.positions == "learned" else 0
    places += config.latent_tokens or 0
    hidden = 0 if config.latent_tokens is None else deep
    encoder = (pixels + 1) * wide + vit_params(config.encoder) + (wide + 1) * encoder_channels
    decoder = (latent_dim + 1) * deep + vit_params(config.decoder) + (deep + 1) * pixels
    return encoder + places * wide, decoder + places * deep + hidden


def vit_tokenizer_flops(
    config: VitTokenizer, extent: VitExtent, encoder_channels: int, latent_dim: int
) -> tuple[int, int]:
    """FLOPs of one image's forward pass through encoder and decoder."""
    pixels, wide, deep = config.tubelet_values, config.encoder.width, config.decoder.width
    encode = transformer_flops(config.encoder, vit_mlp_width(wide), extent.passing)
    decode = transformer_flops(config.decoder, vit_mlp_width(deep), extent.passing)
    return (
        encode + 2 * wide * (extent.cells * pixels + extent.latents * encoder_channels),
        decode + 2 * deep * (extent.cells * pixels + extent.latents * latent_dim),
    )

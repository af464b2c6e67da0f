"""Parameters, FLOPs and memory of GigaTok's tokenizers, layer by layer (arXiv 2504.08736, section 4.1 and Table 1).

Where the paper leaves a choice, the one that gives the published sizes is taken (to 0.1 % of each part's in the
authors' code): the encoder's transformer ends in a linear layer to the map's 256 channels, the decoder's in a 3 x 3
convolution; only the encoder's Q-Former has a linear layer behind its pooled queries; position embeddings are learned,
one table for the queries and one for what they look at; each level of the convolutional decoder opens with an adaptive
group norm, whose scale and bias are linear in the deviations and means of the map that enters the decoder.

The published totals count the alignment MLP of the semantic loss, which ``tokscale.loss_formulas`` has: S-S 136 M,
S-B 232 M, S-L 533 M, B-L 622 M, XL-XXL 2896 M; in the 2D layout S-B 197 M and B-L 491 M. The 111 M that the paper's
Figure 9 gives for S-S in the 2D layout is not reached by these layers, which come to 123 M (docs/costs.md).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tokscale.tally import Tally, activation, attention, convolution, linear, mlp, norm, total
from tokscale.tokenizer_config import ConvolutionSize, GigaTokTokenizer, TransformerSize


class Halves(NamedTuple):
    """What the encoder and the decoder of a tokenizer take; a codebook is in neither."""

    encoder: Tally
    decoder: Tally


@cache  # a plan asks for each part of each trial's cost
def gigatok_halves(config: GigaTokTokenizer, resolution: int, channels: int, latent_dim: int) -> Halves:
    """Both halves with their layers to and from the bottleneck, which takes ``channels`` and gives ``latent_dim``."""
    convolution, seen = config.convolution, config.convolution.map_channels
    encoder = [
        convolutional_encoder(convolution, resolution),
        transformer_encoder(config, resolution),
        linear(seen, channels, config.tokens),
    ]
    decoder = [
        linear(latent_dim, seen, config.tokens),
        transformer_decoder(config, resolution),
        convolutional_decoder(convolution, resolution),
    ]
    return Halves(total(encoder), total(decoder))


def widest_floats(convolution: ConvolutionSize, resolution: int) -> int:
    """Floats of one image at the widest moment without gradients: in a residual block, mostly at the full resolution.

    The block's input, and a convolution's input and output.
    """
    return 3 * max(channels * (resolution >> level) ** 2 for level, channels in enumerate(convolution.levels))


# --- convolutions ---


def _rectified(inputs: int, outputs: int, side: int) -> Tally:
    """Group norm, swish, 3 x 3 convolution."""
    cells = side * side
    return total([norm(inputs, cells), activation(inputs, cells, whole=True), convolution(inputs, outputs, side)])


def _residual(inputs: int, outputs: int, side: int) -> Tally:
    """A residual block, with a 1 x 1 convolution beside it where the number of channels changes."""
    block = _rectified(inputs, outputs, side) + _rectified(outputs, outputs, side)
    return block if inputs == outputs else block + convolution(inputs, outputs, side, kernel=1)


def _level(inputs: int, outputs: int, side: int, blocks: int) -> Tally:
    return _residual(inputs, outputs, side) + _residual(outputs, outputs, side) * (blocks - 1)


def _adaptive_norm(channels: int, side: int, seen: int) -> Tally:
    """A group norm whose scale and bias follow from the decoder's map of ``seen`` channels."""
    scaled = Tally(whole=channels * side * side)
    return norm(channels, side * side, affine=False) + scaled + linear(seen, channels, 1) * 2


@cache
def convolutional_encoder(size: ConvolutionSize, resolution: int) -> Tally:
    """Images to a map of 256 channels, 16 times smaller: five levels, and strided convolutions between."""
    inputs, side = size.channels, resolution
    parts = [convolution(3, inputs, resolution)]
    for level, outputs in enumerate(size.levels):
        parts.append(_level(inputs, outputs, side, size.encoder_blocks))
        if level < len(size.levels) - 1:
            parts.append(convolution(outputs, outputs, side, stride=2))
            side //= 2
        inputs = outputs
    parts += [_residual(inputs, inputs, side) * 2, _rectified(inputs, size.map_channels, side)]
    return total(parts)


@cache
def convolutional_decoder(size: ConvolutionSize, resolution: int) -> Tally:
    """The map back to images; a convolution to four times the channels spreads them over twice the height and width."""
    side, inputs = resolution // size.downsampling, size.levels[-1]
    parts = [convolution(size.map_channels, inputs, side), _residual(inputs, inputs, side) * 2]
    for level, outputs in enumerate(reversed(size.levels)):
        parts += [_adaptive_norm(inputs, side, size.map_channels), _level(inputs, outputs, side, size.decoder_blocks)]
        if level < len(size.levels) - 1:
            parts.append(convolution(outputs, 4 * outputs, side))
            side *= 2
        inputs = outputs
    return total([*parts, _rectified(inputs, 3, side)])


# --- transformers ---


def _q_former_block(width: int, queries: int, memory: int) -> Tally:
    """Self-attention of the queries, cross-attention to the memory, MLP; a layer norm before each."""
    parts = [
        norm(width, queries) * 3,
        attention(width, queries),
        attention(width, queries, memory),
        mlp(width, 4 * width, queries),
    ]
    return total(parts)


def _vit_block(width: int, tokens: int) -> Tally:
    return total([norm(width, tokens) * 2, attention(width, tokens), mlp(width, 4 * width, tokens)])


def _embedded(channels: int, width: int, tokens: int) -> Tally:
    """Tokens of the map's channels, normed, to the transformer's width."""
    return norm(channels, tokens) + linear(channels, width, tokens)


def _positions(width: int, tokens: int) -> Tally:
    return Tally(params=tokens * width)


@cache
def block(width: int, queries: int, memory: int, layout: str) -> Tally:
    """One block of a transformer of this layout."""
    return _vit_block(width, queries) if layout == "2d" else _q_former_block(width, queries, memory)


@cache
def _blocks(size: TransformerSize, queries: int, memory: int, layout: str) -> Tally:
    """All blocks with their position embeddings and the last norm."""
    places = _positions(size.width, queries)
    if layout == "1d":
        places += _positions(size.width, memory)
    return block(size.width, queries, memory, layout) * size.depth + places + norm(size.width, queries)


def transformer_encoder(config: GigaTokTokenizer, resolution: int) -> Tally:
    """Cells of the map to as many tokens as the bottleneck has, of the map's channels."""
    width, cells, channels = config.encoder.width, config.cells(resolution), config.convolution.map_channels
    parts = [
        _embedded(channels, width, cells),
        _blocks(config.encoder, config.tokens, cells, config.layout),
        linear(width, channels, config.tokens),
    ]
    if config.layout == "1d":
        parts.append(linear(width, width, config.tokens))  # behind the pooled cells that the queries start as
    return total(parts)


def transformer_decoder(config: GigaTokTokenizer, resolution: int) -> Tally:
    """Latent tokens of the map's channels to the cells of a map."""
    width, channels = config.decoder.width, config.convolution.map_channels
    side = resolution // config.convolution.downsampling
    parts = [
        _embedded(channels, width, config.tokens),
        _blocks(config.decoder, side * side, config.tokens, config.layout),
        convolution(width, channels, side),
    ]
    return total(parts)

"""Parameters, FLOPs and bottleneck sizes of tokenizers and probes, by formula.

FLOPs are two per multiply-accumulate, counted in matrix products, convolutions and attention alone, as torch's
FlopCounterMode does; attention is counted whole, also where it is causal. The GFLOPs of ViTok's Table 1 are
multiply-accumulates, half of these. Parameters are exactly those of the modules built; FLOPs too for tokenizers, and
for probes but for their density. Both kinds of tokenizers have modules of their own, ``tokscale.vit_formulas`` and
``tokscale.gigatok_formulas``, and so have networks beside a tokenizer, ``tokscale.loss_formulas``. Nothing here imports
torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tokscale.config import (
    BottleneckConfig,
    DiffusionProbe,
    FSQBottleneck,
    GigaTokTokenizer,
    KLBottleneck,
    LFQBottleneck,
    ProbeConfig,
    TokenizerConfig,
    TransformerSize,
    VitTokenizer,
    VQBottleneck,
)
from tokscale.diffusion_formulas import (
    diffusion_block_params,
    diffusion_feature_flops,
    diffusion_flops,
    diffusion_params,
)
from tokscale.gigatok_formulas import Halves, gigatok_halves
from tokscale.gigatok_formulas import block as gigatok_block
from tokscale.losses_config import ClassifierTeacher
from tokscale.presets import gpt_mlp_width, vit_mlp_width
from tokscale.vit_formulas import (
    matrices,
    transformer_flops,
    vit_block_params,
    vit_extent,
    vit_params,
    vit_tokenizer_flops,
    vit_tokenizer_params,
)


class BottleneckNumbers(NamedTuple):
    """A bottleneck in numbers."""

    encoder_channels: int
    latent_dim: int
    codebook_size: int | None
    params: int
    looked_up: int
    """codes that each latent is compared with, one product each"""
    label: str
    entropy_flops: int = 0
    """FLOPs of one latent's part in an entropy loss, over a whole training step"""


def _kl(config: KLBottleneck) -> BottleneckNumbers:
    return BottleneckNumbers(2 * config.channels, config.channels, None, 0, 0, f"kl{config.channels}")


def _vq(config: VQBottleneck) -> BottleneckNumbers:
    size, dim = config.codebook_size, config.code_dim
    entropy = 4 * 2 * size * dim if config.entropy_weight > 0 else 0  # its backward pass makes the products again
    return BottleneckNumbers(dim, dim, size, size * dim, size, f"vq{size}x{dim}", entropy)


def _fsq(config: FSQBottleneck) -> BottleneckNumbers:
    channels, label = len(config.levels), ".".join(map(str, config.levels))
    return BottleneckNumbers(channels, channels, config.codes, 0, 0, f"fsq{label}")


def _lfq(config: LFQBottleneck) -> BottleneckNumbers:
    bits, together = config.bits, config.entropy_bits
    groups = [min(together, bits - start) for start in range(0, bits, together)]
    entropy = sum(3 * 2 * 2**group for group in groups) if config.entropy_weight > 0 else 0
    return BottleneckNumbers(bits, bits, config.codes, 0, 0, f"lfq{bits}", entropy)


_BOTTLENECKS: dict[type, Callable[[Any], BottleneckNumbers]] = {
    KLBottleneck: _kl,
    VQBottleneck: _vq,
    FSQBottleneck: _fsq,
    LFQBottleneck: _lfq,
}


def bottleneck_numbers(config: BottleneckConfig) -> BottleneckNumbers:
    """What the formulas and the label need of a bottleneck; a new kind is one function and one row of the table."""
    return _BOTTLENECKS[type(config)](config)


def bottleneck_sizes(config: TokenizerConfig, resolution: int, frames: int = 1) -> dict[str, int | float]:
    """The results table's columns about the bottleneck: L, c, E = L x c, E by the pixel, and bits and K of codes.

    ``pixels_per_float`` is T x H x W x 3 / E (ViTok 2.2), ``floats_per_pixel`` E / (T x H x W); ``bottleneck_bits`` = L
    log2 K and ``codebook_size`` are there for discrete bottlenecks only.
    """
    numbers = bottleneck_numbers(config.bottleneck)
    tokens = config.tokens_of(resolution, frames)
    floats = tokens * numbers.latent_dim
    sizes: dict[str, int | float] = {
        "bottleneck_tokens": tokens,
        "bottleneck_channels": numbers.latent_dim,
        "bottleneck_floats": floats,
        "pixels_per_float": 3 * frames * resolution**2 / floats,
        "floats_per_pixel": floats / (frames * resolution**2),
    }
    if numbers.codebook_size is not None:
        sizes["bottleneck_bits"] = tokens * math.log2(numbers.codebook_size)
        sizes["codebook_size"] = numbers.codebook_size
    return sizes


# --- tokenizers ---


def tokenizer_blocks(config: TokenizerConfig) -> tuple[int, int]:
    """Parameters in the transformer blocks of a tokenizer, all together and in its largest block."""
    halves = [half_blocks(config, half) for half in (config.encoder, config.decoder)]
    return sum(every for every, _ in halves), max(block for _, block in halves)


def half_blocks(config: TokenizerConfig, half: TransformerSize) -> tuple[int, int]:
    """Parameters in the transformer blocks of one half of a tokenizer, all together and in one."""
    if isinstance(config, VitTokenizer):
        block = vit_block_params(half.width)
    else:
        block = gigatok_block(half.width, 1, 1, config.layout).params
    return half.depth * block, block


def tokenizer_params(config: TokenizerConfig, resolution: int = 256, frames: int = 1) -> dict[str, int]:
    """Parameters of a tokenizer by the results table's columns; exactly those of the module built from the config.

    The linear layer to the bottleneck belongs to the encoder, the one from the latents to the decoder; a codebook
    counts in ``tokenizer_params`` only, and what the losses bring along is not here. Resolution and frames matter where
    position embeddings are learned, as in GigaTok's tokenizers.
    """
    if isinstance(config, VitTokenizer):
        numbers, extent = bottleneck_numbers(config.bottleneck), vit_extent(config, resolution, frames)
        encoder, decoder = vit_tokenizer_params(config, extent, numbers.encoder_channels, numbers.latent_dim)
    else:
        halves = gigatok_halves_of(config, resolution)
        encoder, decoder = halves.encoder.params, halves.decoder.params
    return {
        "encoder_params": encoder,
        "decoder_params": decoder,
        "tokenizer_params": encoder + bottleneck_numbers(config.bottleneck).params + decoder,
        "training_only_params": 0,
    }


def gigatok_halves_of(config: GigaTokTokenizer, resolution: int) -> Halves:
    """What encoder and decoder of a GigaTok tokenizer take, with their layers to and from its bottleneck."""
    numbers = bottleneck_numbers(config.bottleneck)
    return gigatok_halves(config, resolution, numbers.encoder_channels, numbers.latent_dim)


def tokenizer_flops(config: TokenizerConfig, resolution: int, frames: int = 1) -> dict[str, int]:
    """FLOPs of one image's or clip's forward pass, ``encode`` (with a codebook's look-up) and ``decode``."""
    if isinstance(config, VitTokenizer):
        numbers, extent = bottleneck_numbers(config.bottleneck), vit_extent(config, resolution, frames)
        encode, decode = vit_tokenizer_flops(config, extent, numbers.encoder_channels, numbers.latent_dim)
    else:
        halves = gigatok_halves_of(config, resolution)
        encode, decode = halves.encoder.flops, halves.decoder.flops
    return {"encode": encode + _look_up_flops(config, config.encoded_tokens(resolution, frames)), "decode": decode}


def _look_up_flops(config: TokenizerConfig, tokens: int) -> int:
    """FLOPs of comparing each latent with the codes that it may become."""
    numbers = bottleneck_numbers(config.bottleneck)
    return 2 * tokens * numbers.looked_up * numbers.latent_dim


def training_flops(config: TokenizerConfig, resolution: int, frames: int = 1) -> float:
    """FLOPs of a training step, of one image or clip: three forward passes, but a codebook's look-up has no backward
    pass.

    An entropy loss comes on top. Networks that stand beside the tokenizer for its losses are not here:
    ``tokscale.loss_formulas`` has them.
    """
    flops, tokens = tokenizer_flops(config, resolution, frames), config.encoded_tokens(resolution, frames)
    look_up, entropy = _look_up_flops(config, tokens), tokens * bottleneck_numbers(config.bottleneck).entropy_flops
    return 3.0 * (flops["encode"] + flops["decode"] - look_up) + look_up + entropy


# --- a stand-in teacher ---


def classifier_params(config: ClassifierTeacher, classes: int) -> int:
    """Parameters of a classifier that stands in for a pretrained teacher."""
    width = config.size.width
    return (3 * config.patch**2 + 1) * width + vit_params(config.size) + (width + 1) * classes


def classifier_flops(config: ClassifierTeacher, resolution: int, classes: int) -> int:
    """FLOPs of one image's forward pass; for its patch features alone, 0 ``classes``."""
    width, tokens = config.size.width, (resolution // config.patch) ** 2
    outside = 2 * tokens * width * (3 * config.patch**2 + classes)
    return outside + transformer_flops(config.size, vit_mlp_width(width), tokens)


# --- probes ---


def probe_outputs(probe: ProbeConfig, numbers: BottleneckNumbers) -> int:
    """Numbers that the probe gives for one token: logits, or weight, means and scales of each mixture component, or
    what a diffusion probe says of each channel."""
    if isinstance(probe, DiffusionProbe):
        return numbers.latent_dim
    return numbers.codebook_size or probe.mixtures * (1 + 2 * numbers.latent_dim)


def _probe_block_params(width: int) -> int:
    return matrices(width, gpt_mlp_width(width)) + 2 * width


def probe_blocks(probe: ProbeConfig) -> tuple[int, int]:
    """Parameters in the blocks of a probe, all together and in one."""
    params = diffusion_block_params if isinstance(probe, DiffusionProbe) else _probe_block_params
    block = params(probe.size.width)
    return probe.size.depth * block, block


def probe_params(probe: ProbeConfig, bottleneck: BottleneckConfig, classes: int, tokens: int = 256) -> int:
    """Parameters of a probe on a bottleneck's latents, for a data set of ``classes`` classes.

    The number of latent tokens matters where positions are learned.
    """
    numbers, size = bottleneck_numbers(bottleneck), probe.size
    if isinstance(probe, DiffusionProbe):
        return diffusion_params(probe, numbers.latent_dim, classes, tokens)
    width, blocks = size.width, size.depth * _probe_block_params(size.width)
    head = probe_outputs(probe, numbers)
    if numbers.codebook_size is None:
        outside = (numbers.latent_dim + 1) * width + (width + 1) * head
    else:
        outside = numbers.codebook_size * width + width * head
    places = tokens * width if probe.positions == "learned" else 0
    return (classes + 1) * width + places + blocks + width + outside


def probe_feature_flops(probe: ProbeConfig, bottleneck: BottleneckConfig, tokens: int) -> int:
    """FLOPs of the probe up to its middle block, over one image of ``tokens`` latent tokens."""
    if isinstance(probe, DiffusionProbe):
        return diffusion_feature_flops(probe, bottleneck_numbers(bottleneck).latent_dim, tokens)
    whole = transformer_flops(probe.size, gpt_mlp_width(probe.size.width), tokens)
    return whole * max(1, probe.size.depth // 2) // probe.size.depth


def probe_flops(probe: ProbeConfig, bottleneck: BottleneckConfig, tokens: int) -> int:
    """FLOPs of a probe's forward pass over one image of ``tokens`` latent tokens."""
    numbers, width = bottleneck_numbers(bottleneck), probe.size.width
    if isinstance(probe, DiffusionProbe):
        return diffusion_flops(probe, numbers.latent_dim, tokens)
    outside = 2 * tokens * width * probe_outputs(probe, numbers)
    if numbers.codebook_size is None:
        outside += 2 * (tokens - 1) * width * numbers.latent_dim  # the class, not a latent, is the first position
    return outside + transformer_flops(probe.size, gpt_mlp_width(width), tokens)

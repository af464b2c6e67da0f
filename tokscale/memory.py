"""Memory and disk of training, by formula: estimates, held in tests against what autograd keeps.

Floats are counted for one image; how many bytes one takes depends on the precision.
"""

from __future__ import annotations

from tokscale.config import (
    AutoregressiveProbe,
    AveragedTraining,
    DataConfig,
    DiffusionProbe,
    OptimizationConfig,
    ProbeConfig,
    ProceduralData,
    ProceduralVideoData,
    TransformerSize,
    TrialConfig,
    VitTokenizer,
)
from tokscale.diffusion_formulas import kept_by_diffusion
from tokscale.formulas import gigatok_halves_of
from tokscale.gigatok_formulas import block as gigatok_block
from tokscale.gigatok_formulas import widest_floats
from tokscale.presets import gpt_mlp_width, vit_mlp_width
from tokscale.tally import Tally, total
from tokscale.vit_formulas import vit_extent

_PIXELS_AT_ONCE = 1 << 22
LOGITS_AT_ONCE = 1 << 28
"""1 GiB in float32; beyond it logits are made in pieces, and made again in the backward pass"""
KEPT_PICTURES = 64 << 20
"""bytes of rendered pictures that a process keeps, at most, for later stages that see the same ones"""
RENDERED_PIXELS = 1 << 18
"""of pictures that are rendered together, and kept together"""


def images_at_once(resolution: int, frames: int = 1) -> int:
    """Images, or clips, usually measured at once: a number of pixels that fits anywhere, at most 64 of them."""
    return max(1, min(64, _PIXELS_AT_ONCE // (frames * resolution**2)))


def kept_pictures(data: DataConfig, images: int) -> int:
    """Bytes of host memory that a process keeps of ``images`` that it has seen, in whole blocks; 0 of photographs."""
    if not isinstance(data, ProceduralData | ProceduralVideoData):
        return 0
    resolution, frames = data.extent
    block = max(1, RENDERED_PIXELS // (frames * resolution**2))
    size = block * (3 * frames * resolution**2 + 8)  # with a label for each
    return min(-(-images // block), KEPT_PICTURES // size) * size


def size_of_float(training: OptimizationConfig) -> int:
    """Bytes of what layers keep for the backward pass."""
    return 2 if training.precision == "bf16" else 4


def kept_by_blocks(size: TransformerSize, hidden: int, tokens: int) -> Tally:
    """What a transformer of SwiGLU blocks keeps of one image for its backward pass.

    In each block a token leaves 2 vectors of the width in float32 (what goes into two norms), 9 in the precision of
    training (what comes out of them; queries, keys and values; rotated queries and keys; attention's output, twice) and
    4 of the SwiGLU's hidden width.
    """
    width, count = size.width, tokens * size.depth
    return Tally(kept=count * (9 * width + 4 * hidden), whole=count * 2 * width)


def kept_by_probe(probe: ProbeConfig, tokens: int) -> int:
    """Bytes that a probe keeps of one image for its backward pass."""
    each = size_of_float(probe.training)
    if isinstance(probe, DiffusionProbe):
        whole, rounded = kept_by_diffusion(probe, tokens)
        return 4 * whole + each * rounded
    whole, rounded = kept_by_autoregressive(probe, tokens)
    masks = 0 if not probe.dropout else tokens * (2 * probe.size.depth + 1) * probe.size.width
    return 4 * whole + each * rounded + masks


def likelihood_bytes(probe: ProbeConfig, outputs: int, tokens: int, codes: bool) -> tuple[int, int]:
    """Bytes at the widest moment of a likelihood's backward pass: whatever the batch, and of each image in it.

    Outputs that softmax has normalised, and the gradients before and after it; of logits beyond ``LOGITS_AT_ONCE``
    those of a piece.
    """
    if isinstance(probe, DiffusionProbe):
        return 0, 2 * 4 * tokens * outputs
    if codes and probe.training.batch_size * tokens * outputs > LOGITS_AT_ONCE:
        return 3 * 4 * max(LOGITS_AT_ONCE, tokens * outputs), 0
    return 0, 3 * 4 * tokens * outputs


def kept_by_autoregressive(probe: AutoregressiveProbe, tokens: int) -> tuple[int, int]:
    """Floats that an autoregressive probe keeps of one image for its backward pass: in float32, and in the precision of
    training.

    In each block a token leaves 4 vectors of the width in float32 (what goes into two norms and comes out of them), and
    5 of the other kind (queries, keys and values, and turned ones where they turn; attention's output, twice), with 4
    of the SwiGLU's hidden width. Three more vectors in float32 are those of the last norm and of the embedding.
    """
    width, hidden, depth = probe.size.width, gpt_mlp_width(probe.size.width), probe.size.depth
    turned = 2 if probe.positions == "rotary" else 0
    return tokens * (4 * depth + 3) * width, tokens * depth * ((5 + turned) * width + 4 * hidden)


def probe_mlp_width(probe: ProbeConfig) -> int:
    """Hidden width of a probe's SwiGLUs."""
    return (vit_mlp_width if isinstance(probe, DiffusionProbe) else gpt_mlp_width)(probe.size.width)


BOTH, DECODER = slice(None), slice(1, None)
"""halves of a tokenizer that take part in a backward pass"""


def kept_by_tokenizer(trial: TrialConfig, halves: slice = BOTH) -> Tally:
    """What a tokenizer, or one half of it, keeps of one image for its backward pass."""
    tokenizer, resolution = trial.tokenizer, trial.data.resolution
    if isinstance(tokenizer, VitTokenizer):
        sizes, tokens = [tokenizer.encoder, tokenizer.decoder], vit_extent(tokenizer, *trial.data.extent).passing
        return total(kept_by_blocks(size, vit_mlp_width(size.width), tokens) for size in sizes[halves])
    return total(list(gigatok_halves_of(tokenizer, resolution))[halves])


def spared_by_recomputing(trial: TrialConfig, size: int, halves: slice = BOTH) -> int:
    """Bytes of an image that need not be kept when each block keeps its input alone, but for the block at work.

    ``size`` is that of a float in training.
    """
    tokenizer = trial.tokenizer
    saved, largest = 0, 0
    for half, queries, memory in _block_shapes(trial)[halves]:
        if isinstance(tokenizer, VitTokenizer):
            block = kept_by_blocks(half, vit_mlp_width(half.width), queries).kept_bytes(size) // half.depth
        else:
            block = gigatok_block(half.width, queries, memory, tokenizer.layout).kept_bytes(size)
        saved += half.depth * (block - size * queries * half.width)
        largest = max(largest, block)
    return max(0, saved - largest)


def _block_shapes(trial: TrialConfig) -> list[tuple[TransformerSize, int, int]]:
    """Of both halves: size, tokens that pass through the blocks, and tokens that these look at."""
    tokenizer = trial.tokenizer
    if isinstance(tokenizer, VitTokenizer):
        tokens = cells = vit_extent(tokenizer, *trial.data.extent).passing
    else:
        tokens, cells = tokenizer.tokens, tokenizer.cells(trial.data.resolution)
    return [(tokenizer.encoder, tokens, cells), (tokenizer.decoder, cells, tokens)]


def widest(size: TransformerSize, hidden: int, images: int, tokens: int) -> int:
    """Bytes of the widest moment of a forward pass without gradients: inside a SwiGLU."""
    return 4 * images * tokens * (2 * size.width + 4 * hidden)


def widest_half(trial: TrialConfig, images: int) -> int:
    """Bytes of the widest moment of encoding or decoding a batch without gradients."""
    tokenizer, resolution = trial.tokenizer, trial.data.resolution
    if isinstance(tokenizer, VitTokenizer):
        tokens = vit_extent(tokenizer, *trial.data.extent).passing
        return max(widest(size, vit_mlp_width(size.width), images, tokens)
                   for size in (tokenizer.encoder, tokenizer.decoder))  # fmt: skip
    return 4 * images * widest_floats(tokenizer.convolution, resolution)


def trained_bytes(params: int, training: OptimizationConfig) -> int:
    """Bytes of weights, gradients and AdamW's two moments, and of bf16 copies of the weights under autocast."""
    return 16 * params + rounded_bytes(params, training)


def gradient_bytes(params: int) -> int:
    """Of ``trained_bytes``, those of gradients."""
    return 4 * params


def rounded_bytes(params: int, training: OptimizationConfig) -> int:
    """Of ``trained_bytes``, those of bf16 copies of the weights."""
    return 2 * params if training.precision == "bf16" else 0


def averaged_bytes(params: int, training: AveragedTraining) -> int:
    """Bytes of an average of the weights, where there is one."""
    return 0 if training.ema is None else 4 * params


def checkpointed_bytes(params: int, averaged: int = 0) -> int:
    """Bytes on disk: two checkpoints are kept while a third is written (weights and moments), then the weights.

    ``averaged`` bytes of average are in each of the three.
    """
    return params * (3 * 12 + 4) + 3 * averaged

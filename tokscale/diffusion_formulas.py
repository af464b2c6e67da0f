"""Parameters, FLOPs and memory of diffusion probes, by formula; FLOPs are counted as ``tokscale.formulas`` says."""

from __future__ import annotations

from tokscale.presets import vit_mlp_width
from tokscale.probe_config import DiffusionProbe, GenerationConfig

TIME_FREQUENCIES = 256
"""sines and cosines that a time is told by"""


def diffusion_block_params(width: int) -> int:
    """Parameters of one block: attention, SwiGLU, and the six vectors that the condition is mapped to."""
    hidden = vit_mlp_width(width)
    attention = 4 * width * width + width
    mlp = 3 * width * hidden + 2 * hidden + width
    return attention + mlp + 6 * width * (width + 1)


def diffusion_params(probe: DiffusionProbe, channels: int, classes: int, tokens: int) -> int:
    """Parameters of a diffusion probe on latents (tokens, channels), for a data set of ``classes`` classes."""
    width = probe.size.width
    condition = (TIME_FREQUENCIES + 1) * width + (width + 1) * width + (classes + 1) * width
    places = tokens * width if probe.positions == "learned" else 0
    ends = (channels + 1) * width + 2 * width * (width + 1) + (width + 1) * channels
    return condition + places + ends + probe.size.depth * diffusion_block_params(width)


def _blocks_flops(probe: DiffusionProbe, tokens: int, depth: int) -> int:
    width, hidden = probe.size.width, vit_mlp_width(probe.size.width)
    matrices = 2 * tokens * (4 * width * width + 3 * width * hidden)
    return depth * (matrices + 4 * tokens * tokens * width + 2 * 6 * width * width)


def _condition_flops(width: int) -> int:
    return 2 * (TIME_FREQUENCIES * width + width * width)


def diffusion_flops(probe: DiffusionProbe, channels: int, tokens: int) -> int:
    """FLOPs of one forward pass over one image's latents (tokens, channels)."""
    width = probe.size.width
    ends = 2 * 2 * tokens * channels * width + 2 * 2 * width * width
    return _condition_flops(width) + ends + _blocks_flops(probe, tokens, probe.size.depth)


def diffusion_feature_flops(probe: DiffusionProbe, channels: int, tokens: int) -> int:
    """FLOPs of one image's forward pass up to the middle block."""
    width = probe.size.width
    before = _condition_flops(width) + 2 * tokens * channels * width
    return before + _blocks_flops(probe, tokens, max(1, probe.size.depth // 2))


def diffusion_evaluations(generation: GenerationConfig) -> int:
    """Forward passes, guided or not, from one image's noise to its latents."""
    return generation.sampler_steps * (2 if generation.solver == "heun" else 1)


def kept_by_diffusion(probe: DiffusionProbe, tokens: int) -> tuple[int, int]:
    """Floats that a diffusion probe keeps of one image for its backward pass: in float32, and in the precision of
    training.

    In each block a token leaves 4 vectors of the width in float32 (what goes into two norms and comes out of them), and
    9 of the other kind (what these are modulated to; queries, keys and values, and turned ones where they turn;
    attention's output, twice; two outputs before their gates), with 4 of the SwiGLU's hidden width. Three more vectors
    in float32 are the head's.
    """
    width, hidden, depth = probe.size.width, vit_mlp_width(probe.size.width), probe.size.depth
    turned = 2 if probe.positions == "rotary" else 0
    return tokens * (4 * depth + 3) * width, tokens * depth * ((9 + turned) * width + 4 * hidden)

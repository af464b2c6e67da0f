"""What the cache of keys and values saves when an autoregressive probe is sampled, and how far its floor is.

    python benchmarks/probe_sampling.py [--sizes micro mini] [--images 16] [--rounds 5]

256 tokens per image, one thread, for codes and for continuous latents, with and without classifier-free guidance;
processor seconds, medians over rounds in which all ways take turns. Without a cache every token runs the whole prefix
again; it gives the same samples, and is timed once. Target: at least 5 on a CPU. The floor is what no sampling can
spare: every token's products with the weights, and attention over the part of the cache that is filled. Above it lie
norms, activations, rotations, drawing, and the densities of the candidates among which guidance chooses latents.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.probes import AutoregressiveProbe, build_probe, sample

GRID = (16, 16)
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["micro", "mini"], help="sizes of `tokscale presets`")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, 1 thread, torch {torch.__version__}; "
          f"{arguments.images} images of {GRID[0] * GRID[1]} tokens, processor seconds")  # fmt: skip
    print(f"{'':32}{'cached':>8}{'whole prefix':>14}{'ratio':>7}{'floor':>8}{'of cached':>11}{'tokens/s':>10}")
    for size in arguments.sizes:
        for name, spec in (
            ("codes, k = 4096", LatentSpec("discrete", GRID, 256, 8, 4096)),
            ("latents, d = 16", LatentSpec("continuous", GRID, 256, 16)),
        ):
            for cfg_scale in (1.0, 2.0):
                compare(f"{size}, {name}, cfg {cfg_scale:.0f}", lively_probe(spec, size), cfg_scale, arguments)


def compare(name: str, probe: AutoregressiveProbe, cfg_scale: float, arguments: argparse.Namespace) -> None:
    """Print one row, after a look at whether samples are the same with the cache and without."""
    labels = torch.arange(arguments.images) % CLASSES
    sample(probe, labels[:1], cfg_scale=cfg_scale)
    whole, theirs = timed(lambda: drawn(probe, labels, cfg_scale, cached=False))
    cached, floor = [], []
    for _ in range(arguments.rounds):
        seconds, ours = timed(lambda: drawn(probe, labels, cfg_scale, cached=True))
        agreed = (ours - theirs).abs().max().item()
        assert agreed < 1e-3, f"{name}: the samples differ by {agreed}"
        cached.append(seconds)
        floor.append(timed(lambda: products(probe, len(labels) * (2 if cfg_scale != 1 else 1)))[0])
    took, least = statistics.median(cached), statistics.median(floor)
    tokens = len(labels) * probe.spec.tokens
    print(f"{name:32}{took:8.2f}{whole:14.2f}{whole / took:7.1f}{least:8.2f}{least / took:11.2f}{tokens / took:10,.0f}")


@torch.no_grad()
def products(probe: AutoregressiveProbe, rows: int) -> torch.Tensor:
    """Products with all weights, and attention over what is filled, for every token of so many images."""
    layers = [module for module in probe.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {layer.in_features: torch.randn(rows, layer.in_features) for layer in layers}
    heads, length = probe.blocks[0].attention.heads, probe.spec.tokens
    keys, values = torch.randn(2, rows, heads, length, probe.width // heads)
    for filled in range(1, length + 1):
        for layer in layers:
            F.linear(inputs[layer.in_features], layer.weight, layer.bias)
        for _ in probe.blocks:
            F.scaled_dot_product_attention(keys[:, :, :1], keys[:, :, :filled], values[:, :, :filled])
    return keys


def lively_probe(spec: LatentSpec, size: str) -> AutoregressiveProbe:
    """An untrained probe whose head says something, so that samples could differ."""
    torch.manual_seed(0)
    probe = build_probe(ProbeConfig(size=size), spec, CLASSES)
    torch.nn.init.normal_(probe.tokens.head.weight, std=0.02)
    return probe.eval()


def drawn(probe: AutoregressiveProbe, labels: torch.Tensor, cfg_scale: float, *, cached: bool) -> torch.Tensor:
    """The same samples each time."""
    return sample(probe, labels, cfg_scale=cfg_scale, generator=torch.Generator().manual_seed(0), cached=cached)


def timed(call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Processor seconds, and what came out."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


if __name__ == "__main__":
    main()

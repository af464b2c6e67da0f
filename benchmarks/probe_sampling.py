"""What the cache of keys and values saves when an autoregressive probe is sampled.

    python benchmarks/probe_sampling.py [--size mini] [--images 16] [--threads 1]

256 tokens per image, for codes and for continuous latents, with and without classifier-free guidance. Without a cache
every token runs the whole prefix again. Both columns come from one run on one machine, and both give the same samples;
the ratio is what to read. Target: at least 5 on a CPU.

    2026-11-21, x86_64 (Intel Xeon, shared), 1 threads, torch 2.13.0+cpu; mini, 16 images of 256 tokens
                                     cached, s   whole prefix, s   ratio
    codes, k = 4096, cfg 1                3.41             47.24    13.8
    codes, k = 4096, cfg 2                4.12             67.59    16.4
    latents, d = 16, cfg 1                0.98             29.66    30.2
    latents, d = 16, cfg 2                2.92            103.30    35.4
"""

from __future__ import annotations

import argparse
import platform
import time

import torch

from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.probes import AutoregressiveProbe, build_probe, sample

GRID = (16, 16)
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini", help="a size of `tokscale presets`")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {arguments.threads} threads, torch {torch.__version__}; "
        f"{arguments.size}, {arguments.images} images of {GRID[0] * GRID[1]} tokens"
    )
    print(f"{'':30}{'cached, s':>12}{'whole prefix, s':>18}{'ratio':>8}")
    for name, spec in (
        ("codes, k = 4096", LatentSpec("discrete", GRID, 256, 8, 4096)),
        ("latents, d = 16", LatentSpec("continuous", GRID, 256, 16)),
    ):
        probe = lively_probe(spec, arguments.size)
        labels = torch.arange(arguments.images) % CLASSES
        for cfg_scale in (1.0, 2.0):
            sample(probe, labels[:1], cfg_scale=cfg_scale)
            cached, ours = timed(probe, labels, cfg_scale, cached=True)
            whole, theirs = timed(probe, labels, cfg_scale, cached=False)
            agreed = (ours - theirs).abs().max().item()
            assert agreed < 1e-3, f"{name}: the samples differ by {agreed}"
            print(f"{f'{name}, cfg {cfg_scale:.0f}':30}{cached:12.2f}{whole:18.2f}{whole / cached:8.1f}")


def lively_probe(spec: LatentSpec, size: str) -> AutoregressiveProbe:
    """An untrained probe whose head says something, so that samples could differ."""
    torch.manual_seed(0)
    probe = build_probe(ProbeConfig(size=size), spec, CLASSES)
    torch.nn.init.normal_(probe.tokens.head.weight, std=0.02)
    return probe.eval()


def timed(
    probe: AutoregressiveProbe, labels: torch.Tensor, cfg_scale: float, *, cached: bool
) -> tuple[float, torch.Tensor]:
    """Seconds to sample once, and the samples."""
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    values = sample(probe, labels, cfg_scale=cfg_scale, generator=generator, cached=cached)
    return time.perf_counter() - start, values


if __name__ == "__main__":
    main()

"""What the entropy loss of a VQ or LFQ bottleneck takes: peak memory and processor time, against the plain formula.

    python benchmarks/entropy_loss.py [--latents 8192] [--threads 1]

Each row is a forward and backward pass in a process of its own, whose peak resident memory is read before and after.
The plain formula is a softmax over all codes with autograd; for LFQ it has all 2^bits codes as a matrix.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import time
from datetime import date

import torch
import torch.nn.functional as F
from torch import Tensor

from tokscale.bottlenecks.entropy import entropy_loss, sign_entropy_loss

_TEMPERATURE = 0.01
ROWS = [("vq", 16384), ("vq", 65536), ("lfq", 2**14), ("lfq", 2**18)]


def plain(latents: Tensor, codes: Tensor) -> Tensor:
    """The definition."""
    logits = (2 / _TEMPERATURE) * latents @ codes.T
    logs = logits.log_softmax(-1)
    shares = logs.exp()
    usage = shares.mean(0)
    return -(shares * logs).sum(-1).mean() + (usage * usage.clamp_min(1e-30).log()).sum()


def loss_of(kind: str, way: str, latents: Tensor, codes: int) -> Tensor:
    """One loss of ``codes`` codes for latents (m, d)."""
    if kind == "lfq":
        if way == "ours":
            return sign_entropy_loss(latents, _TEMPERATURE, 24)
        bits = latents.shape[1]
        return plain(latents, (torch.arange(codes)[:, None] // 2 ** torch.arange(bits) % 2) * 2.0 - 1)
    book = F.normalize(torch.randn(codes, latents.shape[1]), dim=-1).requires_grad_()
    unit = F.normalize(latents, dim=-1)
    return entropy_loss(unit, book, _TEMPERATURE) if way == "ours" else plain(unit, book)


def measured(kind: str, way: str, count: int, codes: int) -> None:
    """Print MiB of peak memory that one pass adds, and its processor seconds."""
    latents = torch.randn(count, 8 if kind == "vq" else codes.bit_length() - 1).requires_grad_()
    loss_of(kind, way, latents[:8], codes).backward()  # libraries load what they need
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    loss_of(kind, way, latents, codes).backward()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{grown / 1024:.0f} {time.process_time() - start:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.row:
        kind, way, codes = given.row
        measured(kind, way, given.latents, int(codes))
        return
    print(f"{date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}, "
          f"{given.threads} threads, {given.latents} latents")  # fmt: skip
    print(f"{'bottleneck':<12}{'codes':>8}{'':>6}{'peak MiB':>10}{'seconds':>10}")
    for kind, codes in ROWS:
        for way in ("ours", "plain"):
            if way == "plain" and given.latents * codes > 2**28:
                continue  # several matrices of more than 1 GiB
            command = [sys.executable, __file__, "--latents", str(given.latents), "--threads", str(given.threads),
                       "--row", kind, way, str(codes)]  # fmt: skip
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            print(f"{kind:<12}{codes:>8}{way:>6}{found[0]:>10}{found[1]:>10}")


if __name__ == "__main__":
    main()

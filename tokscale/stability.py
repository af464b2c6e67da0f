"""Signs that a discrete tokenizer's training collapses, read off its progress lines.

GigaTok's largest tokenizer (arXiv 2504.08736, Figure 5) shows what to look for. Without an entropy loss its codebook
usage is .08 after 70,000 steps, and .98 with one; its perceptual loss, which goes down to .23 with one, leaps from .55
to .66 when the discriminator joins. So codes in use below a tenth of what a batch can reach are one sign, and a
perceptual loss 15 % above the best it had is the other.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

LEAST_USAGE = 0.1
"""of the codes that a batch can reach: between the .08 of a collapse and the .98 of a sound training"""
LEAST_CODES = 1024
"""a smaller codebook may well be used in part by few images"""
LEAP = 1.15
"""of the best perceptual loss so far: the collapse's is .66 / .55 = 1.2"""
_SETTLING = 0.05  # share of the budget in which anything may happen, if the warm-up is shorter
_WINDOW = 5  # lines, each of one batch, whose median counts
_NOISES = 3.0  # standard deviations that a leap exceeds


class Point(NamedTuple):
    """What one progress line says of it: images, share of the budget, codebook usage and perceptual loss of a batch."""

    images: int
    share: float
    usage: float | None
    perceptual: float | None


def point(line: Mapping[str, Any]) -> Point:
    """The point of a progress line."""
    return Point(int(line["done"]), line["done"] / line["total"], line.get("codebook_usage"), line.get("perceptual"))


def read_points(progress: Path) -> list[Point]:
    """The points of a progress file, without those that a later attempt passed once more."""
    kept: list[Point] = []
    for text in progress.read_bytes().split(b"\n")[:-1]:
        try:
            found = point(json.loads(text))
        except (ValueError, KeyError, TypeError, ZeroDivisionError):  # torn by a crash
            continue
        while kept and kept[-1].images >= found.images:
            kept.pop()
        kept.append(found)
    return kept


def signs(
    points: Sequence[Point], *, codes: int | None, latents: int, warmup: float, entropy: bool = True, place: str = ""
) -> list[str]:
    """What looks like a collapse at the last of these points, in words; empty too where too little is known.

    ``codes`` is the codebook's size (None: there is none), ``latents`` how many a batch has, ``warmup`` the share of
    the budget before which nothing is said, ``entropy`` whether the bottleneck has an entropy loss to advise, ``place``
    what comes before a setting's name in the spec.
    """
    settled = [one for one in points if one.share >= max(warmup, _SETTLING)]
    advice = f"a longer {place}training.warmup"
    if entropy:
        advice = f"tokenizer.bottleneck.entropy_weight 5e-3, {advice}"
    leapt = _leapt(settled, f"{advice}, a lower {place}losses.gan.lr")
    found = [_unused(settled, codes, latents, advice) if codes is not None else None, leapt]
    return [words for words in found if words is not None]


def _unused(points: Sequence[Point], codes: int, latents: int, advice: str) -> str | None:
    usages = _values(one.usage for one in points)
    if codes < LEAST_CODES or len(usages) < _WINDOW:
        return None
    reachable = 1 - math.exp(-latents / codes)  # by so many draws among equally likely codes
    now, best = statistics.median(usages[-_WINDOW:]), max(usages)
    if now >= LEAST_USAGE * reachable:
        return None
    return (
        f"the codebook collapses: a batch uses {now:.2g} of the codes, and could use {reachable:.2g}; the most was "
        f"{best:.2g} (try {advice})"
    )


def _leapt(points: Sequence[Point], advice: str) -> str | None:
    losses = _values(one.perceptual for one in points)
    if len(losses) < 3 * _WINDOW:
        return None
    windows = [losses[end - _WINDOW : end] for end in range(len(losses), _WINDOW - 1, -_WINDOW)]
    last, *earlier = [statistics.median(window) for window in windows]
    best = min(earlier)
    # The best of many medians lies below the rest by noise alone, by about sqrt(2 ln of their number) spreads.
    noises = _NOISES + math.sqrt(2 * math.log(len(earlier)))
    if last <= LEAP * best or last - best <= noises * _spread(losses):
        return None
    return f"the perceptual loss leapt from {best:.3g} to {last:.3g}: reconstructions have become worse (try {advice})"


def _spread(losses: Sequence[float]) -> float:
    """Standard deviation of a window's median by the noise of one line against the next, leaps and slopes aside."""
    steps = [abs(after - before) for before, after in pairwise(losses)]
    return 1.25 * 1.48 * statistics.median(steps) / math.sqrt(2 * _WINDOW)


def _values(found: Iterable[float | None]) -> list[float]:
    return [value for value in found if value is not None]

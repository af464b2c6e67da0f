"""Curves of running trainings: what a progress file says at equal shares of the budget, so that trials compare."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path

STEP = 5
"""percent of a stage's budget between two points of a curve; budgets themselves may be searched for"""


def read_curve(path: Path, measure: str) -> dict[int, float]:
    """Percent of the budget -> measure at 5, 10, ... as far as the stage got; empty when it says nothing.

    Lines say the loss of one batch each: those of the same twentieth of the budget are averaged, and between the
    averages the curve is interpolated. An attempt that went on from a checkpoint overwrites what the one before it had
    said about the same images.
    """
    known: list[tuple[float, float]] = []
    reached = 0.0
    for reached, value in _lines(path, measure):
        while known and known[-1][0] >= reached:
            known.pop()
        if value is not None:
            known.append((reached, value))
    return dict(_interpolated(list(_averaged(known, reached))))


def _lines(path: Path, measure: str) -> Iterable[tuple[float, float | None]]:
    """(percent, measure) of each whole line; None where a line does not say the measure."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for text in content.split(b"\n")[:-1]:
        try:
            line = json.loads(text)
            share = 100 * float(line["done"]) / float(line["total"])
            value = float(line[measure]) if measure in line else None
        except (ValueError, TypeError, KeyError, ZeroDivisionError):
            continue
        if math.isfinite(share) and (value is None or math.isfinite(value)):
            yield share, value


def _averaged(known: list[tuple[float, float]], reached: float) -> Iterable[tuple[float, float]]:
    """Mean share and mean value of each part of the budget that is over: one that goes on would still change."""
    for part, lines in itertools.groupby(known, key=lambda line: math.ceil(line[0] / STEP)):
        shares, values = zip(*lines, strict=True)
        if part < math.ceil(reached / STEP) or reached >= 100:
            yield math.fsum(shares) / len(shares), math.fsum(values) / len(values)


def _interpolated(known: list[tuple[float, float]]) -> Iterable[tuple[int, float]]:
    if (
        known and known[0][0] >= STEP and known[0][0] % STEP == 0
    ):  # as of a probe at every quarter: the first is of use before the second
        yield int(known[0][0]), known[0][1]
    for (before, first), (after, second) in itertools.pairwise(known):
        step = STEP * (math.floor(before / STEP) + 1)
        while step <= min(after, 100):
            yield step, first + (second - first) * (step - before) / (after - before)
            step += STEP

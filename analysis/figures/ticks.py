"""Logarithmic axes that can be read: ticks at the sizes tried or at round numbers, and labels that never touch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, Formatter, Locator, MaxNLocator, NullFormatter, NullLocator

from analysis.style import short

_DIGIT = 0.64  # width of a digit of DejaVu Sans, as a share of the font's size
_FACTORS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
_MOST_SIZES = 9
_MOST_LABELS = 7  # on an axis of unknown length
_LONGEST_LABEL = 7  # letters; longer numbers are worse ticks than powers of ten
_LEAST_SPAN = 3.0  # within a factor of three a logarithmic axis has too few round numbers, and looks like a linear one


def size_axis(axis: Axis, sizes: Iterable[float], most: int = _MOST_SIZES) -> None:
    """Make an axis of sizes logarithmic, with ticks at the sizes themselves if they are few, else at round numbers.

    Sizes that are not all above zero leave the axis linear: a logarithm would hide some of them.
    """
    finite = sorted({float(v) for v in sizes if math.isfinite(v)})
    if not finite or finite[0] <= 0:
        return
    powers = all(math.log2(v).is_integer() for v in finite)
    apart = all(b / a > 1.2 for a, b in itertools.pairwise(finite))
    _set_log(axis, 2 if powers else 10)
    room = max(1.05, (finite[-1] / finite[0]) ** 0.06) if len(finite) > 1 else 2.0
    axis.set_view_interval(finite[0] / room, finite[-1] * room, ignore=True)
    brief = all(len(short(v)) <= _LONGEST_LABEL for v in finite)
    if len(finite) <= most and brief and (apart or finite[-1] / finite[0] < 2):
        axis.set_major_locator(FixedLocator(finite))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(RoomyFormatter())
    else:
        _set_log_ticks(axis, 2 if powers else 10)


def log2_axis(axis: Axis) -> None:
    """Make an axis logarithmic with ticks at powers of two, shown as plain numbers."""
    _set_log(axis, 2)
    _set_log_ticks(axis, 2)


def log10_axis(axis: Axis, values: npt.ArrayLike | None = None) -> None:
    """Make an axis logarithmic with ticks at round numbers, if it spans more than a factor of three.

    With ``values`` it is first limited to them, with some room; the limits of a linear axis may reach below zero.
    """
    if values is not None and (places := np.asarray(values, float)).size and places.min() > 0:
        ratio = float(places.max() / places.min())
        if ratio < _LEAST_SPAN:
            return
        axis.set_view_interval(places.min() / ratio**0.06, places.max() * ratio**0.06, ignore=True)
    low, high = axis.get_view_interval()
    if 0 < low < high and high / low >= _LEAST_SPAN:
        _set_log(axis, 10)
        _set_log_ticks(axis, 10)


def linear_axis(axis: Axis) -> None:
    """Ticks in plain writing on a linear axis."""
    axis.set_major_formatter(RoomyFormatter())


def _set_log(axis: Axis, base: int) -> None:
    axes: Any = axis.axes
    setter = axes.set_xscale if axis.axis_name == "x" else axes.set_yscale  # type: ignore[attr-defined]
    setter("log", base=base)


def _set_log_ticks(axis: Axis, base: int) -> None:
    axis.set_major_locator(LogLocator(base))
    axis.set_minor_locator(NullLocator() if base == 2 else MinorLocator())
    axis.set_major_formatter(RoomyFormatter())
    axis.set_minor_formatter(NullFormatter())


class LogLocator(Locator):
    """Ticks at powers of two, or at round numbers between powers of ten, as many as the axis has room for."""

    def __init__(self, base: int) -> None:
        self.base = base

    def __call__(self) -> list[float]:
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        return self.tick_values(float(low), float(high))

    def tick_values(self, low: float, high: float) -> list[float]:
        if not 0 < low < high:
            return []
        room = _room(self.axis, low, high) if isinstance(self.axis, Axis) else _MOST_LABELS
        if self.base == 2:
            ticks = _powers(2, low, high, room)
            if len(ticks) > 2 or (len(ticks) == 2 and high / low < 6):
                return ticks
        return _round_numbers(low, high, room)


class MinorLocator(Locator):
    """Ticks without labels at all whole multiples of powers of ten: they crowd as a logarithm does."""

    def __call__(self) -> list[float]:
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        return self.tick_values(float(low), float(high))

    def tick_values(self, low: float, high: float) -> list[float]:
        if not 0 < low < high or not 3 <= high / low <= 1e6:
            return []
        return _multiples(low, high, range(1, 10))


def _powers(base: int, low: float, high: float, room: int) -> list[float]:
    """Powers inside the limits, every second or third one where there is no room for all."""
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / room))
    start = -(-first // step) * step  # multiples of the step, wherever the limits are
    return [float(base) ** k for k in range(start, last + 1, step)]


def _round_numbers(low: float, high: float, room: int) -> list[float]:
    decades = _powers(10, low, high, room)
    if len(decades) > 3 or high / low > 1e4:
        return decades
    found: list[float] = []
    for factors in _FACTORS:
        candidates = _multiples(low, high, factors)
        if len(candidates) <= max(room, 3) or not found:
            found = candidates
        if len(found) > 3:
            break
    if len(found) < 3:
        found = [float(t) for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high and t > 0]
    return found


def _multiples(low: float, high: float, factors: Sequence[float] | range) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [v for k in decades for f in factors if low * (1 - 1e-9) <= (v := f * 10.0**k) <= high * (1 + 1e-9)]


def _room(axis: Axis, low: float, high: float) -> int:
    """How many labels of numbers like these fit side by side."""
    length, size = _length(axis), _font_size(axis)
    if axis.axis_name == "y":  # type: ignore[attr-defined]
        return max(2, int(length / (1.9 * size)))
    widest = max(len(short(2.0 ** round(math.log2(v)))) for v in (low, high))
    return max(2, int(length / ((widest + 1.5) * _DIGIT * size)))


def _length(axis: Axis) -> float:
    """The axis's length in points."""
    axes: Axes = axis.axes
    box, figure = axes.bbox, axes.get_figure(root=True)
    assert figure is not None, "an axis that is drawn has a figure"
    return float((box.width if axis.axis_name == "x" else box.height) * 72 / figure.dpi)  # type: ignore[attr-defined]


def _font_size(axis: Axis) -> float:
    return float(axis.get_major_ticks(1)[0].label1.get_fontsize())


class RoomyFormatter(Formatter):
    """Numbers in plain writing; a label without room beside its neighbours is left out, while its tick stays."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        return short(float(value))

    def format_ticks(self, values: Any) -> list[str]:
        labels = [short(float(f"{float(value):.12g}")) for value in values]
        axis: Any = self.axis
        if getattr(axis, "axes", None) is None or len(labels) < 2:
            return labels
        to_scale = axis.get_transform().transform
        ends = to_scale(np.array(sorted(axis.get_view_interval())))
        places = to_scale(np.asarray(values, dtype=float))
        places = (places - ends[0]) / (ends[1] - ends[0]) * _length(axis)
        size = _font_size(axis)
        if axis.axis_name == "x":
            halves = [0.5 * _DIGIT * size * (_letters(label) + 1.0) for label in labels]
        else:
            halves = [0.62 * size] * len(labels)
        inside = [i for i in np.argsort(places) if -0.01 <= places[i] <= _length(axis) + 0.01]
        kept = set(_apart([places[i] for i in inside], [halves[i] for i in inside]))
        drawn = {inside[i] for i in kept}
        return [label if i in drawn else "" for i, label in enumerate(labels)]


def _letters(label: str) -> int:
    return len(label.replace("$", "").replace("\\times", "x").replace("^", "").replace("{", "").replace("}", ""))


def _apart(places: Sequence[float], halves: Sequence[float]) -> list[int]:
    """Which of these intervals to keep so that none touch: every second, third, ... where places are even, else first,
    last, and what fits between."""
    gaps = np.diff(places)
    if len(gaps) > 1 and gaps.max() < 1.05 * gaps.min():
        step = max(1, int(np.ceil((2 * max(halves)) / gaps.min())))
        return list(range(0, len(places), step))
    kept: list[int] = []
    for i, (place, half) in enumerate(zip(places, halves, strict=True)):
        if not kept or place - half >= places[kept[-1]] + halves[kept[-1]]:
            kept.append(i)
        elif i == len(places) - 1 and len(kept) > 1:
            while len(kept) > 1 and place - half < places[kept[-1]] + halves[kept[-1]]:
                kept.pop()
            kept.append(i)
    return kept

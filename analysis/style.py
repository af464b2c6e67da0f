"""How figures look: two styles as rcParams applied by context, a palette, and axes that say what they show.

The palette is that of Okabe and Ito (2008, "Color Universal Design"), safe for the colour-blind, without its yellow,
too light for lines on white paper. Colour is never alone: every group has its own marker and line style, so that a grey
print can be read.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tokscale.errors import UsageError, one_of
from tokscale.record import COLUMNS

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (8, 3)),
    (0, (3, 1, 1, 1)),
    "-",
)
PUBLISHED_GREY = "#707070"

_SHARED: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "font.family": "DejaVu Sans",
    "pdf.fonttype": 42,  # journals refuse the Type 3 fonts of matplotlib's default
    "svg.fonttype": "path",
    "svg.hashsalt": "tokscale",  # the same table gives the same file
}
STYLES: dict[str, Any] = {
    "paper": _SHARED
    | {
        "figure.figsize": (4.2, 3.4),
        "font.size": 9,
        "axes.labelsize": 9,
        "axes.titlesize": 9.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "lines.linewidth": 1.4,
        "lines.markersize": 5,
        "axes.linewidth": 0.7,
    },
    "slides": _SHARED
    | {
        "figure.figsize": (8.0, 5.6),
        "font.size": 16,
        "axes.labelsize": 17,
        "axes.titlesize": 18,
        "xtick.labelsize": 14,
        "ytick.labelsize": 14,
        "legend.fontsize": 14,
        "lines.linewidth": 2.6,
        "lines.markersize": 9,
        "axes.linewidth": 1.2,
    },
}

# A Fréchet distance means nothing without its feature network, so its axis always names it.
FRECHET = frozenset({"rfid", "rfd", "rfvd", "gfid", "gfd", "gfvd"})


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one group."""

    color: str
    marker: str
    line: Any

    @classmethod
    def of(cls, index: int) -> Look:
        """The look of the group at this place; after seven groups colours come again with other markers."""
        turn = index // len(PALETTE)
        return cls(
            PALETTE[index % len(PALETTE)],
            MARKERS[(index + turn) % len(MARKERS)],
            LINES[(index + turn) % len(LINES)],
        )


@contextlib.contextmanager
def style(name: str = "paper") -> Iterator[None]:
    """Draw and save figures in a style, ``paper`` or ``slides``; raises ``UsageError`` for another name."""
    if name not in STYLES:
        raise UsageError("no such figure style", given=name, allowed=one_of(STYLES, name))
    with matplotlib.rc_context(rc=STYLES[name]):
        yield


def axis_label(column: str, table: pd.DataFrame | None = None) -> str:
    """What to write on the axis of a column: label and unit, and for a Fréchet distance the features that it is of."""
    known = COLUMNS.get(column)
    if known is None:
        return column
    if column not in FRECHET:
        return known.axis
    return f"{known.label} ({feature_names(table, column)})"


def feature_names(table: pd.DataFrame | None, column: str) -> str:
    """The feature networks behind a Fréchet column, in words; says so where the table does not tell."""
    if table is None or "features" not in table or column not in table:
        return "features not recorded"
    names = sorted({str(name) for name in table.loc[table[column].notna(), "features"].dropna()})
    return ", ".join(names) if names else "features not recorded"


def plain(value: float, digits: int = 3) -> str:
    """A number as a person writes it: 3 significant digits, no exponent between 0.001 and ten million."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        shown = f"{value:.{digits}g}"
        if "e" in shown:
            shown = f"{value:.0f}"
        return shown.replace("-", "\N{MINUS SIGN}")
    return f"{value:.{digits - 1}e}".replace("-", "\N{MINUS SIGN}")


def size_axis(axis: Axis, sizes: Iterable[float], most: int = 7) -> None:
    """Make an axis of sizes logarithmic, with plain ticks: the sizes themselves if they are few, else powers of two."""
    finite = sorted({float(v) for v in sizes if math.isfinite(v) and v > 0})
    if not finite:
        return
    apart = all(b / a > 1.2 for a, b in itertools.pairwise(finite))
    if len(finite) <= most and (apart or finite[-1] / finite[0] < 2):
        _set_log(axis, 2)
        _set_ticks(axis, finite)
    else:
        log2_axis(axis, finite[0] / 1.3, finite[-1] * 1.3, most)


def log2_axis(axis: Axis, low: float, high: float, most: int = 7) -> None:
    """Make an axis logarithmic with ticks at powers of two shown as plain numbers; both ends where there is but one."""
    if not 0 < low < high:
        return
    _set_log(axis, 2)
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    step = max(1, math.ceil((last - first + 1) / most))
    inside = [2.0**k for k in range(first, last + 1, step)]
    _set_ticks(axis, inside if len(inside) > 1 else [float(f"{low * 1.02:.3g}"), float(f"{high / 1.02:.3g}")])


def log10_axis(axis: Axis, low: float, high: float) -> None:
    """Make an axis logarithmic with ticks at round numbers between powers of ten, shown as plain numbers.

    Within a factor of three too few of them fall, and a linear axis is drawn: there both scales look the same.
    """
    if not 0 < low <= high or high / low < 3:
        return
    _set_log(axis, 10)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        ticks = [f * 10.0**k for k in decades for f in factors if low <= f * 10.0**k <= high]
        if len(ticks) > 3:
            break
    _set_ticks(axis, ticks)


def _set_log(axis: Axis, base: int) -> None:
    setter = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale  # type: ignore[attr-defined]
    setter("log", base=base)


def _set_ticks(axis: Axis, ticks: list[float]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value, 6)))
    axis.set_minor_locator(NullLocator())

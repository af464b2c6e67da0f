"""How figures look: two styles as rcParams applied by context, a palette, and axes that say what they show.

The palette is that of Okabe and Ito (2008, "Color Universal Design"), safe for the colour-blind, without its yellow,
too light for lines on white paper; neighbours are far apart in lightness. Colour is never alone: every group has its
own marker and line style, so that a grey print can be read. ``paper`` is made for a column of 3.35 inches, printed at
its own size: no text is smaller than 6.5 points.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.colors import to_rgb

from tokscale.columns import without_scale
from tokscale.errors import UsageError, one_of
from tokscale.feature_names import behind
from tokscale.record import COLUMNS

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#000000", "#56B4E9", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (9, 3)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 3)),
)
PUBLISHED_GREY = "#707070"
INK = "#262626"
QUIET = "#595959"  # contrast 7 : 1 on white
FAINT = "#bdbdbd"
SEQUENTIAL = "cividis"  # monotone in lightness, the same for the colour-blind (Nuñez et al. 2018)

_SHARED: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "axes.facecolor": "white",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.2,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # journals refuse the Type 3 fonts of matplotlib's default
    "svg.fonttype": "path",
    "svg.hashsalt": "tokscale",  # the same table gives the same file
}
STYLES: dict[str, Any] = {
    "paper": _SHARED
    | {
        "figure.figsize": (3.35, 2.5),
        "font.size": 7.5,
        "axes.labelsize": 7.5,
        "axes.titlesize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "xtick.minor.size": 1.6,
        "ytick.minor.size": 1.6,
        "legend.fontsize": 7,
        "legend.labelspacing": 0.35,
        "lines.linewidth": 1.2,
        "lines.markersize": 4.2,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.45,
        "ytick.minor.width": 0.45,
    },
    "slides": _SHARED
    | {
        "figure.figsize": (8.0, 5.4),
        "font.size": 16,
        "axes.labelsize": 17,
        "axes.titlesize": 18,
        "xtick.labelsize": 15,
        "ytick.labelsize": 15,
        "xtick.major.size": 6,
        "ytick.major.size": 6,
        "xtick.minor.size": 3,
        "ytick.minor.size": 3,
        "legend.fontsize": 15,
        "legend.labelspacing": 0.35,
        "lines.linewidth": 2.6,
        "lines.markersize": 9,
        "axes.linewidth": 1.2,
        "grid.linewidth": 0.9,
    },
}

# A Fréchet distance means nothing without its feature network, so its axis always names it.
_OF_CLIPS = frozenset({"rfvd", "rfcd", "gfvd", "gfcd"})
FRECHET = frozenset({"rfid", "rfdd", "rfd", "gfid", "gfdd", "gfd", "gfid_inf", "gfdd_inf", "gfd_inf"}) | _OF_CLIPS


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one group."""

    color: str
    marker: str
    line: Any

    @classmethod
    def of(cls, index: int) -> Look:
        """The look of the group at this place; after seven groups colours come again with other markers and lines."""
        turn = index // len(PALETTE)
        place = (index + turn) % len(MARKERS)
        return cls(PALETTE[index % len(PALETTE)], MARKERS[place], LINES[place])


_kept: ContextVar[dict[str, int] | None] = ContextVar("_kept", default=None)


@contextlib.contextmanager
def same_looks(figures: Iterable[Sequence[str]]) -> Iterator[None]:
    """Give groups of one name one look in all figures drawn inside; ``figures`` are the groups of those to come.

    The largest figure's groups come first, so that those of its parts are told apart as well.
    """
    token = _kept.set({})
    try:
        for labels in sorted(figures, key=len, reverse=True):
            looks_of(labels)
        yield
    finally:
        _kept.reset(token)


def looks_of(labels: Sequence[str]) -> list[Look]:
    """A look for each group of a figure, by its name: all different, in the palette's order where nothing is kept."""
    kept = _kept.get()
    if kept is None or list(labels) == [""]:
        return [Look.of(place) for place in range(len(labels))]
    known = {kept[label] for label in labels if label in kept}
    taken: set[int] = set()
    places = []
    for label in labels:
        place = kept.get(label, -1)
        if place < 0 or place in taken:
            place = next(place for place in itertools.count() if place not in known | taken)
        taken.add(place)
        kept.setdefault(label, place)
        places.append(place)
    return [Look.of(place) for place in places]


@contextlib.contextmanager
def style(name: str = "paper") -> Iterator[None]:
    """Draw and save figures in a style, ``paper`` or ``slides``; raises ``UsageError`` for another name."""
    if name not in STYLES:
        raise UsageError("no such figure style", given=name, allowed=one_of(STYLES, name))
    with matplotlib.rc_context(rc=STYLES[name]):
        yield


def luminance(color: Any) -> float:
    """The relative luminance of a colour, 0 black to 1 white (WCAG 2.1), what is left of it in a grey print."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: Any, second: Any) -> float:
    """The contrast ratio of two colours, from 1 to 21 (WCAG 2.1); text wants 4.5."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def ink_on(color: Any) -> str:
    """Black or white: what can be read on this colour."""
    return "#000000" if contrast(color, "#000000") >= contrast(color, "#ffffff") else "#ffffff"


def axis_label(column: str, table: pd.DataFrame | None = None) -> str:
    """What to write on the axis of a column: label and unit, and for a Fréchet distance the features that it is of."""
    known = COLUMNS.get(column)
    if known is None:
        return column
    if not is_frechet(column):
        return known.axis.replace(" x ", " \N{MULTIPLICATION SIGN} ")
    return f"{known.label} ({feature_names(table, column)})"


def is_frechet(column: str) -> bool:
    """Whether a column holds a Fréchet distance, at whatever scale of guidance."""
    return without_scale(column) in FRECHET


def feature_names(table: pd.DataFrame | None, column: str) -> str:
    """The feature networks behind a Fréchet column, in words; says so where the table does not tell."""
    features = "clip_features" if without_scale(column) in _OF_CLIPS else "features"
    if table is None or features not in table or column not in table:
        return "features not recorded"
    names = sorted({behind(column, str(name)) for name in table.loc[table[column].notna(), features].dropna()})
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


def short(value: float, digits: int = 3) -> str:
    """A number as it stands on an axis: 85.8M and 1.2G for large counts, powers of ten for what is larger or tiny.

    Powers of two below ten million stay whole.
    """
    size = abs(value)
    if 0 < size < 1e-3:
        decimals = f"{value:.7f}".rstrip("0")
        if len(decimals) <= 7 and float(decimals) == value:
            return decimals.replace("-", "\N{MINUS SIGN}")
        return _power(value, digits)
    if not math.isfinite(value) or size < 1e6 or (size < 1e7 and math.log2(size).is_integer()):
        return plain(value, 6)
    if size >= 0.9995e13:
        return _power(value, digits)
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if size >= 0.9995 * unit:
            return f"{plain(value / unit, digits)}{name}"
    raise AssertionError(f"{value} is neither small nor large")


def _power(value: float, digits: int) -> str:
    power = math.floor(math.log10(abs(value)) + 1e-9)
    front = f"{value / 10.0**power:.{digits}g}"
    return f"$10^{{{power}}}$" if front == "1" else f"${front}\\times 10^{{{power}}}$"

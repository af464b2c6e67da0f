"""The style can be read: in grey, by the colour-blind, at the width of a column."""

from __future__ import annotations

import itertools
import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.style import (
    LINES,
    MARKERS,
    PALETTE,
    QUIET,
    SEQUENTIAL,
    STYLES,
    Look,
    axis_label,
    contrast,
    ink_on,
    looks_of,
    luminance,
    plain,
    same_looks,
    short,
    style,
)
from tokscale.errors import UsageError


def lightness(color) -> float:
    """CIE L* from 0 to 100."""
    y = luminance(color)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def drawn_in_grey(look: Look) -> np.ndarray:
    """A line with a marker as a grey print shows it: pixels (h, w) from 0 to 1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style("paper"):
        figure = Figure(figsize=(1, 0.3), dpi=200)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 2)
        axes.plot([0, 1, 2], [0, 0, 0], color=look.color, marker=look.marker, linestyle=look.line)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3] @ np.array([0.2126, 0.7152, 0.0722]) / 255


def test_every_two_groups_differ_in_marker_and_line_and_in_grey() -> None:
    looks = [Look.of(i) for i in range(7)]
    assert len({look.marker for look in looks}) == len({str(look.line) for look in looks}) == 7
    pictures = [drawn_in_grey(look) for look in looks]
    for (i, first), (j, second) in itertools.combinations(enumerate(pictures), 2):
        inked = (first < 0.9) | (second < 0.9)
        assert np.abs(first - second)[inked].mean() > 0.1, f"groups {i} and {j} look alike in grey"


def test_the_first_groups_are_far_apart_in_lightness() -> None:
    values = [lightness(color) for color in PALETTE[:4]]
    assert all(abs(a - b) > 11 for a, b in itertools.combinations(values, 2))
    assert len(PALETTE) == len(MARKERS) == len(LINES)


def test_a_group_keeps_its_look_in_every_figure() -> None:
    whole, part = ["KL", "VQ", "FSQ"], ["VQ", "FSQ"]
    assert looks_of(part) == [Look.of(0), Look.of(1)]
    with same_looks([part, whole]):
        assert looks_of(whole) == [Look.of(0), Look.of(1), Look.of(2)]
        assert looks_of(part) == [Look.of(1), Look.of(2)]
        assert looks_of([""]) == [Look.of(0)]
        assert looks_of(["FSQ", "LFQ", "VQ"]) == [Look.of(2), Look.of(0), Look.of(1)]
        # KL and LFQ never stood together before; one of them must give way here
        assert looks_of(["KL", "LFQ", "FSQ"]) == [Look.of(0), Look.of(1), Look.of(2)]
        assert looks_of(["KL", "LFQ"]) == [Look.of(0), Look.of(1)]
        assert looks_of(["x", "x"]) == [Look.of(0), Look.of(1)]
    assert looks_of(part) == [Look.of(0), Look.of(1)]


def test_many_groups_have_looks_of_their_own() -> None:
    assert len({(look.color, look.marker) for look in map(Look.of, range(49))}) == 49


def test_the_sequence_is_monotone_in_lightness_and_its_numbers_can_be_read() -> None:
    colors = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 1, 101))
    assert (np.diff([lightness(color) for color in colors]) > 0).all()
    assert min(contrast(ink_on(color), color) for color in colors) > 4.5, "WCAG AA"


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.005)
    assert contrast(QUIET, "white") > 7


def test_paper_fits_a_column_and_slides_are_larger() -> None:
    paper, slides = STYLES["paper"], STYLES["slides"]
    assert paper["figure.figsize"][0] == 3.35
    sizes = [name for name in paper if name.endswith(("font.size", "labelsize", "fontsize", "titlesize"))]
    assert all(paper[name] >= 6.5 for name in sizes)
    assert all(slides[name] >= 2 * paper[name] for name in sizes)
    assert paper["pdf.fonttype"] == 42, "no Type 3 fonts"


def test_style_leaves_no_trace() -> None:
    before = matplotlib.rcParams["font.size"]
    with style("slides"):
        assert matplotlib.rcParams["font.size"] == 16
    assert matplotlib.rcParams["font.size"] == before
    with pytest.raises(UsageError, match="did you mean 'paper'"), style("papr"):
        pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.00234, "0.00234"), (65536.0, "65536"), (math.nan, "\N{EN DASH}"), (1.5e9, "1.50e9"),
        (-2.5, "\N{MINUS SIGN}2.5"),
    ],
)  # fmt: skip
def test_plain_numbers(value: float, said: str) -> None:
    assert plain(value, 3).replace("+0", "") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (85.8e6, "85.8M"), (1.2e9, "1.2G"), (2.0**20, "1048576"), (999.7e6, "1G"), (512, "512"), (0.05, "0.05"),
        (1e18, "$10^{18}$"), (4.3e14, "$4.3\\times 10^{14}$"), (2.9e12, "2.9T"), (-3e6, "\N{MINUS SIGN}3M"), (0, "0"),
        (0.00015, "0.00015"), (1e-6, "$10^{-6}$"),
        (-2.5e-7, "$-2.5\\times 10^{-7}$"),
    ],
)  # fmt: skip
def test_short_numbers(value: float, said: str) -> None:
    assert short(value) == said


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("psnr", "PSNR (dB)"), ("rfd", "rFD (random-conv)"), ("gfid", "gFID (features not recorded)"),
        ("training.lr", "training.lr"), ("ar_bits_per_image", "AR rate (bits/image)"),
        ("bottleneck_floats", "Bottleneck floats E = L \N{MULTIPLICATION SIGN} c"),
    ],
)  # fmt: skip
def test_axis_labels(column: str, said: str) -> None:
    assert axis_label(column, pd.DataFrame({"rfd": [1.0], "psnr": [20.0], "features": ["random-conv"]})) == said

"""Axes are honest: ticks where the sizes are or at round numbers, and labels that say the number that they stand at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.ticks import LogLocator, MinorLocator, linear_axis, log2_axis, log10_axis, size_axis
from analysis.style import short, style


def labels(axes: Axes, which: str = "x") -> list[str]:
    axes.get_figure().draw_without_rendering()
    axis = axes.xaxis if which == "x" else axes.yaxis
    return [text.get_text() for text in axis.get_ticklabels()]


def test_few_sizes_are_the_ticks(axes: Axes) -> None:
    size_axis(axes.xaxis, [43.3e6, 85.8e6, 383.7e6, 85.8e6])
    assert axes.get_xscale() == "log"
    assert axes.get_xticks().tolist() == [43.3e6, 85.8e6, 383.7e6]
    assert labels(axes) == ["43.3M", "85.8M", "384M"]
    assert len(axes.get_xticks(minor=True)) == 0


def test_a_narrow_panel_labels_every_second_size_and_keeps_all_ticks() -> None:
    with style("paper"):
        axes = Figure(layout="constrained").subplots()
        size_axis(axes.xaxis, [2.0**k for k in range(8, 17)])
        assert axes.get_xticks().tolist() == [2.0**k for k in range(8, 17)]
        assert labels(axes) == ["256", "", "1024", "", "4096", "", "16384", "", "65536"]


def test_many_sizes_have_ticks_at_powers_of_two(axes: Axes) -> None:
    size_axis(axes.xaxis, [2.0**k for k in range(6, 21)])
    ticks = axes.get_xticks()
    assert (np.log2(ticks) % 1 == 0).all()
    assert len(np.unique(np.diff(np.log2(ticks)))) == 1


def test_sizes_that_touch_are_not_labelled_both() -> None:
    with style("paper"):
        axes = Figure(layout="constrained").subplots()
        size_axis(axes.xaxis, [256, 4096, 5000, 65536])
        assert [text for text in labels(axes) if text] in (["256", "4096", "65536"], ["256", "5000", "65536"])


@pytest.mark.parametrize("sizes", [[0, 1, 2], [-1.0, 5.0], []])
def test_a_logarithm_hides_no_size(axes: Axes, sizes: list[float]) -> None:
    size_axis(axes.xaxis, sizes)
    assert axes.get_xscale() == "linear"


def test_one_size_has_one_tick(axes: Axes) -> None:
    size_axis(axes.xaxis, [4096, 4096])
    low, high = axes.get_xlim()
    assert low < 4096 < high
    assert labels(axes) == ["4096"]


def test_narrow_ranges_stay_linear_and_wide_ones_have_minor_ticks(axes: Axes) -> None:
    axes.set_ylim(1.0, 2.0)
    log10_axis(axes.yaxis)
    assert axes.get_yscale() == "linear"
    axes.set_ylim(0.02, 30)
    log10_axis(axes.yaxis)
    assert axes.get_yscale() == "log"
    minor = axes.get_yticks(minor=True)
    leading = minor / 10 ** np.floor(np.log10(minor) + 1e-9)
    np.testing.assert_allclose(leading, np.round(leading), atol=1e-9)
    assert all(label.get_text() == "" for label in axes.yaxis.get_ticklabels(minor=True))


@given(low=st.floats(1e-6, 1e12), ratio=st.floats(1.02, 1e9), base=st.sampled_from([2, 10]))
def test_ticks_lie_inside_are_few_and_say_their_own_number(low: float, ratio: float, base: int) -> None:
    ticks = LogLocator(base).tick_values(low, low * ratio)
    assert 2 <= len(ticks) <= 11
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-6) <= tick <= low * ratio * (1 + 1e-6) for tick in ticks)
    for tick in ticks:
        text = short(float(f"{tick:.12g}"))
        if "$" not in text and text[-1].isdigit() and "e" not in text:
            assert float(text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(tick, rel=1e-5)
    assert len(MinorLocator().tick_values(low, low * ratio)) <= 60


def test_linear_axes_are_written_plainly(axes: Axes) -> None:
    axes.set_xlim(0, 100_000_000)
    linear_axis(axes.xaxis)
    assert set(labels(axes)) <= {"0", "20M", "40M", "60M", "80M", "100M", ""}
    assert axes.xaxis.get_offset_text().get_text() == ""
    log2_axis(axes.yaxis)
    assert axes.get_yscale() == "log"

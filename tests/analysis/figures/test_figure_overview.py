"""The sweep in two panels, groups side by side, published points, and figures as files."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures import comparison, overview, panel, rendered
from analysis.figures.files import make_room
from analysis.figures.references import references
from analysis.figures.series import levels, split
from analysis.style import MARKERS
from tokscale.errors import UsageError


def test_overview_of_any_table(trials, faults, texts) -> None:
    figure = overview(trials(kinds=("kl", "fsq")))
    assert len(figure.axes) == 2
    make_room(figure)
    assert faults(figure) == []
    empty = overview(trials().drop(columns=["psnr"]))
    assert texts(empty).count("no column psnr") == 2


@pytest.mark.parametrize(("ending", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_are_what_their_ending_says_and_repeat(trials, ending: str, head: bytes) -> None:
    contents = [rendered(overview(trials(("S",))), ending) for _ in range(2)]
    assert contents[0].startswith(head)
    assert contents[0] == contents[1]


def test_comparison_draws_intervals_and_marks_what_has_none(axes: Axes) -> None:
    groups = pd.DataFrame({"group": ["KL", "VQ"], "value": [20.0, 21.0], "low": [19.0, math.nan],
                           "high": [21.0, math.nan], "n": [3, 1]})  # fmt: skip
    comparison(groups, axes, y="psnr")
    hollow = [line.get_markerfacecolor() == "white" for line in axes.lines if line.get_marker() in MARKERS]
    assert hollow == [False, True]
    bars = [list(line.get_xdata()) for line in axes.lines if line.get_marker() not in MARKERS]
    assert bars == [[19.0, 21.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["KL  (n = 3)", "VQ  (n = 1)"]


def test_comparison_of_none_and_of_many(faults, texts) -> None:
    value = np.arange(20.0)
    rows = pd.DataFrame({"group": [f"kind {i}" for i in range(20)], "value": value, "n": 3})
    rows["low"], rows["high"] = value - 1, value + 1
    assert faults(panel(lambda axes: comparison(rows, axes, y="psnr"))) == []
    assert "psnr: no number in any row" in texts(
        panel(lambda axes: comparison(rows.assign(value=None), axes, y="psnr"))
    )


def test_published_points_lie_under_ones_own_only_where_comparable(trials) -> None:
    table = trials()
    (vitok,) = references(["vitok"], table, "bottleneck_floats", "psnr")
    assert len(vitok.x) == 15
    assert vitok.y[np.argmax(vitok.x)] == pytest.approx(39.94, abs=0.005)
    assert references(["vitok"], table, "bottleneck_floats", "rfid") == [], "other features"
    alike = table.assign(features="inception-torchvision")
    assert len(references(["vitok"], alike, "bottleneck_floats", "rfid")) == 1
    (sizes,) = references(["vitok"], table, "decoder_params", "psnr")
    assert (len(sizes.x), sizes.x.max()) == (7, pytest.approx(383.7e6))
    (generated,) = references(["vitok"], alike.assign(gfid=9.0), "bottleneck_floats", "gfid")
    assert generated.y[np.argmax(generated.x)] == pytest.approx(15.33, abs=0.005)
    shapes = references(["vitok-latent"], table, "floats_per_pixel", "ssim")
    assert [len(one.x) for one in shapes] == [5, 5, 4, 4]
    assert max(shapes[0].x) == 16384 / 256**2
    assert len(references(["vitok_fig20_masking"], table, "bottleneck_floats", "psnr")) == 2
    with pytest.raises(UsageError, match="did you mean 'vitok'"):
        references(["vitk"], table, "bottleneck_floats", "psnr")


def test_groups_are_named_and_ordered_as_people_do(trials) -> None:
    assert [label for label, _ in split(trials(), ["decoder"])] == ["decoder S", "decoder B", "decoder L"]
    kinds = pd.DataFrame({"bottleneck": ["vq", "kl", "fsq"], "training.lr": [1e-3, 1e-4, math.nan]})
    assert [label for label, _ in split(kinds, ["bottleneck"])] == ["KL", "VQ", "FSQ"]
    assert [label for label, _ in split(kinds, ["training.lr"])][:2] == ["lr 0.0001", "lr 0.001"]


def test_levels_are_sizes_more_than_five_percent_apart() -> None:
    values = pd.Series([100.0, 103.0, 1.0, 107.0, 200.0])
    assert levels(values).tolist() == [1, 1, 0, 1, 2], "each within 5 % of the next smaller one"

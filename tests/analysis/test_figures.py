"""Figures show what they are given: honest ticks, every point, bands that are the fit's, looks that survive grey."""

from __future__ import annotations

import math
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from analysis.figures import Series, comparison, overview, rate_distortion, scaling_curve, split
from analysis.figures.files import rendered
from analysis.figures.plane import frontier
from analysis.figures.references import references
from analysis.fitting import Fit, fit
from analysis.style import LINES, MARKERS, PALETTE, Look, axis_label, log2_axis, log10_axis, plain, size_axis, style
from tokscale.errors import UsageError


def rows(decoders: tuple[str, ...] = ("S", "B"), seeds: int = 1) -> pd.DataFrame:
    noise = np.random.default_rng(1)
    return pd.DataFrame([
        {"bottleneck_floats": e, "bottleneck_bits": math.nan, "decoder": d, "decoder_params": {"S": 1e6, "B": 4e6}[d],
         "bottleneck": "kl", "psnr": 2 * math.log2(e) + 8 + noise.normal(0, 0.1),
         "ar_bits_per_image": 3.0 * e**0.9, "mse": 0.1 / e, "rfd": 10 / e, "features": "random-conv", "seed": s}
        for e in (32, 64, 128, 256, 512) for d in decoders for s in range(seeds)
    ])  # fmt: skip


def axes() -> Axes:
    return Figure(layout="constrained").subplots()


def fitted(table: pd.DataFrame, law: str = "semilog", y: str = "psnr") -> Fit:
    found = fit(table, law=law, x="bottleneck_floats", y=y)
    assert isinstance(found, Fit)
    return found


def tick_labels(drawn: Axes) -> list[str]:
    return [label.get_text() for label in drawn.get_xticklabels()]


def drawn_points(drawn: Axes) -> np.ndarray:
    lines = [line for line in drawn.lines if line.get_linestyle() == "None" and line.get_marker() in MARKERS]
    return np.concatenate([np.asarray(line.get_xydata()) for line in lines])


def test_every_trial_is_a_point_and_the_line_is_the_fit() -> None:
    table = rows(("S",), seeds=3)
    found = fitted(table)
    drawn = scaling_curve([Series("decoder S", table, found)], axes(), x="bottleneck_floats", y="psnr")
    assert len(drawn_points(drawn)) == 15
    curve = max(drawn.lines, key=lambda line: len(line.get_xydata()))
    x, y = np.asarray(curve.get_xydata()).T
    np.testing.assert_allclose(y, found.predict(x)["value"])
    assert (x.min(), x.max()) == pytest.approx((32, 512)), "nothing is extrapolated"


def test_bands_are_the_intervals_and_prediction_is_wider() -> None:
    table = rows(("S",))
    found = fitted(table)
    drawn = scaling_curve([Series("", table, found)], axes(), x="bottleneck_floats", y="psnr")
    heights = {round(float(c.get_alpha()), 2): c.get_paths()[0].get_extents().height for c in drawn.collections}
    assert heights[0.07] > heights[0.18]
    ends = found.predict(np.array([32.0, 512.0]), interval=0.95, kind="confidence")
    box = next(c for c in drawn.collections if c.get_alpha() == 0.18).get_paths()[0].get_extents()
    assert (box.y0, box.y1) == pytest.approx((ends["low"].min(), ends["high"].max()), rel=1e-6)


def test_legend_names_group_points_and_r_squared() -> None:
    table = rows()
    series = [Series(label, group, fitted(group)) for label, group in split(table, ["decoder"])]
    drawn = scaling_curve(series, axes(), x="bottleneck_floats", y="psnr")
    texts = [text.get_text() for text in drawn.get_legend().get_texts()]
    assert [text.split(":")[0] for text in texts] == ["decoder S", "decoder B"], "by parameters, not by letter"
    assert all(re.search(r"n = 5, R² (0\.99\d|1\.000)$", text) for text in texts)


def test_size_axis_shows_plain_powers_of_two() -> None:
    drawn = scaling_curve([Series("", rows(("S",)))], axes(), x="bottleneck_floats", y="psnr")
    assert tick_labels(drawn) == ["32", "64", "128", "256", "512"]
    wide = axes()
    size_axis(wide.xaxis, [2.0**k for k in range(8, 21)])
    assert tick_labels(wide) == ["256", "1024", "4096", "16384", "65536", "262144", "1048576"]


def test_narrow_axes_have_two_ticks() -> None:
    drawn = axes()
    log2_axis(drawn.yaxis, 70, 120)
    assert len(drawn.get_yticks()) == 2
    log10_axis(drawn.xaxis, 1.0, 2.0)
    assert drawn.get_xscale() == "linear", "a narrow range stays linear"
    log10_axis(drawn.xaxis, 0.002, 0.02)
    assert tick_labels(drawn) == ["0.002", "0.005", "0.01", "0.02"]


def test_power_laws_are_drawn_on_logarithmic_axes() -> None:
    table = rows(("S",))
    drawn = scaling_curve([Series("", table, fitted(table, "power", "rfd"))], axes(), x="bottleneck_floats", y="rfd")
    assert drawn.get_yscale() == "log"


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("psnr", "PSNR (dB)"), ("rfd", "rFD (random-conv)"), ("gfid", "gFID (features not recorded)"),
        ("training.lr", "training.lr"), ("ar_bits_per_image", "AR rate (bits/image)"),
    ],
)  # fmt: skip
def test_axis_labels(column: str, said: str) -> None:
    assert axis_label(column, rows()) == said


def test_frontier_holds_what_nothing_beats() -> None:
    points = pd.DataFrame({"rate": [1.0, 2, 2, 3, 4], "psnr": [10.0, 12, 11, 11.5, 13]})
    assert frontier(points, "rate", "psnr").index.tolist() == [0, 1, 4]
    noise = np.random.default_rng(0).random((60, 2))
    cloud = pd.DataFrame(noise, columns=["rate", "mse"])
    beaten = [any((o < p).all() for o in noise) for p in noise]
    assert sorted(frontier(cloud, "rate", "mse").index) == [i for i, bad in enumerate(beaten) if not bad]


def test_plane_holds_all_kinds_and_leaves_out_the_unmeasured() -> None:
    table = rows()
    table.loc[0, "ar_bits_per_image"] = math.nan
    table.loc[5:, "bottleneck"] = "fsq"
    drawn = rate_distortion(table, axes(), by=["bottleneck"])
    labels = [text.get_text() for text in drawn.get_legend().get_texts()]
    assert {"KL: n = 4", "FSQ: n = 5"} <= set(labels)


def test_comparison_marks_what_has_no_interval() -> None:
    groups = pd.DataFrame({"group": ["KL", "VQ"], "value": [20.0, 21.0], "low": [19.0, math.nan],
                           "high": [21.0, math.nan], "n": [3, 1]})  # fmt: skip
    drawn = comparison(groups, axes(), y="psnr")
    hollow = [line.get_markerfacecolor() == "white" for line in drawn.lines if line.get_marker() in MARKERS]
    assert hollow == [False, True]
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["KL  (n = 3)", "VQ  (n = 1)"]


def test_published_points_lie_under_ones_own_only_where_comparable() -> None:
    table = rows()
    (vitok,) = references(["vitok"], table, "bottleneck_floats", "psnr")
    assert len(vitok.x) == 15
    assert vitok.y[np.argmax(vitok.x)] == pytest.approx(39.94, abs=0.005)
    assert references(["vitok"], table.assign(rfid=1.0), "bottleneck_floats", "rfid") == [], "other features"
    alike = table.assign(rfid=1.0, features="inception-torchvision")
    assert len(references(["vitok"], alike, "bottleneck_floats", "rfid")) == 1
    with pytest.raises(UsageError, match="did you mean 'vitok'"):
        references(["vitk"], table, "bottleneck_floats", "psnr")


def test_looks_differ_in_marker_line_and_grey() -> None:
    looks = [Look.of(i) for i in range(14)]
    assert len({(look.color, look.marker) for look in looks}) == 14
    assert len(PALETTE) == len(MARKERS) == len(LINES)
    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (to_rgb(look.color) for look in looks[:2])]
    assert abs(grey[0] - grey[1]) > 0.05


def test_overview_of_any_table() -> None:
    assert len(overview(rows()).axes) == 2
    empty = overview(rows().drop(columns=["psnr"]))
    assert all("not measured" in [text.get_text() for text in one.texts] for one in empty.axes)


@pytest.mark.parametrize(("ending", "head"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files_are_what_their_ending_says_and_repeat(ending: str, head: bytes) -> None:
    contents = [rendered(overview(rows(("S",))), ending) for _ in range(2)]
    assert contents[0].startswith(head)
    assert contents[0] == contents[1]


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
        (0.00234, "0.00234"),
        (65536.0, "65536"),
        (math.nan, "\N{EN DASH}"),
        (1.5e9, "1.50e9"),
        (-2.5, "\N{MINUS SIGN}2.5"),
    ],
)
def test_plain_numbers(value: float, said: str) -> None:
    assert plain(value, 3).replace("+0", "") == said

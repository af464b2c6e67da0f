"""Scaling curves show what they are given: every trial, the fit's own line and bands, and what was left out."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures import Reference, Series, curve, panel, rendered, scaling_curve, split
from analysis.figures.curves import CONFIDENCE_ALPHA, PREDICTION_ALPHA
from analysis.fitting import Fit, fit
from analysis.style import MARKERS

X = "bottleneck_floats"


def fitted(table: pd.DataFrame, law: str = "semilog", y: str = "psnr") -> Fit:
    found = fit(table, law=law, x=X, y=y)
    assert isinstance(found, Fit)
    return found


def points_of(axes: Axes) -> np.ndarray:
    lines = [line for line in axes.lines if line.get_linestyle() == "None" and line.get_marker() in MARKERS
             and line.get_gid() is None and line.get_label().startswith("_")]  # fmt: skip
    return np.concatenate([np.asarray(line.get_xydata()) for line in lines])


def band_of(axes: Axes, alpha: float) -> np.ndarray:
    (band,) = [c for c in axes.collections if c.get_alpha() == alpha]
    return band.get_paths()[0].vertices


def said(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_trial_is_a_point_and_the_line_is_the_fit(axes: Axes, trials) -> None:
    table = trials(("S",))
    found = fitted(table)
    scaling_curve([Series("decoder S", table, found)], axes, x=X, y="psnr")
    drawn = points_of(axes)
    np.testing.assert_array_equal(drawn, table[[X, "psnr"]].to_numpy(float))
    line = max(axes.lines, key=lambda line: len(line.get_xydata()))
    x, y = np.asarray(line.get_xydata()).T
    np.testing.assert_allclose(y, found.predict(x)["value"])
    assert (x.min(), x.max()) == pytest.approx((256, 32768)), "nothing is extrapolated"


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_bands_are_the_intervals_of_the_fit(axes: Axes, trials, level: float) -> None:
    table = trials(("S",))
    found = fitted(table, "power", "rfid")
    scaling_curve([Series("", table, found)], axes, x=X, y="rfid", level=level)
    for alpha, kind in ((CONFIDENCE_ALPHA, "confidence"), (PREDICTION_ALPHA, "prediction")):
        corners = band_of(axes, alpha)
        for x in np.unique(corners[:, 0])[[5, 30, -5]]:
            ends = found.predict([x], interval=level, kind=kind)
            drawn = corners[corners[:, 0] == x, 1]
            assert (drawn.min(), drawn.max()) == pytest.approx((ends["low"][0], ends["high"][0]), rel=1e-9)
    assert {f"{100 * level:.4g} % confidence", f"{100 * level:.4g} % prediction"} <= set(said(axes))


def test_short_bars_are_the_means_over_seeds(axes: Axes, trials) -> None:
    table = trials(("S",))
    scaling_curve([Series("", table)], axes, x=X, y="psnr")
    (bars,) = [line for line in axes.lines if line.get_gid() == "means"]
    expected = table.groupby(X)["psnr"].mean().reset_index()
    np.testing.assert_allclose(np.asarray(bars.get_xydata()), expected.to_numpy(float))


def test_configurations_of_one_size_have_no_mean(axes: Axes, trials) -> None:
    table = trials(seeds=1)
    scaling_curve([Series("", table)], axes, x=X, y="psnr")
    assert not [line for line in axes.lines if line.get_gid() == "means"]


def test_legend_names_group_points_and_r_squared(axes: Axes, trials) -> None:
    table = trials()
    series = [Series(label, group, fitted(group)) for label, group in split(table, ["decoder"])]
    scaling_curve(series, axes, x=X, y="psnr")
    texts = said(axes)
    assert [text.split(":")[0] for text in texts[:3]] == ["decoder S", "decoder B", "decoder L"], "not by letter"
    assert all(re.search(r"n = 8, R² (0\.9\d+|1\.000)$", text) for text in texts[:3])


def test_excluded_points_are_crosses_with_their_reason_and_number(axes: Axes, trials) -> None:
    table = trials(("S",), seeds=1)
    kept, away = table[table[X] < 8192], table[table[X] >= 8192]
    scaling_curve([Series("", kept, fitted(kept), {"E at least 8192": away})], axes, x=X, y="psnr")
    (crosses,) = [line for line in axes.lines if line.get_gid() == "excluded"]
    np.testing.assert_array_equal(np.asarray(crosses.get_xydata()), away[[X, "psnr"]].to_numpy(float))
    assert "3 left out: E at least 8192" in said(axes)
    low, high = axes.get_xlim()
    assert low < away[X].min() <= away[X].max() < high, "they are in view"


def test_what_a_logarithm_cannot_show_lies_on_the_axis_and_the_unmeasured_is_counted(axes: Axes, trials) -> None:
    table = trials(("S",), seeds=1)
    away = table.head(3).assign(rfid=[0.0, -1.0, np.nan])
    scaling_curve([Series("", table, fitted(table, "power", "rfid"), {"no error": away})], axes, x=X, y="rfid")
    (crosses,) = [line for line in axes.lines if line.get_gid() == "excluded"]
    assert np.asarray(crosses.get_ydata()).tolist() == [0, 0]
    height = crosses.get_transform().transform((512, 0))[1]
    assert height == pytest.approx(axes.transAxes.transform((0, 0))[1])
    assert "2 left out: no error (and 1 without a number)" in said(axes)


def test_published_points_are_drawn_as_given(axes: Axes, trials) -> None:
    reference = Reference("published", np.array([300.0, 70000.0]), np.array([20.0, 40.0]))
    scaling_curve([Series("", trials(("S",)))], axes, x=X, y="psnr", references=[reference])
    (stars,) = [line for line in axes.lines if line.get_label() == "published"]
    np.testing.assert_array_equal(np.asarray(stars.get_xydata()), [[300, 20], [70000, 40]])
    assert axes.get_xlim()[1] > 70000


def test_power_laws_are_drawn_on_axes_that_say_logarithm(axes: Axes, trials) -> None:
    table = trials(("S",))
    scaling_curve([Series("", table, fitted(table, "power", "rfid"))], axes, x=X, y="rfid")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylabel() == "rFID (random-conv), log scale"
    assert axes.get_xlabel().endswith(", log scale")


def test_a_wide_band_does_not_push_the_data_together(axes: Axes, trials) -> None:
    table = trials(("S",), sizes=(256, 1024, 4096), seeds=1)
    scaling_curve([Series("", table, fitted(table))], axes, x=X, y="psnr")
    low, high = axes.get_ylim()
    assert high - low < 1.6 * np.ptp(table["psnr"])


def test_one_fit_draws_itself(axes: Axes, trials) -> None:
    table = trials(("S",))
    found = fitted(table)
    curve(found, axes)
    np.testing.assert_allclose(points_of(axes), np.column_stack([found.points.x[0], found.points.y]))


def test_a_fit_of_two_columns_is_drawn_against_its_own_values(axes: Axes, trials) -> None:
    found = fit(trials(seeds=1), law="additive", x=[X, "decoder_params"], y="rfid")
    curve(found, axes)
    drawn = np.asarray(axes.lines[1].get_xydata())
    np.testing.assert_allclose(drawn[:, 0], found.residuals["value"])
    np.testing.assert_allclose(drawn[:, 1], found.points.y)


@pytest.mark.parametrize("look", ["paper", "slides"])
@pytest.mark.parametrize(("law", "y"), [("semilog", "psnr"), ("power", "rfid")])
def test_no_label_touches_another(trials, faults, look: str, law: str, y: str) -> None:
    series = [Series(label, group, fitted(group, law, y), {"x": group.head(1)}) for label, group in
              split(trials(), ["decoder"])]  # fmt: skip
    figure = panel(lambda axes: scaling_curve(series, axes, x=X, y=y), look=look)
    assert faults(figure) == []


def test_one_point_one_group_twenty_groups_five_thousand_points_and_none(trials, faults, texts) -> None:
    one = trials(("S",), sizes=(1024,), seeds=1)
    twenty = [Series(f"lr {i}", trials(("S",), seeds=1).assign(psnr=lambda t, i=i: t["psnr"] + i)) for i in range(20)]
    many = pd.concat([trials(("S",))] * 210, ignore_index=True).assign(seed=0).drop(columns="seed")
    many[X] = many[X] * np.random.default_rng(0).uniform(0.7, 1.4, len(many))
    none = trials(("S",)).assign(psnr=np.nan)
    for series in ([Series("", one)], twenty, [Series("", many)], [Series("", none)], []):
        figure = panel(lambda axes, series=series: scaling_curve(series, axes, x=X, y="psnr"))
        assert faults(figure) == []
    empty = panel(lambda axes: scaling_curve([Series("", none)], axes, x=X, y="psnr"))
    assert "psnr: no number in any row" in texts(empty)
    absent = panel(lambda axes: scaling_curve([Series("", none.drop(columns=X))], axes, x=X, y="psnr"))
    assert f"no column {X}" in texts(absent)
    cloud = panel(lambda axes: scaling_curve([Series("", many)], axes, x=X, y="psnr"))
    assert len(many) == 5040
    assert len(points_of(cloud.axes[0])) == len(many)
    assert len(rendered(cloud, "svg")) < 2_000_000


def test_of_sixty_groups_the_legend_names_some_and_counts_the_others(trials, faults, texts) -> None:
    one = trials(("S",), sizes=(256, 1024), seeds=1)
    many = [Series(f"lr {i}", one.assign(psnr=one["psnr"] + i)) for i in range(60)]
    figure = panel(lambda axes: scaling_curve(many, axes, x=X, y="psnr"))
    assert faults(figure) == []
    assert "and 33 more, not named" in texts(figure)
    assert figure.get_figheight() < 6


def test_the_same_table_gives_the_same_bytes(trials) -> None:
    table = trials(("S",))
    contents = [
        rendered(panel(lambda axes: scaling_curve([Series("", table, fitted(table))], axes, x=X, y="psnr")), ending)
        for ending in ("svg", "svg", "pdf", "pdf", "png", "png")
    ]
    assert contents[0] == contents[1]
    assert contents[2] == contents[3]
    assert contents[4] == contents[5]
    assert [content[:4] for content in contents[::2]] == [b"<?xm", b"%PDF", b"\x89PNG"]

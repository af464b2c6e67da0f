"""Planes of two measures: every configuration where it was measured, the front that nothing beats, and its doubts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures import panel, plane, rate_distortion, rendered
from analysis.figures.planes import undominated
from analysis.figures.series import averaged
from analysis.published_tables import published
from analysis.questions.pareto import pareto_front
from analysis.style import MARKERS


def markers_of(axes: Axes) -> np.ndarray:
    lines = [line for line in axes.lines if line.get_marker() in MARKERS and len(line.get_xydata())]
    return np.concatenate([np.asarray(line.get_xydata()) for line in lines])


def by_gid(axes: Axes, gid: str) -> np.ndarray:
    return np.asarray(next(line for line in axes.lines if line.get_gid() == gid).get_xydata())


def ordered(places: np.ndarray) -> np.ndarray:
    return places[np.lexsort(places.T)]


def test_front_holds_what_nothing_beats() -> None:
    points = pd.DataFrame({"rate": [1.0, 2, 2, 3, 4], "psnr": [10.0, 12, 11, 11.5, 13]})
    assert undominated(points, "rate", "psnr").index.tolist() == [0, 1, 4]
    noise = np.random.default_rng(0).random((60, 2))
    cloud = pd.DataFrame(noise, columns=["rate", "mse"])
    beaten = [any((o < p).all() for o in noise) for p in noise]
    assert sorted(undominated(cloud, "rate", "mse").index) == [i for i, bad in enumerate(beaten) if not bad]


def test_points_are_means_over_seeds_and_seeds_lie_behind(axes: Axes, trials) -> None:
    table = trials(("S", "B"))
    plane(table, axes, by=["decoder"])
    means = table.groupby(["decoder", "bottleneck_floats"])[["rfid", "gfid"]].mean().to_numpy()
    np.testing.assert_allclose(ordered(markers_of(axes)), ordered(means))
    np.testing.assert_array_equal(ordered(by_gid(axes, "seeds")), ordered(table[["rfid", "gfid"]].to_numpy()))


def test_the_staircase_is_a_bound_of_all_points(axes: Axes, trials) -> None:
    table = trials()
    plane(table, axes)
    corners = by_gid(axes, "front")
    assert ((np.diff(corners[:, 0]) == 0) | (np.diff(corners[:, 1]) == 0)).all()
    for x, y in markers_of(axes):
        reached = corners[corners[:, 0] <= x]
        assert len(reached) == 0 or y >= reached[:, 1].min() - 1e-12, "no point is better than the front"


def test_arrows_lead_from_small_to_large_within_a_family(axes: Axes) -> None:
    table = published("gigatok_fig3_fig7_semreg_scaling")
    plane(table, axes, x="rFID", y="ar_probe_gFID", by=["semantic_regularization"], size="params_M")
    arrows = [note for note in axes.texts if getattr(note, "arrow_patch", None) is not None and not note.get_text()]
    assert len(arrows) == 4
    sizes = {(row.rFID, row.ar_probe_gFID): (row.semantic_regularization, row.params_M) for row in table.itertuples()}
    for arrow in arrows:
        start, end = sizes[tuple(arrow.xyann)], sizes[tuple(arrow.xy)]
        assert start[0] == end[0]
        assert start[1] < end[1]


def test_probabilities_of_the_front_are_the_faces(axes: Axes, trials) -> None:
    table = trials(("S",))
    front = pareto_front(table, "rfid", "gfid")
    plane(table, axes, front=front)
    faces = {}
    for line in axes.lines:
        if line.get_marker() in MARKERS:
            face = line.get_markerfacecolor()
            kind = "hollow" if face == "white" else "light" if isinstance(face, tuple) else "filled"
            faces |= {tuple(place): kind for place in np.asarray(line.get_xydata())}
    for one in front.members:
        assert one.probability is not None
        expected = "filled" if one.probability >= 0.95 else "hollow" if one.probability <= 0.05 else "light"
        assert faces[one.x, one.y] == expected
    corners = by_gid(axes, "front")
    assert {(one.x, one.y) for one in front.front} <= {tuple(corner) for corner in corners}


def test_rates_hold_all_kinds_and_leave_out_the_unmeasured(axes: Axes, trials) -> None:
    table = trials(("S",), seeds=1, kinds=("kl", "fsq"))
    table.loc[0, "ar_bits_per_image"] = math.nan
    table.loc[1, "ar_bits_per_image"] = 0.0
    rate_distortion(table, axes, y="mse")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"KL: n = 6", "FSQ: n = 8"} <= set(labels)
    np.testing.assert_allclose(
        ordered(markers_of(axes)), ordered(table.iloc[2:][["ar_bits_per_image", "mse"]].to_numpy(float))
    )
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_the_hull_lies_below_all_points_and_is_convex(axes: Axes, trials) -> None:
    table = trials(kinds=("kl", "fsq"))
    rate_distortion(table, axes, y="mse", hull=True)
    hull = by_gid(axes, "hull")
    points = averaged(table, ("ar_bits_per_image", "mse"))
    below = np.interp(points["ar_bits_per_image"], hull[:, 0], hull[:, 1])
    assert (points["mse"] >= below - 1e-15).all()
    slopes = np.diff(hull[:, 1]) / np.diff(hull[:, 0])
    assert (np.diff(slopes) > 0).all()


def test_bands_of_rates_are_students_intervals_of_the_means(axes: Axes, trials) -> None:
    from scipy import stats

    table = trials(("S",), seeds=3)
    rate_distortion(table, axes, y="psnr")
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    groups = table.groupby("bottleneck_floats")["psnr"]
    error = math.sqrt((groups.var() * 2).sum() / (2 * len(groups)) / 3)
    half = stats.t(2 * len(groups)).ppf(0.975) * error
    rate = table.groupby("bottleneck_floats")["ar_bits_per_image"].mean().iloc[3]
    drawn = corners[np.isclose(corners[:, 0], rate), 1]
    mean = groups.mean().iloc[3]
    assert (drawn.min(), drawn.max()) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize("look", ["paper", "slides"])
def test_no_label_touches_another(trials, faults, texts, look: str) -> None:
    gigatok = published("gigatok_fig3_fig7_semreg_scaling")
    named = panel(lambda axes: plane(gigatok, axes, x="rFID", y="ar_probe_gFID", by=["semantic_regularization"],
                                     size="params_M", label="model"), look=look)  # fmt: skip
    assert faults(named) == []
    assert texts(named).count("S-S") == 2, "there is room for all names"
    table = trials(kinds=("kl", "fsq"))
    front = pareto_front(table, "rfid", "gfid")
    for figure in (
        panel(lambda axes: plane(table, axes, by=["bottleneck", "decoder"], label="label", front=front), look=look),
        panel(lambda axes: rate_distortion(table, axes, y="mse", by=["bottleneck", "decoder"]), look=look),
    ):
        assert faults(figure) == []


def test_names_never_cover_a_point(trials) -> None:
    table = trials(("S",), seeds=1)
    figure = panel(lambda axes: plane(table, axes, label="label"))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    places = axes.transData.transform(table[["rfid", "gfid"]].to_numpy(float))
    named = [text for text in axes.texts if text.get_visible() and text.get_text()]
    assert named
    for text in named:
        box = text.get_window_extent()
        assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in places)


@pytest.mark.parametrize("draw", [plane, rate_distortion])
def test_one_point_twenty_groups_five_thousand_points_and_none(draw, trials, faults, texts) -> None:
    one = trials(("S",), sizes=(1024,), seeds=1)
    twenty = pd.concat([trials(("S",), seeds=1).assign(bottleneck=f"kind{i}") for i in range(20)], ignore_index=True)
    many = pd.concat([trials(("S",), seeds=1)] * 630, ignore_index=True)
    noise = np.random.default_rng(0)
    for name in ("rfid", "gfid", "psnr", "ar_bits_per_image"):
        many[name] *= noise.uniform(0.8, 1.2, len(many))
    many = many.drop(columns="seed")
    for table in (one, twenty, many):
        assert faults(panel(lambda axes, table=table: draw(table, axes, by=["bottleneck"]))) == []
    empty = panel(lambda axes: draw(one.assign(gfid=np.nan, psnr=np.nan), axes))
    assert any("no number in any row" in text for text in texts(empty))
    absent = panel(lambda axes: draw(one[["trial", "seed"]], axes))
    assert any(text.startswith("no column") for text in texts(absent))


def test_the_same_table_gives_the_same_bytes(trials) -> None:
    table = trials()
    first, second = (rendered(panel(lambda axes: plane(table, axes, label="label")), "svg") for _ in range(2))
    assert first == second

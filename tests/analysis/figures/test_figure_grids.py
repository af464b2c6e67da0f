"""The heat map's numbers are the table's means, its colours theirs, and what nobody measured is seen to be missing."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from analysis.figures import heatmap, panel, rendered
from analysis.figures.grids import cells_of
from analysis.published_tables import published
from analysis.style import SEQUENTIAL, contrast


@pytest.fixture
def table(trials) -> pd.DataFrame:
    return trials(sizes=(4096,), encoders=("S", "B"), seeds=2)


def written(axes: Axes) -> dict[tuple[float, float], str]:
    return {tuple(text.get_position()): text.get_text() for text in axes.texts}


def test_numbers_are_means_over_seeds(axes: Axes, table) -> None:
    heatmap(table, axes, z="gfid")
    means = table.groupby(["decoder_params", "encoder_params"])["gfid"].mean().unstack()
    assert means.shape == (3, 2)
    image = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(image, means.to_numpy())
    for (row, column), value in np.ndenumerate(means.to_numpy()):
        assert float(written(axes)[column, row]) == pytest.approx(value, abs=0.05)
    assert "means of 2 seeds" in axes.figure.axes[1].get_ylabel()


def test_sides_are_the_sizes_with_their_names(axes: Axes, table) -> None:
    heatmap(table, axes, z="psnr")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["S\n43.3M", "B\n85.8M"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["S\n43.3M", "B\n85.8M", "L\n384M"]


@pytest.mark.parametrize(("z", "choose", "word"), [("psnr", "argmax", "highest"), ("gfid", "argmin", "lowest")])
def test_the_best_cell_is_framed(axes: Axes, table, z: str, choose: str, word: str) -> None:
    heatmap(table, axes, z=z)
    means = table.groupby(["decoder_params", "encoder_params"])[z].mean().unstack().to_numpy()
    row, column = np.unravel_index(getattr(means, choose)(), means.shape)
    frame = next(patch for patch in axes.patches if patch.get_gid() == "best")
    assert (frame.get_x() + 0.47, frame.get_y() + 0.47) == pytest.approx((column, row))
    assert f"framed: {word}" in axes.figure.axes[1].get_ylabel()


def test_what_nobody_measured_is_hatched(axes: Axes) -> None:
    sweep = published("vitok_fig6to9_encoder_decoder_sweep")
    heatmap(sweep, axes, x="enc_params_M", y="dec_params_M", z="rFID")
    hatched = {(p.get_x() + 0.5, p.get_y() + 0.5) for p in axes.patches if p.get_gid() == "missing"}
    assert hatched == {(2.0, 0.0), (2.0, 1.0)}, "L-S and L-B"
    assert len(axes.texts) == 7


def test_every_number_can_be_read_on_its_cell(axes: Axes, table) -> None:
    heatmap(table, axes, z="gfid")
    values = np.asarray(axes.images[0].get_array())
    colors = matplotlib.colormaps[SEQUENTIAL](axes.images[0].norm(values))
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        assert contrast(text.get_color(), to_rgba(colors[row, column])) > 4.5


def test_cells_that_mix_settings_say_so(axes: Axes, trials) -> None:
    heatmap(trials(encoders=("S", "B")), axes, z="psnr")
    assert "means over bottleneck channels" in axes.figure.axes[1].get_ylabel().replace("\n", " ")


def test_cells_with_fewer_seeds_say_how_many(axes: Axes, table) -> None:
    heatmap(table.iloc[1:], axes, z="psnr")
    assert all("(n " in text.get_text() for text in axes.texts)
    assert written(axes)[0, 0].endswith("(n 1)")


def test_sizes_that_differ_by_a_few_parameters_are_one_level() -> None:
    table = pd.DataFrame(
        {"a": [61970, 62100, 62360, 250000.0], "b": [1.0, 1.0, 1.0, 1.0], "psnr": [1.0, 2.0, 3.0, 4.0]}
    )
    cells = cells_of(table, "a", "b", "psnr")
    assert cells is not None
    assert cells.mean.tolist() == [[2.0, 4.0]]
    assert cells.count.tolist() == [[3, 1]]


def test_values_over_decades_are_coloured_by_their_logarithm(axes: Axes, trials) -> None:
    heatmap(trials(), axes, x="bottleneck_floats", y="decoder_params", z="rfid")
    norm = axes.images[0].norm
    assert norm(np.sqrt(norm.vmin * norm.vmax)) == pytest.approx(0.5)
    assert ", log scale" in axes.figure.axes[1].get_ylabel().replace("\n", " ")


@pytest.mark.parametrize("look", ["paper", "slides"])
def test_no_label_touches_another(table, trials, faults, look: str) -> None:
    assert faults(panel(lambda axes: heatmap(table, axes, z="gfid"), look=look)) == []
    wide = panel(lambda axes: heatmap(trials(), axes, x="bottleneck_floats", y="decoder_params", z="rfid"), look=look)
    assert faults(wide) == []


def test_one_cell_an_empty_column_and_a_hundred_levels(table, faults, texts) -> None:
    assert faults(panel(lambda axes: heatmap(table.head(1), axes, z="psnr"))) == []
    assert "gis: no number in any row" in texts(panel(lambda axes: heatmap(table.assign(gis=np.nan), axes, z="gis")))
    assert "no column lpips" in texts(panel(lambda axes: heatmap(table, axes, z="lpips")))
    levels = pd.DataFrame([{"a": 1.2**i, "b": 1.2**j, "psnr": i + j} for i in range(60) for j in range(80)])
    assert faults(panel(lambda axes: heatmap(levels, axes, x="a", y="b", z="psnr"))) == []


def test_the_same_table_gives_the_same_bytes(table) -> None:
    first, second = (rendered(panel(lambda axes: heatmap(table, axes, z="psnr")), "svg") for _ in range(2))
    assert first == second

"""Training curves: what was logged, averaged without bias; and the progress files that it is read from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures import losses, panel, read_progress
from analysis.figures.training import smoothed
from tokscale.errors import StoreError


def logged(trials: int, rows: int = 60) -> pd.DataFrame:
    noise = np.random.default_rng(0)
    images = np.linspace(100, 1e5, rows)
    return pd.concat([
        pd.DataFrame({"trial": f"t{k:02}", "images": images, "tokenizer_params": 1e6 * 2.0**k,
                      "loss": (1 + k) * images**-0.3 * np.exp(noise.normal(0, 0.05, rows)), "ar_loss": np.nan})
        for k in range(trials)
    ])  # fmt: skip


def smooth_lines(axes: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in axes.lines if line.get_gid() == "smooth"]


def test_the_average_is_that_of_its_definition() -> None:
    noise = np.random.default_rng(0)
    x, y = np.cumsum(noise.uniform(0.1, 5, 40)), noise.normal(size=40)
    span = x[-1] - x[0]
    weights = np.tril(0.5 ** ((x[:, None] - x[None, :]) / (0.1 * span)))
    np.testing.assert_allclose(smoothed(x, y, 0.1), weights @ y / weights.sum(axis=1))
    np.testing.assert_allclose(smoothed(x, np.full(40, 3.0), 0.1), 3.0)
    np.testing.assert_array_equal(smoothed(x, y, 0), y)
    assert smoothed([1.0], [2.0], 0.1).tolist() == [2.0]


def test_raw_and_smoothed_lines_are_the_rows(axes: Axes) -> None:
    frame = logged(3)
    losses(frame, axes)
    raw = [np.asarray(line.get_xydata()) for line in axes.lines if line.get_alpha() == 0.25]
    for drawn, smooth, (_, rows) in zip(raw, smooth_lines(axes), frame.groupby("trial"), strict=True):
        np.testing.assert_array_equal(drawn, rows[["images", "loss"]].to_numpy())
        np.testing.assert_allclose(smooth[:, 1], smoothed(rows["images"], rows["loss"], 0.02))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["t00", "t01", "t02"]


def test_many_trials_are_coloured_by_their_size_from_dark_to_light(axes: Axes) -> None:
    from analysis.style import luminance

    losses(logged(12), axes, size="tokenizer_params")
    shades = [luminance(line.get_color()) for line in axes.lines if line.get_gid() == "smooth"]
    assert len(shades) == 12
    assert (np.diff(shades) > 0).all()
    assert max(shades) < 0.65, "no line vanishes on white"
    bar = axes.figure.axes[1]
    assert bar.get_ylabel() == "Tokenizer parameters, log scale"
    assert axes.get_legend() is None


def test_losses_above_zero_are_seen_by_their_ratios(axes: Axes) -> None:
    frame = logged(2)
    losses(frame, axes)
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert low < frame["loss"].min() < frame["loss"].max() < high


def test_a_loss_below_zero_is_drawn_on_a_linear_axis(axes: Axes) -> None:
    frame = logged(2)
    losses(frame.assign(loss=frame["loss"] - 1), axes)
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize("look", ["paper", "slides"])
def test_no_label_touches_another(faults, look: str) -> None:
    for count, size in ((1, None), (5, None), (12, "tokenizer_params"), (20, None)):
        figure = panel(lambda axes, n=count, size=size: losses(logged(n), axes, size=size), look=look)
        assert faults(figure) == []


def test_one_row_five_thousand_rows_and_none(faults, texts) -> None:
    assert faults(panel(lambda axes: losses(logged(1, 1), axes))) == []
    assert faults(panel(lambda axes: losses(logged(2, 2500), axes))) == []
    assert "ar_loss: no number in any row" in texts(panel(lambda axes: losses(logged(2), axes, y="ar_loss")))
    assert "no column gan_loss" in texts(panel(lambda axes: losses(logged(2), axes, y="gan_loss")))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweeps" / "small"
    folder.mkdir(parents=True)
    (folder / "trials.jsonl").write_text('{"trial": "a", "stages": ["tokenizer/1", "probe/2", "latents/3"]}\n')
    for key, lines in {
        "tokenizer/1": [{"done": 10, "total": 40, "loss": 1.0}, {"done": 20, "total": 40, "loss": 0.9, "time": 5.0},
                        {"done": 30, "total": 40, "loss": 0.8}, {"done": 20, "total": 40, "loss": 0.91},
                        {"done": 40, "total": 40, "loss": 0.7}],
        "probe/2": [{"done": 5, "ar_loss": 3.0}],
    }.items():  # fmt: skip
        stage = tmp_path / "stages" / key
        stage.mkdir(parents=True)
        (stage / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"done": 50, "lo')
    return folder


def test_progress_is_read_without_what_a_later_attempt_did_again(sweep: Path) -> None:
    frame = read_progress(sweep, pd.DataFrame({"trial": ["a"], "label": ["S-B/16"], "tokenizer_params": [5.0]}))
    first = frame[frame["stage"] == "tokenizer"]
    assert first[["images", "loss"]].to_numpy().tolist() == [[10, 1.0], [20, 0.91], [40, 0.7]]
    assert frame.loc[frame["stage"] == "probe", "ar_loss"].tolist() == [3.0]
    assert set(frame["label"]) == {"S-B/16"}
    assert not {"time", "total", "per_second"} & set(frame.columns)


def test_a_sweep_without_trainings_and_a_damaged_list(sweep: Path) -> None:
    (sweep / "trials.jsonl").unlink()
    assert read_progress(sweep).empty
    (sweep / "trials.jsonl").write_text("{broken")
    with pytest.raises(StoreError, match="list of trials is damaged"):
        read_progress(sweep)

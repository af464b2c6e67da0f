"""Best sizes and frontiers are drawn where the answers put them, with their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis.figures import frontier, optimum, panel, residuals
from analysis.fitting import fit
from analysis.questions.best_size import best_bottleneck
from analysis.questions.frontier import iso_frontier
from analysis.style import MARKERS

X = "bottleneck_floats"


@pytest.fixture(scope="module")
def budgets() -> pd.DataFrame:
    noise = np.random.default_rng(3)
    rows = [{"trial": f"{n}-{d}", "tokenizer_params": n, "train_images": d, "train_flops": 6 * n * d,
             "mse": (0.001 + 30 * n**-0.45 + 900 * d**-0.6) * np.exp(noise.normal(0, 0.005))}
            for n in 1e6 * 2.0 ** np.arange(6) for d in 1e6 * 2.0 ** np.arange(6)]  # fmt: skip
    return pd.DataFrame(rows)


def bars_of(axes: Axes) -> list[list[float]]:
    return [list(line.get_xdata()) for line in axes.lines if line.get_gid() == "interval"]


def test_bars_are_the_intervals_of_the_best_sizes(axes: Axes, trials) -> None:
    table = trials()
    found = best_bottleneck(table, "gfid")
    assert all(one.resolved for one in found)
    optimum(found, axes, table=table)
    expected = sorted([one.low, one.high] for one in found)
    np.testing.assert_allclose(sorted(bars_of(axes)), expected)
    best = [line for line in axes.lines if line.get_gid() == "best"]
    at = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in best)
    np.testing.assert_allclose(at, sorted((one.size, one.at) for one in found))


def test_curves_are_those_of_the_answers(axes: Axes, trials) -> None:
    (found,) = best_bottleneck(trials(("S",)), "gfid")
    optimum([found], axes)
    line = max(axes.lines, key=lambda line: len(line.get_xydata()))
    x, y = np.asarray(line.get_xydata()).T
    np.testing.assert_allclose(y, found.curve(x))


def test_groups_stand_in_the_order_of_their_parameters(axes: Axes, trials) -> None:
    optimum(best_bottleneck(trials(), "gfid"), axes)
    texts = [text.get_text().split(",")[0] for text in axes.get_legend().get_texts()]
    assert texts[:3] == ["decoder S", "decoder B", "decoder L"]


def test_what_is_not_resolved_has_no_bar_and_says_so(axes: Axes, trials) -> None:
    found = best_bottleneck(trials(("S",)), "rfid")
    assert not found[0].resolved
    optimum(found, axes)
    assert bars_of(axes) == []
    assert "best size not resolved" in axes.get_legend().get_texts()[0].get_text()


def test_a_plain_fit_has_its_own_optimum(axes: Axes, trials) -> None:
    found = fit(trials(("S",)), law="quadratic", x=X, y="gfid")
    optimum([found], axes)
    (bar,) = bars_of(axes)
    low, high = sorted(axes.get_xlim())
    assert bar == pytest.approx([max(found.optimum["low"], low), min(found.optimum["high"], high)])


def test_the_frontier_is_the_answers(axes: Axes, budgets) -> None:
    answer = iso_frontier(budgets, "mse", "train_flops")
    frontier(answer, axes, table=budgets)
    steps = next(line for line in axes.lines if line.get_marker() in MARKERS)
    np.testing.assert_allclose(np.asarray(steps.get_xydata()), [(one.budget, one.y) for one in answer.trials])
    surface = next(line for line in axes.lines if line.get_label() == "best by the fitted surface")
    np.testing.assert_allclose(surface.get_xdata(), [one.budget for one in answer.surface])
    np.testing.assert_allclose(surface.get_ydata(), np.exp([one.y.value for one in answer.surface]))
    truth = [min(row.mse for row in budgets.itertuples() if row.train_flops <= one.budget) for one in answer.trials]
    np.testing.assert_allclose(steps.get_ydata(), truth)


def test_the_best_size_at_every_budget(axes: Axes, budgets) -> None:
    answer = iso_frontier(budgets, "mse", "train_flops")
    frontier(answer, axes, show="size")
    surface = next(line for line in axes.lines if line.get_label() == "best by the fitted surface")
    np.testing.assert_allclose(surface.get_ydata(), [one.first.value for one in answer.surface])
    assert axes.get_ylabel() == "Tokenizer parameters, log scale"


def test_residuals_are_the_fits(axes: Axes, trials) -> None:
    found = fit(trials(), law="power", x=X, y="rfid", by="decoder")
    residuals(found, axes)
    for one, line in zip(found, [line for line in axes.lines if line.get_marker() in MARKERS], strict=True):
        np.testing.assert_allclose(line.get_xdata(), one.residuals[X])
        np.testing.assert_allclose(line.get_ydata(), one.residuals["residual"])
    spread = np.concatenate([one.residuals["residual"] for one in found])
    levels = sorted(float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "None")
    expected = np.sqrt((spread**2).sum() / (len(spread) - 2 * len(found)))
    assert levels == pytest.approx([-expected, 0, expected])
    assert axes.get_ylabel() == "ln(measured / fitted rFID)"


@pytest.mark.parametrize("look", ["paper", "slides"])
def test_no_label_touches_another(trials, budgets, faults, look: str) -> None:
    table = trials()
    answer = iso_frontier(budgets, "mse", "train_flops")
    found = fit(table, law="quadratic", x=X, y="gfid", by="decoder")
    for draw in (
        lambda axes: optimum(best_bottleneck(table, "gfid"), axes, table=table),
        lambda axes: optimum(found, axes),
        lambda axes: frontier(answer, axes, table=budgets),
        lambda axes: frontier(answer, axes, show="size"),
        lambda axes: residuals(found, axes),
        lambda axes: residuals(found, axes, against="value"),
    ):
        assert faults(panel(draw, look=look)) == []


def test_no_answer_one_trial_and_twenty_groups(trials, faults, texts) -> None:
    assert "no curve to draw" in texts(panel(lambda axes: optimum([], axes)))
    (found,) = best_bottleneck(trials(("S",)), "gfid", by=())
    groups = [replace(found, group={"probe": i}) for i in range(20)]
    many = panel(lambda axes: optimum(groups, axes))
    assert faults(many) == []
    assert any(text.startswith("12 more not drawn") for text in texts(many))

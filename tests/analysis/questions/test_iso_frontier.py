"""The frontier over a budget: allocations equal closed forms and a brute-force minimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis.published_tables import published
from analysis.questions import iso_frontier
from analysis.questions.budgets import Budget, budget_of
from tokscale.errors import TableError, UsageError

GRID = np.array([(e, d) for e in (1e7, 3e7, 1e8, 3e8) for d in (1e7, 3e7, 1e8, 3e8)]).T


def loss(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 3 * (first / 1e7) ** -0.5 + 10 * (second / 1e7) ** -0.6)


def table_of(names: tuple[str, str], budget: str, spent: np.ndarray, noise: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    y = loss(*GRID) * np.exp(rng.normal(0, noise, GRID.shape[1]))
    return pd.DataFrame({names[0]: GRID[0], names[1]: GRID[1], budget: spent, "rfid": y})


def test_iso_flops_grow_as_in_closed_form() -> None:
    """For 6 N D, N grows with the budget to the power b / (a + b) (Hoffmann et al. 2022)."""
    names = ("tokenizer_params", "train_images")
    found = iso_frontier(table_of(names, "train_flops", 6 * GRID[0] * GRID[1]), "rfid", "train_flops")
    assert found.form == "product"
    assert found.resolved
    assert found.growth is not None
    assert found.growth.low is not None
    assert found.growth.high is not None
    assert found.growth.low < 0.6 / 1.1 < found.growth.high
    assert found.growth.value == pytest.approx(0.6 / 1.1, abs=0.05)
    for step in found.surface:
        assert 6 * step.first.value * step.second == pytest.approx(step.budget)


def test_iso_parameters_are_divided_at_the_minimum() -> None:
    names = ("encoder_params", "decoder_params")
    found = iso_frontier(table_of(names, "tokenizer_params", GRID.sum(axis=0) + 1e5), "rfid")
    assert found.form == "sum"
    for step in found.surface:
        rest = step.budget - 1e5
        truth = optimize.minimize_scalar(lambda e, rest=rest: loss(e, rest - e), bounds=(1e5, rest - 1e5),
                                         method="bounded")  # fmt: skip
        assert step.first.low is not None
        assert step.first.high is not None
        assert step.first.low < truth.x < step.first.high
        assert step.y.low is not None
        assert step.y.high is not None
        assert step.y.low < np.log(truth.fun) < step.y.high
    assert "is best spent on" in found.sentence()


@pytest.mark.parametrize("form", ["sum", "product"])
def test_the_best_division_is_the_least_on_a_fine_grid(form: str) -> None:
    budget = Budget(form, (2.0, 0.5), 1.0, 0.0)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    scale, exponent, spent = rng.normal(0, 1, (2, 9)), rng.uniform(0.1, 3, (2, 9)), rng.uniform(5, 50, 9)
    found = budget.best(scale + np.log(exponent), exponent, spent)
    for i in range(9):
        grid = found[i] + np.linspace(-0.3, 0.3, 20001)
        second = budget.second(grid, np.full(len(grid), spent[i]))
        value = np.exp(scale[0, i] - exponent[0, i] * grid) + np.exp(scale[1, i] - exponent[1, i] * second)
        assert grid[np.nanargmin(value)] == pytest.approx(found[i], abs=1e-3)


def test_steps_are_better_than_all_that_cost_no_more() -> None:
    table = table_of(("encoder_params", "decoder_params"), "tokenizer_params", GRID.sum(axis=0), noise=0.2)
    found = iso_frontier(table, "rfid")
    spent, y = table["tokenizer_params"], table["rfid"]
    brute = [i for i in table.index if not ((spent <= spent[i]) & (y < y[i])).any()]
    assert sorted(step.row for step in found.trials) == sorted(brute)
    assert found.trials[-1].y == pytest.approx(table["rfid"].min())


def test_a_budget_that_no_size_explains_is_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(TableError, match="is no function of"):
        budget_of(GRID, rng.uniform(1, 10, GRID.shape[1]), ("a", "b"), "budget")
    with pytest.raises(UsageError, match="which two sizes"):
        iso_frontier(pd.DataFrame({"rfid": [1.0]}), "rfid", "gpu_seconds")


def test_vitok_points_do_not_resolve_the_division() -> None:
    table = published("vitok_fig6to9_encoder_decoder_sweep")
    found = iso_frontier(table, "rFID", "total_params_M", ("enc_params_M", "dec_params_M"))
    assert not found.resolved
    assert "not resolved" in found.sentence()
    # Of equal totals the larger decoder is the better one: S-B before B-S.
    assert [step.sizes for step in found.trials] == [(43.3, 43.3), (43.3, 85.8), (85.8, 85.8), (43.3, 383.7)]
    assert (
        "law is one of errors"
        in iso_frontier(table, "PSNR", "total_params_M", ("enc_params_M", "dec_params_M")).sentence()
    )

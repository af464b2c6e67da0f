"""Tables of very many rows: the same answers, no row lost, and no interval that would take an hour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.fitting import Fit, fit
from analysis.gathering import gathered, ungathered
from analysis.laws import group_law, law_named
from analysis.solver import problem, solve


def one(table: pd.DataFrame, **words: Any) -> Fit:
    found = fit(table, **{"x": "x", "y": "y", **words})
    assert isinstance(found, Fit)
    return found


def joint(enc: Any, dec: Any, seed: int = 0) -> pd.DataFrame:
    error = 0.05 * np.random.default_rng(seed).standard_normal(len(enc))
    return pd.DataFrame({"enc": enc, "dec": dec, "y": (2 + 300 * enc**-0.4 + 900 * dec**-0.5) * np.exp(error)})


def test_a_million_rows_are_fitted_as_the_normal_equations_say() -> None:
    rng, n = np.random.default_rng(0), 10**6
    x = 10 ** rng.uniform(3, 9, n)
    y = 300 * x**-0.4 * np.exp(0.05 * rng.standard_normal(n))
    y[:1000] = np.nan
    y[1000:3000] = -1.0
    found = one(pd.DataFrame({"x": x, "y": y}), law="power")
    slope, intercept = np.polyfit(np.log(x[3000:]), np.log(y[3000:]), 1)
    assert found.n == n - 3000
    assert found.parameters["exponent"].value == pytest.approx(-slope, rel=1e-9)
    assert found.parameters["scale"].value == pytest.approx(np.exp(intercept), rel=1e-8)
    assert found.warnings == ("1000 rows left out: y is missing", "2000 rows left out: y is zero or negative")


def test_repeated_sizes_are_gathered_without_loss() -> None:
    """A grid of sizes with many rows each is one of weighted means, and its scatter."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1e6, 1e9, 6)
    table = joint(rng.choice(sizes, 24_000), rng.choice(sizes, 24_000))
    logarithm = np.log(table["y"]).groupby([table["enc"], table["dec"]])
    means = np.exp(logarithm.mean()).rename("y").reset_index().assign(w=logarithm.size().to_numpy())
    words: dict[str, Any] = {"x": ["enc", "dec"], "law": "additive"}
    many, few = one(table, **words), one(means, weights="w", **words)
    for name, parameter in few.parameters.items():
        assert many.parameters[name].value == pytest.approx(parameter.value, rel=1e-4)
    scatter = ((np.log(table["y"]) - logarithm.transform("mean")) ** 2).sum()
    law = law_named("additive", 2)
    x = np.array([means["enc"], means["dec"]])
    best = solve(problem(law, x, means["y"].to_numpy()[None], means["w"].to_numpy()))
    assert many.solution.cost[0] == pytest.approx(best.cost[0] + scatter, rel=1e-9)
    assert (many.n, many.task.freedom, many.task.target.shape) == (24_000, 23_995, (1, 36))


def test_gathered_points_of_any_sizes_have_nearly_the_same_optimum() -> None:
    rng = np.random.default_rng(0)
    table = joint(10 ** rng.uniform(6, 9, 60_000), 10 ** rng.uniform(6, 9, 60_000))
    law, x = law_named("additive", 2), np.array([table["enc"], table["dec"]])
    whole = problem(law, x, table["y"].to_numpy()[None])
    fewer = gathered(whole)
    assert fewer.target.shape[1] <= 10_000
    at = solve(fewer).coordinates
    assert fewer.cost(at) == pytest.approx(whole.cost(at), rel=3e-3)  # the curve falls a little within cells
    slope = whole.model(at)[1][0]
    deviation = np.sqrt(whole.cost(at)[0] / 60_000 * np.diag(np.linalg.inv(slope.T @ slope)))
    step = np.linalg.lstsq(slope, (whole.target - whole.model(at)[0])[0], rcond=None)[0]
    assert (np.abs(step) < 0.1 * deviation).all()
    back = ungathered(fewer, x, table["y"].to_numpy(), None)
    assert back.cost(at) == pytest.approx(whole.cost(at))


def test_groups_are_never_gathered_together() -> None:
    law = group_law(law_named("power_floor"), 3, ["floor"])
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 30_000).astype(float)
    x = np.array([10 ** rng.uniform(3, 6, 30_000), group])
    y = (2 + (1 + group) * 100 * x[0] ** -0.5)[None]
    fewer = gathered(problem(law, x, y))
    assert set(fewer.z[-1, 0]) == {0.0, 1.0, 2.0}
    for number in range(3):
        assert fewer.weight[fewer.z[-1, 0] == number].sum() == (group == number).sum()


def test_a_sample_of_groups_leads_to_the_optimum_of_all_their_points() -> None:
    law = group_law(law_named("power_floor"), 3, ["exponent"])
    rng = np.random.default_rng(1)
    group = np.repeat([0.0, 1.0, 2.0], [2900, 80, 20])  # small groups are not thinned out
    x = np.array([10 ** rng.uniform(2, 6, 3000), group])
    y = (2 + group + 40 * x[0] ** -0.5) * np.exp(0.05 * rng.standard_normal(3000))
    task = problem(law, x, y[None])
    found = solve(task)
    step = np.linalg.lstsq(task.model(found.coordinates)[1][0],
                           (task.target - task.model(found.coordinates)[0])[0], rcond=None)[0]  # fmt: skip
    assert np.abs(step / task.sizes).max() < 1e-4
    assert found.cost == pytest.approx(3000 * 0.05**2, rel=0.1)


def test_a_bootstrap_of_too_many_points_is_not_begun() -> None:
    rng = np.random.default_rng(0)
    x = 10 ** rng.uniform(3, 9, 60_000)
    table = pd.DataFrame({"x": x, "y": 300 * x**-0.4 * np.exp(0.05 * rng.standard_normal(60_000))})
    found = one(table, law="power", intervals="bootstrap")
    assert found.parameters["exponent"].value == pytest.approx(0.4, abs=0.01)
    assert found.interval("exponent") == (None, None)
    assert any("no intervals: a bootstrap takes 50000 points" in warning for warning in found.warnings)
    assert found.predict([1e4], 0.9)[["low", "high"]].isna().all(axis=None)


def test_checkpoints_of_runs_are_resampled_by_run_however_many_there_are() -> None:
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(12), 120)
    x = 10 ** rng.uniform(3, 6, 1440)
    y = (2 + 300 * x**-0.5) * np.exp(0.05 * rng.standard_normal(12)[run] + 0.01 * rng.standard_normal(1440))
    found = one(pd.DataFrame({"x": x, "y": y, "trial": run}), law="power_floor", intervals="bootstrap")
    alone = one(pd.DataFrame({"x": x, "y": y}), law="power_floor")
    assert found.draws is not None
    assert found.draws.freedom == 9
    width = np.diff(np.array(found.interval("floor"), dtype=float))
    assert width > 2 * np.diff(np.array(alone.interval("floor"), dtype=float))

"""The compiled descent takes the steps of the NumPy one."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from analysis import compiled, newton
from analysis.curves import curve_of
from analysis.laws import law_named
from analysis.solver import problem, solve
from analysis.vector_math import exponentials, logarithms

Array = np.ndarray[Any, np.dtype[np.float64]]


def test_exponentials() -> None:
    x = np.concatenate([np.linspace(-708, 709, 20001), [0.0, 1e-300, -1e-17, 710.0, np.inf, -800.0, -np.inf]])
    found = x.copy()
    exponentials(found, np.empty(len(x), dtype=np.int64))
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, np.exp(x), rtol=5e-16, atol=1e-307)


def test_logarithms() -> None:
    x = np.concatenate([np.geomspace(1e-300, 1e300, 20001), 1 + np.linspace(-1e-3, 1e-3, 2001)])
    found = x.copy()
    logarithms(found, np.empty(len(x), dtype=np.int64))
    np.testing.assert_allclose(found, np.log(x), rtol=5e-16, atol=0)
    outside = np.array([0.0, -1.0, np.inf, np.nan])
    logarithms(outside, np.empty(4, dtype=np.int64))
    assert np.isnan(outside).all()


@pytest.mark.parametrize("delta", [np.inf, 0.05, 1e-3])
@pytest.mark.parametrize("name", ["power_floor", "saturating", "quadratic", "additive"])
def test_ends_where_numpy_ends(name: str, delta: float) -> None:
    rng = np.random.default_rng([len(name), 1])
    law = law_named(name, 2 if name == "additive" else 1)
    x = 10 ** rng.uniform(0, 3, (law.x_columns, 60))
    y = 10 - 4 * x[0] ** -0.4 if name == "saturating" else 1 + 5 * (x**-0.5).sum(axis=0)
    task = problem(law, x, (y * np.exp(0.03 * rng.standard_normal(60)))[None])
    weight = rng.multinomial(60, np.ones(60) / 60, 20).astype(float)
    start = np.repeat(solve(task).coordinates, 20, axis=0)
    terms, limits, first = law.terms, law.limits(), np.full(20, max(delta, 0.02))
    assert terms is not None
    found = compiled.descend(terms(task.z[:, 0]), law.log_residuals, limits, delta, task.target, weight, start, first)
    expected = newton.minimise(curve_of(task), task.target, weight, start, limits, delta, first)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9)


def test_compiles_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba refuses to cache where it finds no folder to write to."""
    original = numba.njit

    def njit(function: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("no locator available")
        return original(function, **options)

    monkeypatch.setattr(numba, "njit", njit)

    def double(x: float) -> float:
        return 2 * x

    assert compiled.kept(double)(2.0) == 4.0

"""Of nominal 95 % intervals between 93 and 97 in 100 hold the truth, give or take two Monte-Carlo standard errors.

Where the points hardly tell a law's parameters apart, bounds at zero make intervals hold more; they never hold less.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.intervals import parameter_limits, profile_limits, turning_point_limits, turning_quantity
from analysis.laws import LAWS, Law, law_named
from analysis.solver import problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]

SETS = 300
ERROR = 2 * np.sqrt(0.95 * 0.05 / SETS)
LEAST, MOST = 0.93 - ERROR, 0.97 + ERROR
TRUTHS: dict[str, tuple[dict[str, float], float]] = {
    "power": ({"scale": 300.0, "exponent": 0.5}, 0.2),
    "semilog": ({"intercept": 1.0, "slope": 2.0}, 1.0),
    "power_floor": ({"floor": 2.0, "scale": 40.0, "exponent": 0.5}, 0.05),
    "saturating": ({"ceiling": 0.8, "scale": 3.0, "exponent": 0.5}, 0.01),
    "quadratic": ({"intercept": 1.0, "slope": 2.0, "curvature": -0.1}, 0.5),
    "valley": ({"floor": 5.0, "scale": 40.0, "exponent": 0.5, "rise_scale": 0.01, "rise_exponent": 0.8}, 0.01),
    "additive": ({"floor": 1.5, "scale_1": 60.0, "exponent_1": 0.5, "scale_2": 20.0, "exponent_2": 0.4}, 0.02),
    "broken_power": (
        {"scale": 100.0, "exponent": 0.2, "break_1": 512.0, "exponent_change_1": 0.5, "sharpness_1": 0.5}, 0.01,
    ),
}  # fmt: skip


def _sizes(law: Law, n: int) -> Array:
    x = np.geomspace(16, 16384, n)
    return np.stack([x, np.random.default_rng(n).permutation(x)][: law.x_columns])


def _data(name: str, n: int, extra: Array | None = None) -> tuple[Law, Array, Array, Array]:
    """The law, its sizes (with one more, if given), and of every set the curve and y there."""
    (truth, noise), law = TRUTHS[name], law_named(name, 2 if name == "additive" else 1)
    sizes = _sizes(law, n) if extra is None else np.append(_sizes(law, n), extra, axis=1)
    errors = noise * np.random.default_rng([n, len(name)]).standard_normal((SETS, sizes.shape[1]))
    curve = law.value(truth, sizes)
    return law, sizes, curve, curve * np.exp(errors) if law.log_residuals else curve + errors


@pytest.mark.parametrize(("name", "n"), [*((name, 8) for name in TRUTHS), ("power_floor", 12), ("saturating", 12)])
def test_parameters(name: str, n: int) -> None:
    law, sizes, _, y = _data(name, n)
    task = problem(law, sizes, y)
    limits = parameter_limits(task, solve(task), 0.95)
    true = np.array([TRUTHS[name][0][parameter] for parameter in law.parameters])
    covered = ((limits.low <= true) & (true <= limits.high)).mean(axis=0)
    assert (covered >= LEAST).all(), covered
    assert (covered <= MOST).all() or len(true) > 3, covered


@pytest.mark.parametrize("new_point", [0.0, 1.0])
@pytest.mark.parametrize("name", ["power_floor", "valley", "additive"])
def test_the_curve_and_new_points_at_four_times_the_largest_size(name: str, new_point: float) -> None:
    law = law_named(name, 2 if name == "additive" else 1)
    law, sizes, curve, y = _data(name, 8, np.full((law.x_columns, 1), 4 * 16384.0))
    task = problem(law, sizes[:, :8], y[:, :8])
    z = np.log(sizes[:, -1:]) - task.center

    def ahead(at: Array, rows: Any) -> tuple[Array, Array]:
        value, slope = task.model(at, np.broadcast_to(z[:, None], (len(z), len(at), 1)))
        return value[:, 0], slope[:, 0]

    limits = profile_limits(task, solve(task), np.arange(SETS), ahead, 0.95, new_point)
    true = np.log(y[:, 8]) if new_point else np.log(curve[8])
    covered = ((limits.low <= true) & (true <= limits.high)).mean()
    assert LEAST <= covered <= MOST


def test_the_turning_point_of_a_valley() -> None:
    law, sizes, _, y = _data("valley", 8)
    task = problem(law, sizes, y)
    limits = profile_limits(task, solve(task), np.arange(SETS), turning_quantity(task), 0.95)
    assert law.turning_point is not None
    true = law.turning_point(law.coordinates(TRUTHS["valley"][0])[None])[0] - task.center[0, 0]
    covered = ((limits.low <= true) & (true <= limits.high)).mean()
    assert LEAST <= covered <= MOST


def test_the_turning_point_of_a_parabola() -> None:
    u, rng, hits = np.log2(_sizes(LAWS["quadratic"], 8)[0]), np.random.default_rng(6), 0
    for _ in range(SETS):
        y = 5 + 0.8 * (u - 10) ** 2 + rng.normal(size=8)
        task = problem(LAWS["quadratic"], np.exp2(u)[None], y[None])
        limits = turning_point_limits(task, solve(task), 0.95)
        assert limits is not None
        hits += limits[0] <= 10 <= limits[1]
    assert LEAST <= hits / SETS <= MOST

"""The solver reaches the best optimum that SciPy finds from many random starts, on awkward and on published data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from analysis import published
from analysis.laws import law_named
from analysis.solver import Problem, problem, solve

Array = np.ndarray[Any, np.dtype[np.float64]]
LAWS = [("power_floor", 1), ("saturating", 1), ("valley", 1), ("broken_power", 1), ("broken_power_2", 1),
        ("additive", 2), ("additive", 3)]  # fmt: skip
KINDS = ("fall", "noise", "rise", "ceiling", "valley", "hill", "kink", "outlier")


def awkward(rng: np.random.Generator, kind: str, columns: int, least: int) -> tuple[Array, Array]:
    """Few or many points of some curve, mostly another one than the law's, with little or much noise, in any unit."""
    n = int(np.exp(rng.uniform(np.log(least), np.log(60))))
    span = rng.uniform(1, 9, (columns, 1))
    z = rng.uniform(-3, 20, (columns, 1)) + span * rng.uniform(0, 1, (columns, n))
    u = (z - z.min(axis=1, keepdims=True)) / np.ptp(z, axis=1, keepdims=True)
    pace, size, bend = (rng.uniform(low, high, (columns, 1)) for low, high in ((0.2, 6), (0.3, 8), (0.1, 0.9)))
    fall = size * np.exp(-pace * u)
    curve = {"fall": fall, "outlier": fall, "noise": 0 * u + 1, "rise": size * np.exp(pace * (u - 1)),
             "ceiling": 10 - fall, "valley": fall + np.exp(2 * pace * (u - 1)),
             "hill": np.maximum(3 - 4 * (u - bend) ** 2, 0.2),
             "kink": np.exp(4 * np.abs(u - bend) - pace * u)}[kind]  # fmt: skip
    y = rng.choice([0.0, 0.5]) + curve.sum(axis=0)
    y = y * np.exp(10 ** rng.uniform(-3, -0.5) * rng.standard_normal(n)) * 10 ** rng.uniform(-4, 4)
    y[0] *= 3 if kind == "outlier" else 1
    return np.exp(z), y


def random_starts(rng: np.random.Generator, task: Problem, count: int) -> Array:
    """Starts anywhere that is reasonable, by the ranges of the data alone."""
    law, z, target = task.law, task.z[:, 0], task.target[0]
    y = np.exp(target) if law.log_residuals else target
    low, high = law.limits()
    columns = {power.exponent: power.column for power in law.powers}
    starts = np.empty((count, len(law.parameters)))
    for place, name in enumerate(law.parameters):
        if name == "floor":
            values = y.min() * rng.uniform(0, 1.2, count)
        elif name == "ceiling":
            values = y.mean() + 2 * np.ptp(y) * rng.standard_normal(count)
        elif name in columns:
            values = np.exp(rng.uniform(np.log(0.02), np.log(40), count)) / np.ptp(z[columns[name]])
        elif name.startswith("break"):
            values = z.min() + np.ptp(z) * rng.uniform(-0.2, 1.2, count)
        elif name.startswith("exponent"):
            values = 3 * rng.standard_normal(count) / np.ptp(z)
        elif name.startswith("sharpness"):
            values = rng.uniform(low[place], high[place], count)
        else:
            values = np.log(np.ptp(y)) + rng.normal(0, 2, count)
        starts[:, place] = values
    return np.clip(starts, low, high)


def best_of_scipy(task: Problem, rng: np.random.Generator, count: int) -> float:
    """The least cost of SciPy's trust-region solver, from the best third of so many random starts."""
    low, high = task.law.limits()

    def finite(part: Array) -> Array:
        return np.nan_to_num(np.clip(part, -1e100, 1e100), nan=1e100)

    def residual(at: Array) -> Array:
        return finite(task.model(at[None])[0][0] - task.target[0])

    def slopes(at: Array) -> Array:
        return finite(task.model(at[None])[1][0])

    starts = random_starts(rng, task, count)
    if task.law.name.startswith("broken"):  # its scale at x = 1 may be anywhere
        starts[:, 0] += (task.target - task.model(starts)[0]).mean(axis=1)
    costs = np.nan_to_num(task.cost(starts), nan=np.inf)
    least = np.inf
    for start in starts[costs.argsort()[: count // 3]]:
        with np.errstate(all="ignore"):
            inside = np.clip(start, low + 1e-12, high - 1e-12)
            found = optimize.least_squares(residual, inside, slopes, (low, high), x_scale="jac", xtol=1e-14,
                                           ftol=1e-14, max_nfev=200)  # fmt: skip
            cost = task.cost(found.x[None])[0]
        least = min(least, cost if np.isfinite(cost) else np.inf)
    return float(least)


def least_excess(task: Problem) -> float:
    """What the targets themselves round to: costs are not told apart below it."""
    return 1e-13 * float(((task.target - task.target.mean()) ** 2).sum() + 1e-3 * (task.target**2).mean())


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # of SciPy, on its way out of the range of floats
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "columns"), LAWS)
def test_no_random_start_leads_lower(name: str, columns: int, kind: str) -> None:
    law = law_named(name, columns)
    rng = np.random.default_rng([len(name), columns, KINDS.index(kind)])
    x, y = awkward(rng, kind, columns, max(6, len(law.parameters)))
    task = problem(law, x, y[None])
    found = solve(task)
    assert np.isfinite(found.coordinates).all()
    assert found.cost[0] == pytest.approx(task.cost(found.coordinates)[0], rel=1e-12)
    best = best_of_scipy(task, rng, 9)
    assert found.cost[0] <= best * (1 + 1e-9) + least_excess(task)


PUBLISHED = [
    ("vitok_fig2_bottleneck_256p", "E", "rFID"), ("vitok_fig2_bottleneck_256p", "E", "PSNR"),
    ("vitok_fig5_generation_vs_E", "E", "gFID_cfg1.5"), ("vitok_fig5_generation_vs_E", "E", "gFID_cfg3.0"),
    ("vitok_fig6to9_encoder_decoder_sweep", "enc_params_M", "gFID_cfg1.5"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize(("table", "x", "y"), PUBLISHED)
@pytest.mark.parametrize("name", ["power_floor", "saturating", "valley", "broken_power"])
def test_no_random_start_leads_lower_on_published_points(name: str, table: str, x: str, y: str) -> None:
    points = published(table)[[x, y]].dropna()
    law = law_named(name)
    task = problem(law, points[x].to_numpy(float)[None], points[y].to_numpy(float)[None])
    best = best_of_scipy(task, np.random.default_rng(len(name)), 9)
    assert solve(task).cost[0] <= best * (1 + 1e-9) + least_excess(task)


def test_encoder_and_decoder_together_on_published_points() -> None:
    points = published("vitok_fig6to9_encoder_decoder_sweep")
    x = points[["enc_params_M", "dec_params_M"]].to_numpy(float).T
    for y in ("rFID", "gFID_cfg1.5"):
        task = problem(law_named("additive", 2), x, points[y].to_numpy(float)[None])
        with np.errstate(all="ignore"):
            best = best_of_scipy(task, np.random.default_rng(0), 12)
        assert solve(task).cost[0] <= best * (1 + 1e-9) + least_excess(task)


def test_a_part_that_a_single_point_shows_is_found() -> None:
    """The best second part may be steeper than any on a coarse grid, or lie between exponents that lose it."""
    rng = np.random.default_rng(11)
    x = np.geomspace(1, 3000, 90)
    y = (2 * x**-0.65) * np.exp(0.003 * rng.standard_normal(90))
    y[-1] *= 1.01
    task, plain = (problem(law_named(name), x[None], y[None]) for name in ("valley", "power_floor"))
    assert solve(task).cost[0] < solve(plain).cost[0] - 0.5 * np.log(1.01) ** 2
    found = solve(task).coordinates[0]
    assert found[4] == 30.0


@pytest.mark.parametrize(("name", "columns"), LAWS)
@pytest.mark.parametrize("data", ["constant", "two sizes", "as many points as parameters", "line", "huge", "tiny"])
def test_degenerate_data_end_cleanly(name: str, columns: int, data: str) -> None:
    """Flat valleys, parts that vanish, exponents at their limits: a finite answer, no worse than a constant."""
    law, rng = law_named(name, columns), np.random.default_rng(1)
    n = len(law.parameters) if data == "as many points as parameters" else 20
    x = np.exp(rng.uniform(0, 8, (columns, n)))
    if data == "two sizes":
        x = np.where(x > np.median(x), 1e4, 10.0)
    curves = {"constant": 0 * x[0] + 3, "line": 5 + np.log(x[0]), "huge": 1e120 * x[0] ** -0.5, "tiny": 1e-120 * x[0]}
    y = curves.get(data, np.exp(rng.standard_normal(n)))
    task = problem(law, x, y[None])
    found = solve(task)
    assert np.isfinite(found.coordinates).all()
    assert np.isfinite(found.cost).all()
    low, high = law.limits()
    assert ((found.coordinates >= low) & (found.coordinates <= high)).all()
    total = ((task.target - task.target.mean()) ** 2).sum()
    assert found.cost[0] <= total * (1 + 1e-6) + 1e-20 * (task.target**2).sum()


# Two breaks meet eight points as a step between two of them, or from outside of them; a minimum known for each.
STEPS = (
    ([1.0169, 3.746, 6.1199, 6.7397, 8.96, 13.1803, 84.4049, 255.777],
     [0.97801, 0.45163, 0.33673, 0.31287, 0.27198, 0.20942, 0.064619, 0.024709],
     [-0.0135, 0.5934, 2.7826, -29.726, -2.9957, 2.7946, 30, -2.8324]),
    ([2.0067, 2.1802, 2.7367, 15.5414, 21.1957, 53.9768, 327.8773, 615.2141],
     [0.80172, 0.80167, 0.74836, 0.46483, 0.42128, 0.33255, 0.19835, 0.21184],
     [-14.4692, -29.7224, 0.4821, 30, -2.9957, 6.5102, -30, -2.9957]),
)  # fmt: skip


@pytest.mark.parametrize("delta", [None, 0.2])
@pytest.mark.parametrize(("x", "y", "known"), STEPS)
def test_steps_between_few_points_are_found(x: list[float], y: list[float], known: list[float], delta: float) -> None:
    task = problem(law_named("broken_power_2"), np.array([x]), np.array([y]), delta=delta)
    low, high = task.law.limits()
    best = optimize.least_squares(
        lambda at: task.model(at[None])[0][0] - task.target[0], np.clip(known, low + 1e-6, high - 1e-6),
        lambda at: task.model(at[None])[1][0], bounds=(low, high), x_scale="jac", xtol=1e-12, ftol=1e-12, gtol=1e-12,
    )  # fmt: skip
    assert solve(task).cost[0] <= 2 * best.cost * (1 + 1e-9)


@pytest.mark.parametrize("delta", [None, 1e-3])
def test_the_first_of_two_breaks_is_the_one_at_smaller_sizes(delta: float | None) -> None:
    """They may change places and leave the curve as it is: a parameter would be now this break's, now that one's."""
    law, x = law_named("broken_power_2"), np.geomspace(16, 16e3, 12)[None]
    truth = dict(zip(law.parameters, (100.0, 0.1, 128.0, 0.6, 0.3, 4096.0, -0.5, 0.3), strict=True))
    noise = 0.01 * np.random.default_rng(0).standard_normal((30 if delta is None else 3, 12))
    curve = np.log(law.value(truth, x))
    for task in ([problem(law, x, np.exp(curve + noise))] if delta is None else
                 [problem(law, x, np.exp(curve + row)[None], delta=delta) for row in noise]):  # fmt: skip
        found = solve(task)
        assert (found.coordinates[:, 2] <= found.coordinates[:, 5]).all()
        swapped = found.coordinates[:, [0, 1, 5, 6, 7, 2, 3, 4]]
        assert law.ordered is not None
        assert (law.ordered(swapped) == found.coordinates).all()
        np.testing.assert_allclose(task.model(swapped)[0], task.model(found.coordinates)[0], rtol=1e-9)
        if delta is None:
            assert np.median(np.exp(found.coordinates[:, [2, 5]]), axis=0) == pytest.approx([128, 4096], rel=0.3)

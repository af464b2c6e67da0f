"""What a Huber fit of the joint law L = E + A / N^a + B / D^b costs, and whether its optimum is found.

    python benchmarks/fitting.py [--starts 150] [--resamples 2000] [--seed 0]

240 made-up points with the constants of Hoffmann et al. (2022), threshold 1e-3 on log residuals, summed; three kinds of
noise. Beside ours stand the procedure of that paper (L-BFGS in log-sum-exp form from a grid of 4,500 starts, here with
the gradient in closed form; of the grid a sample is run and its time scaled up) and SciPy's least_squares with
loss="huber" and the exact Jacobian, from a sample of the same grid and, for the bootstrap, from the optimum.

Times are processor seconds. numba and torch were compared on one Newton iteration of 256 resamples before choosing
(2026-11-22, 2 busy cores of a Xeon): per resample NumPy 47 us, eager torch 73 us, torch.compile 31 us after 12 s and
more of compiling, numba 6 us after 15 s, which it keeps on disk; and analysis does without torch anyway.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy
from scipy import optimize
from threadpoolctl import threadpool_limits

from analysis.curves import curve_of
from analysis.huber import minimise_huber
from analysis.laws import law_named
from analysis.newton import descent
from analysis.refits import refit
from analysis.solver import Problem, problem

Array = np.ndarray[Any, np.dtype[np.float64]]
_DELTA, _POINTS, _GRID = 1e-3, 240, 4500
_REACHED = 1e-9  # share of the cost by which an optimum may be missed
_TRIED = 12  # resamples that the slow ways refit


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def made_up(kind: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sizes (2, n) and losses (n,) with noise of a kind, of 2 % or so."""
    sizes = np.stack([10 ** rng.uniform(7.5, 10.2, _POINTS), 10 ** rng.uniform(8.5, 11.8, _POINTS)])
    noise = 0.02 * (rng.standard_t(2, _POINTS) if kind == "heavy tails" else rng.standard_normal(_POINTS))
    if kind == "outliers":
        noise += (rng.random(_POINTS) < 0.08) * rng.exponential(0.4, _POINTS)
    return sizes, (1.69 + 406.4 / sizes[0] ** 0.34 + 410.7 / sizes[1] ** 0.28) * np.exp(noise)


def grid(count: int, rng: np.random.Generator) -> Array:
    """Some of the 4,500 starts (ln A, ln B, ln E, a, b)."""
    scales, exponents = (0, 5, 10, 15, 20, 25), (0, 0.5, 1, 1.5, 2)
    starts = np.array(list(itertools.product(scales, scales, (-1, -0.5, 0, 0.5, 1), exponents, exponents)), dtype=float)
    assert len(starts) == _GRID
    return starts[rng.choice(_GRID, count, replace=False)]


class Published:
    """The law in log-sum-exp form: coordinates (ln A, ln B, ln E, a, b)."""

    def __init__(self, sizes: Array, losses: Array):
        self.logs, self.target = np.log(sizes), np.log(losses)

    def residual(self, at: Array) -> Array:
        self.parts = np.exp(np.clip([at[0] - at[3] * self.logs[0], at[1] - at[4] * self.logs[1],
                                     np.full(len(self.target), at[2])], -600, 600))  # fmt: skip
        return np.asarray(np.log(self.parts.sum(axis=0)) - self.target)

    def jacobian(self, at: Array) -> Array:
        self.residual(at)
        share = self.parts / self.parts.sum(axis=0)
        return np.stack([*share, -self.logs[0] * share[0], -self.logs[1] * share[1]], axis=1)

    def cost(self, at: Array) -> tuple[float, Array]:
        """Twice Huber's loss, summed, and its gradient."""
        residual, jacobian = self.residual(at), self.jacobian(at)
        inner = np.clip(residual, -_DELTA, _DELTA)
        return float((inner * (2 * residual - inner)).sum()), 2 * inner @ jacobian

    def l_bfgs(self, start: Array) -> float:
        options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-10}
        return float(optimize.minimize(self.cost, start, jac=True, method="L-BFGS-B", options=options).fun)

    def least_squares(self, start: Array) -> float:
        return 2 * float(optimize.least_squares(
            self.residual, start, self.jacobian, loss="huber", f_scale=_DELTA, x_scale="jac",
            xtol=1e-12, ftol=1e-12, gtol=1e-12, max_nfev=500,
        ).cost)  # fmt: skip


def row(what: str, taken: float, ours: float, best: float, costs: Array | None = None, much: str = "s") -> None:
    """One line: time, ratio to ours, and how the costs compare with the best there are."""
    reached = "" if costs is None else f"{100 * np.mean(costs <= best * (1 + _REACHED)):>9.0f} %"
    missed = "" if costs is None else f"{np.min(costs / best) - 1:>12.0e}"
    factor = 1e3 if much == "ms" else 1.0
    print(f"  {what:<52}{factor * taken:>9.3f} {much:<3}{taken / ours:>9.1f}{reached}{missed}")


def full_fit(task: Problem, published: Published, starts: Array) -> Array:
    """The fit of all points; its coordinates in the published form."""
    ours, solution = seconds(lambda: minimise_huber(task))
    newton = descent(task, curve_of(task))
    to_centred = np.array([[np.exp(s[2]), s[0] - s[3] * task.center[0, 0], s[3], s[1] - s[4] * task.center[1, 0], s[4]]
                           for s in starts])  # fmt: skip
    single, (_, singles) = seconds(
        lambda: newton(task.target, task.weight[None], to_centred, np.full(len(starts), np.inf))
    )
    grid_time, by_grid = seconds(lambda: np.array([published.l_bfgs(start) for start in starts]))
    squares_time, by_squares = seconds(lambda: np.array([published.least_squares(start) for start in starts]))
    best = min(solution.cost[0], singles.min(), by_grid.min(), by_squares.min())
    row("ours: starts of the law, detours", ours, ours, best, solution.cost)
    row("  a descent from a start of the grid", single / len(starts), ours, best, singles)
    row("L-BFGS from 4,500 starts", grid_time / len(starts) * _GRID, ours, best, by_grid)
    row(f"least_squares, Huber, from {len(starts)} of them", squares_time, ours, best, by_squares)
    level, scale, exponent, other, second = solution.coordinates[0] @ task.law.from_unit(task.center).T
    return np.array([scale, other, np.log(level), exponent, second])


def bootstrap(task: Problem, sizes: Array, losses: Array, best: Array, counts: Array) -> None:
    """A refit of resampled points by each way; the slow ones on the first few resamples."""
    start = minimise_huber(task).coordinates[0]
    resamples = len(counts)
    first, _ = seconds(lambda: refit(task, counts[:2], start, use_compiled=True))
    quick, compiled = seconds(lambda: refit(task, counts, start, use_compiled=True))
    plain, numpy_only = seconds(lambda: refit(task, counts, start, use_compiled=False))
    lowest = np.minimum(compiled.cost, numpy_only.cost)
    row("ours, compiled", quick / resamples, quick / resamples, 1.0, compiled.cost / lowest, "ms")
    row("ours, NumPy", plain / resamples, quick / resamples, 1.0, numpy_only.cost / lowest, "ms")
    drawn = [np.repeat(np.arange(_POINTS), count.astype(int)) for count in counts[:_TRIED]]
    others = [Published(sizes[:, rows], losses[rows]) for rows in drawn]
    for what, name in (("L-BFGS from the optimum", "l_bfgs"), ("least_squares from the optimum", "least_squares")):
        taken, costs = seconds(lambda name=name: np.array([getattr(other, name)(best) for other in others]))
        row(what, taken / _TRIED, quick / resamples, 1.0, costs / lowest[:_TRIED], "ms")
    print(f"  (loading or compiling the machine code, once a process: {first:.1f} s)")


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=150, help="of the grid of 4,500, to run")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{date.today()}, {processor()}, Python {platform.python_version()}, numpy {np.__version__}, "
          f"scipy {scipy.__version__}, numba {numba.__version__}")  # fmt: skip
    with threadpool_limits(1), np.errstate(all="ignore"):
        for kind in ("normal noise", "heavy tails", "outliers"):
            rng = np.random.default_rng([arguments.seed, len(kind)])
            sizes, losses = made_up(kind, rng)
            task = problem(law_named("additive", 2), sizes, losses[None], delta=_DELTA)
            print(f"\n{kind:<54}{'time':>9}{'/ ours':>13}{'reach it':>11}{'missed by':>12}")
            best = full_fit(task, Published(sizes, losses), grid(arguments.starts, rng))
            print(" a bootstrap refit")
            counts = rng.multinomial(_POINTS, np.full(_POINTS, 1 / _POINTS), arguments.resamples).astype(float)
            bootstrap(task, sizes, losses, best, counts)


if __name__ == "__main__":
    main()

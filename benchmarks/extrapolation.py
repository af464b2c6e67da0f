"""Predicting what lies beyond the largest size: errors and intervals on learning curves of others, and on true laws.

    python benchmarks/extrapolation.py CURVES.csv [--sets 50]

CURVES.csv holds learning curves of the benchmark of Alabdulmohsin, Neyshabur and Zhai, "Revisiting Neural Scaling Laws
in Language and Vision" (2022): columns Domain, Task, Model, Seen Examples, Loss, Training (1: points to fit, 0: points
to predict). The error of a curve is the root mean square of ln(predicted / measured). Curves of one domain, model and
data set are one cluster, and intervals of means are percentiles of a bootstrap over clusters. "Settings" of the average
are judged on domains and data sets that had no say in choosing them.

2026-11-22, 2 cores, 51 curves in 27 clusters; with 150 simulated sets, 95 % intervals of a true law alone cover .93 to
.99 at 6 to 30 points, and those of choose, which is not told the law, .95 to 1.0:

    mean error                           all      IC     NMT      BB      LM   less than this by choose, 95 %
    repeat the last value             0.0490  0.0661  0.0083  0.0084  0.0072    0.0158 .. 0.0447 (better in 100.0 %)
    power_floor                       0.0493  0.0616  0.0482  0.0100  0.0011    0.0167 .. 0.0430 (better in 100.0 %)
    power_floor, upper half           0.0242  0.0306  0.0126  0.0129  0.0009    0.0004 .. 0.0118 (better in 99.1 %)
    M4, on a grid                     0.0299  0.0400  0.0073  0.0089  0.0016    0.0017 .. 0.0218 (better in 99.7 %)
    AICc average of four laws         0.0493  0.0660  0.0148  0.0115  0.0010    0.0118 .. 0.0495 (better in 100.0 %)
    choose                            0.0194  0.0244  0.0077  0.0140  0.0009
    choose, best without its domain   0.0203  0.0257  0.0077  0.0140  0.0009

    90 % intervals                       all      IC     NMT      BB      LM    width    score
    power_floor as if it were true     0.508   0.447   0.800   0.542   0.623   0.0928   0.2841   coverage 0.39 .. 0.63
    power_floor                        0.829   0.862   0.800   0.783   0.663   0.1590   0.2090   coverage 0.74 .. 0.91
    choose                             0.898   0.910   1.000   0.658   0.947   0.1274   0.1476   coverage 0.83 .. 0.96
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from collections.abc import Callable, Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.averaging import WINDOWS, Average, averaged
from analysis.choosing import DEFAULT, choose
from analysis.diagnostics import aicc
from analysis.extrapolation import ModelForm
from analysis.laws import LAWS, Law
from analysis.laws.learning_curves import FLATTENING
from analysis.prediction import prediction_limits
from analysis.solver import Problem, Solution, problem, solve
from analysis.table import Points

Array = npt.NDArray[np.float64]
LEVEL = 0.9
RESAMPLES = 20_000
KNOWN = LAWS | {FLATTENING.name: FLATTENING}
ALL: tuple[float, ...] = (0.0,)
SETTINGS: dict[str, tuple[Sequence[str], Sequence[float]]] = {
    "default": (DEFAULT, WINDOWS),
    "whole curve only": (DEFAULT, ALL),
    "windows of 100, 67, 33 %": (DEFAULT, (0.0, 1 / 3, 2 / 3)),
    "windows of 100, 80, 60, 40 %": (DEFAULT, (0.0, 0.2, 0.4, 0.6)),
    "without flattening": ([name for name in DEFAULT if name != "flattening"], WINDOWS),
    "power_floor alone": (["power_floor"], WINDOWS),
}
AICC_AVERAGE = ("power", "power_floor", FLATTENING.name, "broken_power")
TRUTHS: dict[str, tuple[dict[str, float], float]] = {
    "power": ({"scale": 300.0, "exponent": 0.5}, 0.2),
    "power_floor": ({"floor": 2.0, "scale": 40.0, "exponent": 0.5}, 0.05),
    "saturating": ({"ceiling": 0.8, "scale": 3.0, "exponent": 0.5}, 0.01),
}


class Curve(NamedTuple):
    """One learning curve: points to fit, points to predict."""

    domain: str
    dataset: str
    cluster: str
    x: Array
    y: Array
    ahead: Array
    truth: Array

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame({"x": self.x, "y": self.y})


def load(path: str) -> list[Curve]:
    curves = []
    for (domain, task, model), rows in pd.read_csv(path).groupby(["Domain", "Task", "Model"]):
        rows = rows.drop_duplicates(["Seen Examples", "Training"]).sort_values("Seen Examples")
        dataset = task.rsplit("_", 1)[0] if domain == "IC" else domain
        source = dataset if domain == "IC" else task
        parts = [rows[rows["Training"] == part] for part in (1, 0)]
        numbers = [part[name].to_numpy(float) for part in parts for name in ("Seen Examples", "Loss")]
        curves.append(Curve(domain, dataset, f"{domain} {model} {source}", *numbers))
    return curves


def error(curve: Curve, predicted: Array) -> float:
    return float(np.sqrt(np.mean((np.log(predicted) - np.log(curve.truth)) ** 2)))


def null(curve: Curve) -> Array:
    return np.full(len(curve.ahead), curve.y[-1])


def offset(curve: Curve, upper: bool = False) -> Array:
    """The power law with a floor, on all points or on those of the upper half of ln x."""
    used = curve.x >= (np.sqrt(curve.x[0] * curve.x[-1]) if upper else 0.0)
    task = problem(LAWS["power_floor"], curve.x[None, used], curve.y[None, used])
    return np.asarray(np.exp(ahead(task, solve(task), curve)))


def aicc_average(curve: Curve) -> Array:
    """The AICc-weighted mean of ln y of four laws on all points: none is asked what it would have foretold."""
    tasks = [problem(KNOWN[name], curve.x[None], curve.y[None]) for name in AICC_AVERAGE]
    found = [(task, solve(task)) for task in tasks]
    criteria = np.array([aicc(*one, curve.y) for one in found], dtype=float)  # NaN for a law of too many parameters
    share = np.nan_to_num(np.exp((np.nanmin(criteria) - criteria) / 2))
    return np.asarray(np.exp(share / share.sum() @ np.array([ahead(*one, curve) for one in found])))


def ahead(task: Problem, found: Solution, curve: Curve) -> Array:
    """ln y at the points to predict."""
    return task.model(found.coordinates, np.log(curve.ahead)[None, None] - task.center[:, None])[0][0]


def m4(curve: Curve) -> Array:
    """(y - floor) / (top - y)^bend = scale x^-exponent: least squares of ln y to first order, on a grid of the rest."""
    floor = curve.y.min() * np.append(np.linspace(0, 0.98, 25), 0.995)
    top = curve.y.max() * (1 + np.array([1e-3, 1e-2, 0.05, 0.1, 0.3, 1, 3]))
    bend = np.append(0, np.geomspace(0.02, 2, 12))
    low, high, a = (part.reshape(-1, 1) for part in np.meshgrid(floor, top, bend, indexing="ij"))
    z, y = np.log(curve.x), curve.y
    left = np.log(y - low) - a * np.log(high - y)
    weight = 1 / (y / (y - low) + a * y / (high - y)) ** 2
    weight = weight / weight.sum(axis=1, keepdims=True)
    middle, off = (weight * z).sum(axis=1, keepdims=True), (weight * left).sum(axis=1, keepdims=True)
    slope = (weight * (z - middle) * left).sum(axis=1, keepdims=True)
    slope = slope / (weight * (z - middle) ** 2).sum(axis=1, keepdims=True)
    size = (y / (y - low) + a * y / (high - y)) ** -2
    best = int((size * (left - off - slope * (z - middle)) ** 2).sum(axis=1).argmin())
    goal = off[best] + slope[best] * (np.log(curve.ahead) - middle[best])
    inner, outer = np.full(len(goal), low[best]), np.full(len(goal), high[best])
    for _ in range(60):  # the left side rises with y
        half = (inner + outer) / 2
        with np.errstate(divide="ignore"):
            below = np.log(half - low[best]) - a[best] * np.log(high[best] - half) < goal
        inner, outer = np.where(below, half, inner), np.where(below, outer, half)
    return inner


def of_setting(curve: Curve, name: str) -> Average:
    laws, begins = SETTINGS[name]
    found = averaged([KNOWN[law] for law in laws], curve.x, curve.y, begins=begins)
    assert found is not None
    return found


def resampled(curves: list[Curve], values: Array) -> Array:
    """Bootstrap means (r, ...) of values (curves, ...) over clusters."""
    names, place = np.unique([curve.cluster for curve in curves], return_inverse=True)
    counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    weight = counts[:, place].astype(float)
    return np.asarray(weight @ values / weight.sum(axis=1, keepdims=True))


def by_domain(curves: list[Curve], values: Array) -> str:
    domains = ["IC", "NMT", "BB", "LM"]
    held = {name: [curve.domain == name for curve in curves] for name in domains}
    return "".join(f"{values[held[name]].mean():8.4f}" if any(held[name]) else " " * 8 for name in domains)


def errors(curves: list[Curve]) -> None:
    """Mean errors, and how far the choice is from each other estimator."""
    estimators: dict[str, Callable[[Curve], Array]] = {
        "repeat the last value": null,
        "power_floor": offset,
        "power_floor, upper half": lambda curve: offset(curve, upper=True),
        "M4, on a grid": m4,
        "AICc average of four laws": aicc_average,
        "choose": lambda curve: np.asarray(choose(curve.table, x="x", y="y").predict(curve.ahead)["value"]),
    }
    found = np.array([[error(curve, one(curve)) for one in estimators.values()] for curve in curves])
    means = resampled(curves, found)
    print(f"\n{'mean error':<32}{'all':>8}{'IC':>8}{'NMT':>8}{'BB':>8}{'LM':>8}   less than this by choose, 95 %")
    for place, name in enumerate(estimators):
        gain = means[:, place] - means[:, -1]
        low, high = np.quantile(gain, [0.025, 0.975])
        told = "" if name == "choose" else f"   {low:7.4f} .. {high:.4f} (better in {100 * (gain > 0).mean():.1f} %)"
        print(f"{name:<32}{found[:, place].mean():8.4f}{by_domain(curves, found[:, place])}{told}")


def intervals(curves: list[Curve]) -> None:
    """Coverage, mean width and interval score (Gneiting and Raftery 2007) of 90 % prediction intervals of ln y."""

    def of_fit(curve: Curve, true: bool) -> pd.DataFrame:
        task = problem(LAWS["power_floor"], curve.x[None], curve.y[None])
        points = Points(curve.x[None], curve.y, np.arange(len(curve.x)), (), np.ones(len(curve.x), dtype=np.int64))
        found: Any = SimpleNamespace(task=task, solution=solve(task), points=points)
        form = ModelForm(0.0, np.log([[curve.x[-1]]]), 0) if true else None
        limits = prediction_limits(found, np.log(curve.ahead)[None], LEVEL, form=form)
        return pd.DataFrame({"low": np.exp(limits.low), "high": np.exp(limits.high)})

    ways: dict[str, Callable[[Curve], pd.DataFrame]] = {
        "power_floor as if it were true": lambda curve: of_fit(curve, True),
        "power_floor": lambda curve: of_fit(curve, False),
        "choose": lambda curve: choose(curve.table, x="x", y="y").predict(curve.ahead, interval=LEVEL),
    }
    print(f"\n{'90 % intervals':<32}{'all':>8}{'IC':>8}{'NMT':>8}{'BB':>8}{'LM':>8}{'width':>9}{'score':>9}")
    for name, way in ways.items():
        rows = []
        for curve in curves:
            low, high, y = (np.log(part) for part in (*way(curve)[["low", "high"]].to_numpy().T, curve.truth))
            missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
            rows.append([(missed == 0).mean(), (high - low).mean(), (high - low + 2 / (1 - LEVEL) * missed).mean()])
        cover, width, score = np.array(rows).T
        spread = np.quantile(resampled(curves, cover[:, None]), [0.025, 0.975])
        print(f"{name:<32}{cover.mean():8.3f}{by_domain(curves, cover)}{width.mean():9.4f}{score.mean():9.4f}"
              f"   coverage {spread[0]:.2f} .. {spread[1]:.2f}")  # fmt: skip


def settings(curves: list[Curve]) -> None:
    """Errors of several settings, and of the best one among the others for each domain and data set left out."""
    found = np.array([[error(curve, np.exp(of_setting(curve, name).foretell(np.log(curve.ahead)).value))
                       for name in SETTINGS] for curve in curves])  # fmt: skip
    print(f"\n{'settings of the average':<32}{'all':>8}{'IC':>8}{'NMT':>8}{'BB':>8}{'LM':>8}")
    for place, name in enumerate(SETTINGS):
        print(f"{name:<32}{found[:, place].mean():8.4f}{by_domain(curves, found[:, place])}")
    for what in ("domain", "dataset"):
        label = np.array([getattr(curve, what) for curve in curves])
        held = np.empty(len(curves))
        for one in np.unique(label):
            held[label == one] = found[label == one, found[label != one].mean(axis=0).argmin()]
        print(f"{f'best without its {what}':<32}{held.mean():8.4f}{by_domain(curves, held)}")


def simulated(sets: int) -> None:
    """Coverage of 95 % prediction intervals on data of true laws, at two and four times the largest of few sizes.

    Of all laws averaged, and of the true law alone with the error of its form; and how much larger the average's error
    is than that of the true law, which nobody is told.
    """
    print(f"\n{'95 % intervals, law true':<26}{'n':>4}{'choose 2x':>12}{'4x':>7}{'alone 2x':>12}{'4x':>7}"
          f"{'error of both 2x':>20}{'4x':>7}")  # fmt: skip
    for name, (parameters, noise) in TRUTHS.items():
        for n in (6, 8, 12, 30):
            covered, off = (np.array(part) for part in simulate(LAWS[name], parameters, noise, n, sets))
            (choice, alone), error = covered.mean(axis=0), np.sqrt((off**2).mean(axis=0))
            ratio = error[0] / error[1]
            print(f"{name:<26}{n:>4}{choice[0]:12.3f}{choice[1]:7.3f}{alone[0]:12.3f}{alone[1]:7.3f}"
                  f"{ratio[0]:20.2f}{ratio[1]:7.2f}")  # fmt: skip


def simulate(
    law: Law, parameters: dict[str, float], noise: float, n: int, sets: int
) -> tuple[list[list[Array]], list[list[Array]]]:
    """Whether new points lie inside, and the error of the curve, (2,) each: of the choice, and of the law alone."""
    x = np.append(np.geomspace(16, 16384, n), [2 * 16384, 4 * 16384])
    curve, random = law.value(parameters, x), np.random.default_rng([n, sets])
    covered, errors = [], []
    for _ in range(sets):
        off = noise * random.standard_normal(len(x))
        y = curve * np.exp(off) if law.log_residuals else curve + off
        ways = [averaged([KNOWN[name] for name in DEFAULT], x[:n], y[:n]), averaged([law], x[:n], y[:n], begins=ALL)]
        inside, wrong = [], []
        for way in ways:
            assert way is not None
            told = way.foretell(np.log(x[n:]))
            half = special.stdtrit(way.freedom, 0.975) * np.sqrt(told.own + told.between + told.form + told.noise)
            inside.append(np.abs(np.log(y[n:]) - told.value) <= half)
            wrong.append(told.value - np.log(curve[n:]))
        covered.append(inside)
        errors.append(wrong)
    return covered, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("curves", help="the csv file of learning curves")
    parser.add_argument("--sets", type=int, default=50, help="simulated data sets for each law and number of points")
    arguments = parser.parse_args()
    curves = load(arguments.curves)
    machine, clusters = platform.processor() or platform.machine(), len({curve.cluster for curve in curves})
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, NumPy {np.__version__}")
    print(f"{len(curves)} curves in {clusters} clusters, resampled {RESAMPLES} times")
    for part in (errors, intervals, settings):
        part(curves)
    simulated(arguments.sets)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()

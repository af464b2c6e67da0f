"""Finished sweeps replayed: GPU hours until a stated prediction is known as well as the whole grid would make it.

    python benchmarks/next_trials.py [--starts 50]

Every replay begins with one trial drawn at random. ``random`` goes on in a random order; ``next`` goes on as
``tokscale next`` says, in rounds of a tenth of the grid's hours (or the dearest trial's, if that is more): a cheap
start, then plans, each from the results so far. ``no doubt`` is the same for who takes the law for certain.

Hours are parts of the whole grid's, widths parts of the whole grid's 95 % interval. ``budget``: the least hours from
which on the median width over the starts is 1.25 or less; ``saved`` against random; ``holds``: the share of starts
whose interval holds the answer at that budget. ``first``: hours at which a replay's own width is 1.25 or less for the
first time, mean and standard deviation over the starts, and ``holds`` then. ``half``: the median width at half of the
hours. The answer is the truth of a simulated sweep, and the whole grid's own fit of a published one.

To stop at the first interval that looks narrow enough favours luck: few trials sometimes underestimate their noise, and
an interval that ends a replay covers less than one at a fixed budget, whoever chose the trials. The size of the doubt
was chosen on these very sweeps: of 0, 0.5, 1 and 2, the least that kept the intervals of ViTok's figure 2 honest.

Hours: ViTok's tokenizers at 47 for 256 tokens (docs/costs.md) in proportion to tokens, with attention's square; its
diffusion transformers ten times that; the encoder and decoder sweep by parameters. Simulated grids: see ``simulated``.
GigaTok's tables have three sizes a curve, which leaves nothing to choose.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import intervals, published
from analysis.laws import Array, Law, law_named
from analysis.next_trials.answer import DOUBT
from analysis.next_trials.belief import believe
from analysis.next_trials.choosing import Freedom, Offers, choose
from analysis.next_trials.knowledge import Question
from analysis.next_trials.start import spread_out
from analysis.next_trials.target import Target, read_target
from analysis.solver import problem, solve

LEVEL = 0.95
ENOUGH = 1.25
ROUND = 0.1
BUDGETS = np.linspace(0.02, 1.0, 50)
HALF = 24  # the place of one half among them


@dataclass(frozen=True)
class Sweep:
    """A finished grid: a law, a target, sizes (k, n), measures (n,), hours (n,), and the true answer if it is known."""

    law: Law
    target: Target
    x: Array
    y: Array
    hours: Array
    truth: float | None = None

    def interval(self, done: Sequence[int]) -> tuple[float, float]:
        """Limits of the target by the trials that are done, on the scale of its interval."""
        rows = list(done)
        task = problem(self.law, self.x[:, rows], self.y[None, rows])
        if task.freedom < 1 or len(np.unique(self.x[:, rows], axis=1).T) <= len(self.law.parameters):
            return -math.inf, math.inf
        solution = solve(task)
        if self.target.kind == "value":
            found = intervals.curve_limits(task, solution, np.log(np.array(self.target.at))[:, None], LEVEL, False)
            return float(found.low[0]), float(found.high[0])
        if self.target.kind == "optimum":
            ends = intervals.turning_point_limits(task, solution, LEVEL)
            return (-math.inf, math.inf) if ends is None else (ends[0] * math.log(2), ends[1] * math.log(2))
        found = intervals.parameter_limits(task, solution, LEVEL)
        place = self.law.parameters.index(self.target.parameter)
        return float(found.low[0, place]), float(found.high[0, place])

    def answer(self) -> float:
        """The truth, or what the whole grid says."""
        if self.truth is not None:
            return self.truth
        task = problem(self.law, self.x, self.y[None])
        return float(self.target.values(task, solve(task).coordinates)[0])


def in_random_order(sweep: Sweep, first: int, rng: np.random.Generator) -> list[list[int]]:
    others = [place for place in range(len(sweep.y)) if place != first]
    return [[first], *([int(place)] for place in rng.permutation(others))]


def as_next_says(sweep: Sweep, first: int, rng: np.random.Generator, doubt: float) -> list[list[int]]:
    """Rounds of trials, each chosen by the results of those before it."""
    done, rounds, grid = [first], [[first]], sweep.hours.sum()
    while rest := [place for place in range(len(sweep.y)) if place not in done]:
        offers = Offers.apart(np.arange(len(rest)), sweep.hours[rest])
        lacking = len(sweep.law.parameters) + 1 - len(np.unique(sweep.x[:, done], axis=1).T)
        if lacking > 0:
            chosen = spread_out(np.log(sweep.x[:, rest]), offers, np.log(sweep.x[:, done]), lacking, grid).trials
        else:
            budget = max(ROUND * grid, float(sweep.hours[rest].max()))
            chosen = planned(sweep, done, rest, budget, doubt, rng)
        # A grid of which nothing more helps is finished from its cheapest trial on.
        added = [rest[place] for place in chosen] or [min(rest, key=lambda place: float(sweep.hours[place]))]
        rounds.append(added)
        done += added
    return rounds


def planned(
    sweep: Sweep, done: list[int], rest: list[int], budget: float, doubt: float, rng: np.random.Generator
) -> Sequence[int]:
    """Places in ``rest`` of the trials that the results so far ask for; every trial is a configuration of its own."""
    belief = believe(sweep.law, sweep.x[:, done], sweep.y[done], rng, sample=8)
    question = Question(sweep.target, belief, np.log(sweep.x) - belief.task.center, doubt, belief.sample)
    known = question.nothing()
    for place in done:
        known = known.after(place)
    freedom = Freedom(frozenset(done), len(sweep.law.parameters), LEVEL)
    return choose(known, Offers.apart(np.array(rest), sweep.hours[rest]), budget, freedom).trials


def vitok(y: str, target: str, law: str) -> Callable[[np.random.Generator], Sweep]:
    table = published("vitok_fig2_bottleneck_256p")
    table = table[table["dataset"] == "imagenet1k_val_50k"]
    return lambda _: Sweep(law_named(law), read_target(target), *columns(table, ["E"], y), tokenizer_hours(table["L"]))


def vitok_generation(_: np.random.Generator) -> Sweep:
    table = published("vitok_fig5_generation_vs_E")
    x, y = columns(table, ["E"], "gFID_cfg1.5")
    # FIDs were fitted in their logarithm.
    return Sweep(law_named("quadratic"), read_target("optimum of gFID over E"), x, np.log(y),
                 11 * tokenizer_hours(table["L"]))  # fmt: skip


def vitok_sizes(_: np.random.Generator) -> Sweep:
    table = published("vitok_fig6to9_encoder_decoder_sweep")
    x, y = columns(table, ["dec_params_M"], "PSNR")
    hours = table["total_params_M"].to_numpy(dtype=np.float64)
    return Sweep(law_named("semilog"), read_target("PSNR at decoder=1000"), x, y, hours)


def columns(table: object, x: list[str], y: str) -> tuple[Array, Array]:
    import pandas as pd

    assert isinstance(table, pd.DataFrame)
    return table[x].to_numpy(dtype=np.float64).T, table[y].to_numpy(dtype=np.float64)


def tokenizer_hours(tokens: object) -> Array:
    length = np.asarray(tokens, dtype=np.float64)
    return 47 * (length / 256) * (1 + length / 4608) / (1 + 256 / 4608)


def simulated(
    law: str, parameters: dict[str, float], target: str, error: float, power: float, bend: float = 0.0
) -> Callable[[np.random.Generator], Sweep]:
    """17 sizes from 256 to 65536 whose hours grow with a power of the size; ``bend``: what a power law's log strays by.

    A bent truth is flat up to 8192 floats and then rises above the law: no law of the fit is true.
    """
    form = law_named(law)

    def curve(x: Array) -> Array:
        return form.value(parameters, x) * (1 + (x / 8192) ** 2) ** (bend / 2)

    def draw(rng: np.random.Generator) -> Sweep:
        x, wanted = np.geomspace(256, 65536, 17), read_target(target)
        noise = error * rng.standard_normal(17)
        y = curve(x) * np.exp(noise) if form.log_residuals else curve(x) + noise
        clean = problem(form, x[None], curve(x)[None])
        truth = float(wanted.values(clean, solve(clean).coordinates)[0])
        if bend:
            truth = float(np.log(curve(np.array(wanted.at)))[0])
        return Sweep(form, wanted, x[None], y, x**power, truth)

    return draw


def joint(rng: np.random.Generator) -> Sweep:
    """Five encoders by five decoders, whose hours grow with the parameters of both."""
    form, wanted = law_named("additive", 2), read_target("y at encoder=4e9, decoder=4e9")
    x = np.array([part.ravel() for part in np.meshgrid(*[np.geomspace(1e7, 1e9, 5)] * 2)])
    y, truth = (form.value(JOINT, sizes) for sizes in (x, np.array(wanted.at)[:, None]))
    return Sweep(form, wanted, x, y * np.exp(0.02 * rng.standard_normal(25)), x.sum(axis=0), float(np.log(truth[0])))


VALLEY = {"floor": 2.0, "scale": 300.0, "exponent": 0.8, "rise_scale": 2e-4, "rise_exponent": 0.9}
JOINT = {"floor": 1.0, "scale_1": 300.0, "exponent_1": 0.4, "scale_2": 900.0, "exponent_2": 0.4}
SWEEPS: dict[str, Callable[[np.random.Generator], Sweep]] = {
    "ViTok fig 2, rFID at E=128k": vitok("rFID", "rFID at E=131072", "power"),
    "ViTok fig 2, PSNR at E=128k": vitok("PSNR", "PSNR at E=131072", "semilog"),
    "ViTok fig 2, exponent of rFID": vitok("rFID", "exponent of rFID over E", "power"),
    "ViTok fig 5, best E for gFID": vitok_generation,
    "ViTok fig 7, PSNR at dec 1 G": vitok_sizes,
    "power law, value at 4x": simulated("power", {"scale": 3e3, "exponent": 0.8}, "y at x=262144", 0.1, 0.7),
    "semilog, slope": simulated("semilog", {"intercept": 1.0, "slope": 2.0}, "slope of y over x", 0.5, 0.7),
    "parabola, optimum": simulated("quadratic", {"intercept": 40.0, "slope": -6.0, "curvature": 0.25},
                                   "optimum of y over x", 0.5, 0.7),
    "valley, optimum": simulated("valley", VALLEY, "optimum of y over x", 0.02, 0.7),
    "additive, value at 4x": joint,
    "bent power law, value at 1x": simulated("power", {"scale": 3e3, "exponent": 0.8}, "y at x=65536", 0.1, 0.7, 0.3),
}  # fmt: skip
POLICIES: dict[str, Callable[[Sweep, int, np.random.Generator], list[list[int]]]] = {
    "random": in_random_order,
    "next": lambda sweep, first, rng: as_next_says(sweep, first, rng, DOUBT),
    "no doubt": lambda sweep, first, rng: as_next_says(sweep, first, rng, 0.0),
}


def replay(sweep: Sweep, rounds: list[list[int]]) -> tuple[Array, Array, float, bool]:
    """Widths and whether they hold the answer at all ``BUDGETS``, and the same hours and truth when narrow enough."""
    answer, whole = sweep.answer(), sweep.interval(range(len(sweep.y)))
    done: list[int] = []
    widths, holds = np.full(len(BUDGETS), np.inf), np.ones(len(BUDGETS), dtype=np.float64)
    first: tuple[float, bool] | None = None
    for trial in (place for added in rounds for place in added):
        done.append(trial)
        low, high = sweep.interval(done)
        hours, width = float(sweep.hours[done].sum() / sweep.hours.sum()), (high - low) / (whole[1] - whole[0])
        within = hours - 1e-9 <= BUDGETS
        widths[within], holds[within] = width, low <= answer <= high
        if first is None and width <= ENOUGH:
            first = hours, low <= answer <= high
    assert first is not None, "the whole grid is as narrow as itself"
    return widths, holds, *first


def measured(make: Callable[[np.random.Generator], Sweep], policy: str, starts: int) -> tuple[float, float, str]:
    """The budget of a policy, the share that holds then, and the columns behind those."""
    replays = []
    for start in range(starts):
        sweep, rng = make(np.random.default_rng(start)), np.random.default_rng([start, 1])
        replays.append(replay(sweep, POLICIES[policy](sweep, int(rng.integers(len(sweep.y))), rng)))
    widths, holds, hours, held = (np.array(column) for column in zip(*replays, strict=True))
    typical = np.median(widths, axis=0)
    wide = np.flatnonzero(typical > ENOUGH)
    place = int(wide[-1]) + 1 if len(wide) else 0
    told = f"{hours.mean():6.2f} ± {hours.std():.2f} {held.mean():6.2f} {typical[HALF]:8.2f}"
    return float(BUDGETS[place]), float(holds[:, place].mean()), told


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=50, help="replays of each sweep by each policy")
    starts = parser.parse_args().starts
    print(f"# {datetime.date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"NumPy {np.__version__}, {starts} starts")  # fmt: skip
    print(f"{'sweep':<30} {'policy':<9} {'budget':>6} {'saved':>6} {'holds':>6}   {'first':>13} {'holds':>6} "
          f"{'half':>8} {'seconds':>8}")  # fmt: skip
    for name, make in SWEEPS.items():
        base = 0.0
        for policy in POLICIES:
            begun = time.perf_counter()
            budget, holds, told = measured(make, policy, starts)
            base = base or budget
            print(f"{name:<30} {policy:<9} {budget:6.2f} {1 - budget / base:6.0%} {holds:6.2f}   {told} "
                  f"{time.perf_counter() - begun:8.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

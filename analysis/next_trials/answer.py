"""``next_trials``: from results and candidates to the trials to run next, with what they are expected to bring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.diagnostics import aicc
from analysis.estimation import Request, points_for
from analysis.fitted import check_level
from analysis.laws import LAW_NAMES, Law, law_named
from analysis.next_trials.belief import SAMPLE, believe
from analysis.next_trials.choosing import Choice, Freedom, Offers, choose
from analysis.next_trials.knowledge import Knowledge, Question
from analysis.next_trials.start import spread_out
from analysis.next_trials.tables import Candidates, Places, open_candidates
from analysis.next_trials.target import Target, read_target
from analysis.solver import problem, solve
from analysis.table import Points, select
from tokscale.errors import TableError, UsageError, one_of
from tokscale.record import COLUMNS

Array = npt.NDArray[np.float64]
Ends = tuple[float | None, float | None]

DOUBT = 1.0
"""standard deviation of the law's own error, in those of the residuals (benchmarks/next_trials.py)"""
SPARE = 1
"""configurations beyond a law's parameters that it takes to plan by it; fewer are a start"""
_USUAL = 3  # parameters of a law that nobody named
_LARGEST_SAMPLE = 2e7  # numbers that are held at once; with many configurations the sample is smaller


@dataclass(frozen=True)
class Step:
    """A trial to run: what it is, its sizes, its hours beside those above it, and the interval once it is done.

    ``share`` is the interval's width in parts of today's; the limits are None where the law says nothing yet.
    """

    trial: str
    label: str
    sizes: Mapping[str, float]
    hours: float
    low: float | None
    high: float | None
    share: float | None


@dataclass(frozen=True)
class Next:
    """What to run next for a target; ``law`` is None for a start, whose trials only spread over the sizes.

    ``value``, ``low`` and ``high`` are the target as the finished trials leave it, in the same linear approximation as
    the intervals of the steps.
    """

    target: Target
    law: str | None
    n: int
    level: float
    budget: float
    value: float | None
    low: float | None
    high: float | None
    steps: tuple[Step, ...]
    candidates: int
    cheapest: float
    warnings: tuple[str, ...] = field(default=())

    @property
    def hours(self) -> float:
        """Hours of all trials together."""
        return sum(step.hours for step in self.steps)

    def _why(self) -> str:
        if not self.candidates:
            return "no trial of the grid is left that would measure it"
        if self.cheapest > self.budget:
            least, most = hours_shown(self.cheapest), hours_shown(self.budget)
            return f"the cheapest candidate takes {least} GPU hours, the budget is {most}"
        return "no candidate within the budget narrows the interval"

    def to_json(self) -> dict[str, Any]:
        """The answer as ``tokscale next --json`` prints it."""
        steps = [{"trial": one.trial, "label": one.label, "sizes": dict(one.sizes), "gpu_hours": one.hours,
                  "low": one.low, "high": one.high, "share": one.share} for one in self.steps]  # fmt: skip
        return {"target": str(self.target), "law": self.law, "n": self.n, "interval": self.level,
                "value": self.value, "low": self.low, "high": self.high, "budget": self.budget,
                "gpu_hours": self.hours, "candidates": self.candidates, "trials": steps,
                "warnings": list(self.warnings)}  # fmt: skip

    def sentence(self) -> str:
        """The answer in one sentence."""
        spent = "less than 0.01" if self.hours < 0.01 else hours_shown(self.hours)
        what = f"{len(self.steps)} of {self.candidates} trials, {spent} of {hours_shown(self.budget)} GPU hours"
        if not self.steps:
            return f"Nothing to run for {self.target}: {self._why()}."
        if self.law is None:
            return f"{what}: a start that spreads over the sizes, as {self.n} configurations are too few to plan by."
        share = self.steps[-1].share
        assert share is not None
        return f"{what} are expected to narrow the interval of {self.target} to {share:.0%} of its width ({self.law})."


def hours_shown(hours: float) -> str:
    """GPU hours for people: whole from a hundred on, and seconds below half a minute."""
    if 0 < hours < 0.01:
        return f"{3600 * hours:.2g} s"
    return f"{hours:.0f}" if hours >= 100 else f"{hours:.3g}"


def next_trials(
    results: pd.DataFrame, candidates: pd.DataFrame, target: Target | str, *, budget: float, law: str | None = None,
    x: Sequence[str] = (), where: str | None = None, interval: float = 0.95, doubt: float = DOUBT,
    most: int | None = None, seed: int = 0,
) -> Next:  # fmt: skip
    """The candidates, up to ``most``, that narrow a target's interval the most within a budget of GPU hours.

    ``results`` is a results table, ``candidates`` a table of trials with their sizes, ``trial`` and ``gpu_hours``
    (``analysis.next_trials.tables``). Without a law, the best by AICc that has what is asked for. With fewer
    configurations than a law needs, a start: cheap trials spread over the sizes. Raises ``UsageError`` for a target or
    a law that do not go together, ``TableError`` for columns that are absent.
    """
    wanted = target if isinstance(target, Target) else read_target(target, x)
    if not 0 < budget < math.inf:
        raise UsageError("a budget is a number of GPU hours above 0", where="--budget", given=budget)
    offered = open_candidates(candidates, results, wanted, where)
    results = _with_measure(results, wanted)
    check_level(interval)
    found = _law_and_points(results, wanted, law, where)
    if isinstance(found, int):
        return _start(results, offered, wanted, law, budget, interval, found)
    return _planned(results, offered, wanted, *found, budget, interval, doubt, most, seed)


def _law_and_points(
    results: pd.DataFrame, target: Target, law: str | None, where: str | None
) -> tuple[Law, Points] | int:
    """The law to plan by with its points, or how many sizes were measured, where they are too few for one.

    Of several laws the best by AICc; while none has the points for it, the one with the fewest parameters.
    """
    names = LAW_NAMES if law is None else (law,)
    laws = [one for name in names if (one := _law(name, target, named=law is not None)) is not None]
    if not laws:
        raise UsageError("no law has what is asked for" if law is None else f"{law} has nothing of this kind",
                         where="--target", given=str(target))  # fmt: skip
    if results.empty:
        return 0
    asked = Request(target.x, target.y, None, None, 0.95, "profile")
    found = points_for(select(results, where), laws, asked, None)
    count = len(np.unique(found[0][1].x, axis=1).T)
    enough = [pair for pair in found if count >= len(pair[0].parameters) + SPARE]
    return min(enough, key=lambda pair: _criterion(*pair)) if enough else count


def _criterion(law: Law, points: Points) -> tuple[float, int, float]:
    """What laws are compared by, smaller is better: AICc, then the number of parameters, then the likelihood."""
    task = problem(law, points.x, points.y[None])
    solution = solve(task)
    found = aicc(task, solution, points.y)
    likelihood = points.y.size * float(np.log(solution.cost[0] + 1e-300))
    likelihood += 2 * float(np.log(points.y).sum()) if law.log_residuals else 0.0
    return math.inf if found is None else found, len(law.parameters), likelihood


def _law(name: str, target: Target, *, named: bool) -> Law | None:
    """A law for the target's columns if it has what is asked for; one that a person named is an error otherwise."""
    try:
        law = law_named(name, len(target.x))
    except UsageError:
        if named:
            raise
        return None
    return law if target.suits(law) else None


def _with_measure(results: pd.DataFrame, target: Target) -> pd.DataFrame:
    """The rows that have the target's measure; ``TableError`` for one that nothing could have measured."""
    if target.y in results:
        return results[results[target.y].notna()].reset_index(drop=True)
    if target.y not in COLUMNS:
        names = [*results.columns, *COLUMNS]
        raise TableError("a table has no such column", given=target.y, allowed=one_of(names, target.y))
    return results.iloc[:0]


def _start(
    results: pd.DataFrame, offered: Candidates, target: Target, law: str | None, budget: float, level: float, count: int
) -> Next:  # fmt: skip
    """Enough cheap trials, spread over the sizes, to plan by the law afterwards."""
    wanted = (len(law_named(law, len(target.x)).parameters) if law is not None else _USUAL) + SPARE + 1
    sizes = _log_sizes(offered.table, target)
    taken = np.append(_log_sizes(results, target), _log_sizes(offered.under_way, target), axis=1)
    offers = offered.offers(np.arange(len(offered.table)))
    choice = spread_out(sizes, offers, taken, max(wanted - count - len(offered.under_way), 1), budget)
    steps = _steps(offered, offers, choice, target, [(None, None)] * len(choice.trials))
    return Next(target, None, count, level, budget, None, None, None, steps, len(offered.table),
                offered.cheapest, offered.warnings)  # fmt: skip


def _log_sizes(table: pd.DataFrame, target: Target) -> Array:
    """ln x of the rows of a table (k, n); of an empty one, which may have no columns, none."""
    sizes = table[list(target.x)].to_numpy(dtype=np.float64) if len(table) else np.zeros((0, len(target.x)))
    return np.asarray(np.log(sizes.T))


def _planned(
    results: pd.DataFrame, offered: Candidates, target: Target, law: Law, points: Points, budget: float,
    level: float, doubt: float, most: int | None, seed: int,
) -> Next:  # fmt: skip
    places = Places(target.x)
    done = places.of(results.loc[points.rows])
    waiting, open_ = places.of(offered.under_way), places.of(offered.table)
    sample = int(np.clip(_LARGEST_SAMPLE / ((len(done) + 20) * places.count), 4, SAMPLE))
    runs = points.seeds.astype(np.float64)
    belief = believe(law, points.x, points.y, np.random.default_rng(seed), seeds=runs,
                     seed_variance=points.seed_variance, sample=sample)  # fmt: skip
    z = places.log_sizes - belief.task.center
    freedom = Freedom(frozenset([*done.tolist(), *waiting.tolist()]), len(law.parameters), level)

    def known(coordinates: Array, doubt: float) -> Knowledge:
        knowledge = Question(target, belief, z, doubt, coordinates).nothing()
        for place, count in [*zip(done, runs, strict=True), *((place, 1.0) for place in waiting)]:
            knowledge = knowledge.after(int(place), float(count))
        return knowledge

    offers = offered.offers(open_)
    choice = choose(known(belief.sample, doubt), offers, budget, freedom, most=most)
    ends = _intervals(known(belief.best[None], 0.0), target, [int(open_[trial]) for trial in choice.trials], freedom)
    value, now = ends[0]
    steps = _steps(offered, offers, choice, target, [one for _, one in ends[1:]])
    return Next(target, law.name, len(points.y), level, budget, value, *now, steps, len(offered.table),
                offered.cheapest, (*offered.warnings, *points.warnings))  # fmt: skip


def _intervals(
    knowledge: Knowledge, target: Target, places: Sequence[int], freedom: Freedom
) -> list[tuple[float | None, Ends]]:
    """The target's value and limits now and after each place in turn; None where the fit has no such number."""
    task, best = knowledge.question.belief.task, knowledge.question.coordinates
    if not knowledge.question.answers[0]:
        return [(None, (None, None))] * (len(places) + 1)
    value = float(target.values(task, best)[0])
    found: list[tuple[float | None, Ends]] = []
    for count in range(len(places) + 1):
        half = math.exp(freedom.factor(places[:count])) * float(knowledge.deviations()[0])
        ends = (value, value - half, value + half)
        told = [math.exp(min(end, 700.0)) for end in ends] if target.is_log(task.law) else list(ends)
        found.append((told[0], (told[1], told[2])))
        if count < len(places):
            knowledge = knowledge.after(places[count])
    return found


def _steps(
    offered: Candidates, offers: Offers, choice: Choice, target: Target, ends: Sequence[Ends]
) -> tuple[Step, ...]:  # fmt: skip
    steps = []
    for number, (trial, (low, high)) in enumerate(zip(choice.trials, ends, strict=True)):
        row = offered.table.iloc[trial]
        sizes = {name: float(row[name]) for name in target.x}
        hours = offers.cost(choice.trials[: number + 1]) - offers.cost(choice.trials[:number])
        share = math.exp(choice.widths[number + 1] - choice.widths[0]) if choice.widths else None
        label = str(row["label"]) if "label" in row else ""
        steps.append(Step(str(row["trial"]), label, sizes, hours, low, high, share))
    return tuple(steps)

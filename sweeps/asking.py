"""The rounds of a search: one process asks for points, writes each down before anything of it runs, and hears results.

The process that asks holds a claim in ``search/``. Another one that runs the same sweep follows: it works on what is
asked, and takes over when the first one is gone.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from slurm.profiles import ClusterProfile
from sweeps import marks
from sweeps.dashboard import FILE_NAME, Dashboard
from sweeps.feasibility import INVALID, Feasibility
from sweeps.grid import Trial, flatten
from sweeps.outcomes import PRUNED, Judge, Outcome, front, is_open
from sweeps.planning import Plan, plan_of
from sweeps.profiles import profile_of
from sweeps.resources import Allocator
from sweeps.rounds import Rounds
from sweeps.search import MOST_DRAWS, Search, in_vain
from sweeps.search_log import Point, append_point
from sweeps.store import StageState, StageStatus, Store
from sweeps.study import Sampling, Translation
from tokscale import claim, cost
from tokscale.errors import ConfigError
from tokscale.stage import Stage, canonical

_FALLBACK = 20  # proposals of points that were asked before, after which one is drawn at random
_CLAIMED = "search"  # folder that holds the claim of the process that asks
_MOST_TOLD = 8  # points of a front

Cell = Mapping[str, Any]


class SearchRounds(Rounds):
    """Asks and hears: ``advance`` does all of it."""

    def __init__(self, plan: Plan, store: Store, profile: ClusterProfile | None) -> None:
        super().__init__(plan)
        self.store = store
        self.search = Search(plan.spec, plan.file, store)
        self.config = self.search.config
        self.judge = Judge(self.config, plan.file, store)
        self.translation = Translation(self.config, self.search.space.dimensions)
        self.dashboard = Dashboard(self.translation, self.search.folder / FILE_NAME)
        self.feasibility = Feasibility(plan.spec, plan.file, _Cost(self, profile))
        self._claim: claim.Claim | None = None
        self._losers: list[Point] = []

    def advance(self, statuses: Mapping[str, StageStatus]) -> Plan | None:
        changed = not self._given  # the first time, the plan itself is news
        self._given = True
        changed = self._keep_up() or changed
        known = self._hear(statuses)
        open_points = [point for point, outcome in known if outcome.state == "open"]
        if self._ask(known, len(open_points)):
            changed = True
        if changed:
            self.plan = plan_of(self.plan.spec, self.plan.file, self.store)
            self._hear(statuses)
            return self.plan
        if open_points or self.more:
            return self.plan
        self.close()
        return None

    @property
    def more(self) -> bool:
        return any(self.search.to_come(cell) for cell in self.search.space.cells)

    def satisfied(self, statuses: Mapping[str, StageStatus]) -> bool:
        outcomes = {outcome.state for _, outcome in self._hear(statuses)}
        return not self.more and "done" in outcomes and not outcomes & {"open", "failed"}

    def to_prune(self, statuses: Mapping[str, StageStatus]) -> list[Trial]:
        if self.config.pruner is None or self._claim is None:
            return []
        self._hear(statuses)
        return [trial for point in self._losers for trial in self.search.trials_of(point)
                if is_open(trial, {**self.plan.statuses, **statuses})]  # fmt: skip

    def mark_pruned(self, trials: Sequence[Trial]) -> list[Stage]:
        stages = [stage for stage in self.search.stages_of_none_but(trials)
                  if self.store.status(stage).state is not StageState.done]  # fmt: skip
        marks.cancel([self.store.folder(stage) for stage in stages], PRUNED)
        return stages

    def words(self) -> str:
        return self.search.words()

    def findings(self, statuses: Mapping[str, StageStatus]) -> list[str]:
        lines = []
        for name, known in self._by_study(self._hear(statuses)).items():
            best = front(known, self.config)
            lines += [f"{name}: {len(best)} points on the front"] if len(best) > 1 else []
            lines += [f"{name}: best: {self._told(*pair)}" for pair in best[:_MOST_TOLD]]
        return lines

    def _told(self, point: Point, outcome: Outcome) -> str:
        """A point and its values for people."""
        values = zip(self.config.objectives, outcome.values, strict=True)
        reached = ", ".join(f"{objective.measure} {value:.6g}" for objective, value in values)
        return f"{reached} at {', '.join(f'{path} = {value}' for path, value in point.params.items())}"

    def asker(self) -> str | None:
        owner = claim.holder(self.search.folder / _CLAIMED) if self._claim is None else None
        return None if owner is None else f"{owner.host}:{owner.pid}"

    def close(self) -> None:
        if self._claim is not None:
            self._claim.release({"state": "done"})
            self._claim = None

    def _keep_up(self) -> bool:
        """Become the one that asks if nobody is; else read what the one that does has asked. Whether it was news."""
        if self._claim is not None and self._claim.owned():
            return False
        before = len(self.search.points)
        if self._claim is not None:
            self.close()  # it was lost: another process asks now
        self._claim = claim.claim(self.search.folder / _CLAIMED)
        self.search.reload()
        return len(self.search.points) != before

    def _hear(self, statuses: Mapping[str, StageStatus]) -> list[tuple[Point, Outcome]]:
        """What became of every point so far; the dashboard and the pruner learn of it too."""
        now = {**self.plan.statuses, **statuses}
        known = [(point, self.judge.outcome(point, self.search.trials_of(point), now)) for point in self.search.points]
        if self._claim is not None:
            self._losers = self.dashboard.follow(self._by_study(known))
        return known

    def _by_study(self, known: Sequence[tuple[Point, Outcome]]) -> dict[str, list[tuple[Point, Outcome]]]:
        """Points with their outcomes by the name of their study: the sweep's, and the point of the grid."""
        outcomes = {point.number: outcome for point, outcome in known}
        return {
            _study_name(self.plan.spec.name, cell): [(point, outcomes[point.number]) for point in points]
            for cell in self.search.space.cells
            if (points := self.search.points_of(cell))
        }

    def _ask(self, known: Sequence[tuple[Point, Outcome]], open_points: int) -> bool:
        """Ask for points until enough are open; whether there are new ones."""
        most = self.config.at_once
        rounds: dict[str, _Round] = {}
        asked = False
        while (most is None or open_points < most) and self._claim is not None and self._claim.owned():
            cells = [cell for cell in self.search.space.cells if self.search.to_come(cell)]
            if not cells:
                break
            cell = min(cells, key=lambda cell: sum(point.feasible for point in self.search.points_of(cell)))
            name = canonical(cell)
            if name not in rounds:
                numbers = {point.number for point in self.search.points_of(cell)}
                rounds[name] = _Round(self, cell, [pair for pair in known if pair[0].number in numbers])
            if rounds[name].ask():
                open_points += 1
                asked = True
            else:
                self.search.exhausted.add(name)
        if self._claim is not None and not self.search.taken and not self.more:
            self._refuse()
        return asked

    def _refuse(self) -> None:
        broken = Counter(name for point in self.search.points for name in point.broken)
        worst = ", ".join(f"{name} ({count} times)" for name, count in broken.most_common(3))
        raise ConfigError(
            f"no feasible point among {len(self.search.points)} draws", given=f"most often broken: {worst}",
            where=self.plan.file.place("search.constraints" if self.config.constraints else "search.space"),
            allowed="a space of which a fair share keeps the constraints",
        )  # fmt: skip


class _Round:
    """Asking at one point of the grid, from what is known when the round begins."""

    def __init__(self, rounds: SearchRounds, cell: Cell, known: Sequence[tuple[Point, Outcome]]) -> None:
        self.rounds, self.search, self.cell = rounds, rounds.search, cell
        self.points = list(rounds.search.points_of(cell))
        self.seen = {canonical(point.params) for point in self.points}
        self.known = known
        self._sampling: Sampling | None = None
        self._in_order = iter(self.search.space.in_order(self.search.config.trials))

    def ask(self) -> bool:
        """Ask for one feasible point that is new; False when none is found in many draws."""
        for params, notes in self._draws():
            if canonical(params) in self.seen:
                continue
            trials, constraints = self._tried(params)
            point = Point(self.search.next_number, params, tuple(trial.id for trial in trials), round(time.time(), 3),
                          dict(self.cell), constraints, notes)  # fmt: skip
            if point.feasible and any(trial.id in self.search.taken for trial in trials):
                continue  # another way to write the same trial
            append_point(self.search.log, point)
            self.search.add(point, trials)
            self.points.append(point)
            self.seen.add(canonical(params))
            if self._sampling is not None:
                self._sampling.note(point)
            if point.feasible:
                return True
        return False

    def _draws(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Proposals, a bounded number of them. Each has a seed of its own, by what was written down before it."""
        config = self.search.config
        if config.sampler == "grid":
            for params in self._in_order:  # goes on where the last call stopped
                yield params, {}
            return
        if self._sampling is None:
            self._sampling = Sampling(self.rounds.translation, self.known, self._described)
        logged, again = -1, 0
        while in_vain(self.points) + again < MOST_DRAWS:
            again = again + 1 if logged == len(self.points) else 0
            logged = len(self.points)
            seed = random.Random(f"{config.seed} {canonical(self.cell)} {logged} {again}").getrandbits(32)
            yield self._sampling.draw(seed, at_random=again >= _FALLBACK)

    def _described(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """Sizes and settings of a point's trial, and its device hours, or FLOPs where no rate is known; None where its
        settings do not go together, or break a constraint."""
        trials, constraints = self._tried(params)
        if not trials or any(value > 0 for value in constraints.values()):
            return None
        hours = [self.rounds.feasibility.cost.gpu_hours(trial) for trial in trials]
        if any(one is None for one in hours):
            hours = [self.rounds.feasibility.cost.flops(trial) for trial in trials]
        return {**flatten(trials[0].config), **trials[0].sizes, "gpu_hours": sum(one or 0.0 for one in hours)}

    def _tried(self, params: Mapping[str, Any]) -> tuple[list[Trial], dict[str, float]]:
        """The trials that would judge a point, and how they stand to the constraints."""
        try:
            trials = self.search.space.trials(self.search.space.rows(self.cell, params), where=False)
        except ConfigError:
            return [], {INVALID: 1.0}
        return trials, self.rounds.feasibility.values(trials)


class _Cost:
    """What trials take, on the cluster that is meant."""

    def __init__(self, rounds: SearchRounds, profile: ClusterProfile | None) -> None:
        self.rounds = rounds
        spec = rounds.plan.spec
        asks = any("gpu_hours" in limit.expression.names for limit in rounds.config.limits())
        if profile is None and spec.cluster is not None and asks:
            profile = profile_of(spec.cluster)
        self._profile = profile
        self._allocator: tuple[Plan, Allocator] | None = None

    def flops(self, trial: Trial) -> float:
        """FLOPs of all stages of a trial."""
        return sum(cost.stage_cost(stage.kind, trial.config).flops for stage in trial.stages)

    def gpu_hours(self, trial: Trial) -> float | None:
        """Device hours of all stages of a trial; raises ``UsageError`` when one does not fit the cluster."""
        if self._profile is None:
            return None
        plan = self.rounds.plan
        if self._allocator is None or self._allocator[0] is not plan:
            self._allocator = plan, Allocator(self._profile, plan, self.rounds.store)
        allocator = self._allocator[1]
        allocator.plan = replace(
            plan, stages={stage.key: stage for stage in trial.stages},
            costs={stage.key: cost.stage_cost(stage.kind, trial.config) for stage in trial.stages},
        )  # fmt: skip
        hours = [allocator.of(stage.key).gpu_hours for stage in trial.stages]
        return None if any(one is None for one in hours) else sum(one for one in hours if one is not None)


def _study_name(sweep: str, cell: Cell) -> str:
    return " ".join([sweep, *(f"{path}={value}" for path, value in cell.items())])

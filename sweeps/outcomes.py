"""What became of the points of a search: judged from the states of their stages and from the records alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeps import marks
from sweeps.curves import read_curve
from sweeps.grid import Trial
from sweeps.search_config import SearchConfig
from sweeps.search_log import Point
from sweeps.spec import SpecFile
from sweeps.store import StageState, StageStatus, Store
from tokscale.errors import ConfigError, one_of
from tokscale.stage import Stage

PRUNED = "pruned"
"""why a stage that the pruner ended is cancelled"""
_SUMMED = ("wall_seconds", "gpu_seconds", "skipped_files")  # measures that every stage of a trial has
_IN_VAIN = (StageState.failed, StageState.cancelled, StageState.blocked)
_NEW = StageStatus(StageState.new)


@dataclass(frozen=True)
class Outcome:
    """What became of a point: its values, one for each objective, when it is done; its curve as far as it went.

    ``curve`` is percent of the budget -> measure of the pruner; ``ended`` in seconds since the epoch, where known.
    """

    state: Literal["open", "done", "failed", "diverged", "pruned", "infeasible"]
    values: tuple[float, ...] = ()
    curve: Mapping[int, float] = field(default_factory=dict)
    ended: float | None = None


class Judge:
    """Tells the outcome of points; what it has read of a finished point it does not read again."""

    def __init__(self, config: SearchConfig, file: SpecFile, store: Store) -> None:
        self.config, self.file, self.store = config, file, store
        self._known: dict[int, tuple[tuple[StageStatus, ...], Outcome]] = {}
        self._curves: dict[Path, tuple[int, dict[int, float]]] = {}

    def outcome(self, point: Point, trials: Sequence[Trial], statuses: Mapping[str, StageStatus]) -> Outcome:
        """What became of a point that these trials judge; a stage without a status was not begun.

        Raises ``ConfigError`` when a trial is done and does not have a measure that is sought.
        """
        if not point.feasible:
            return Outcome("infeasible")
        found = tuple(statuses.get(stage.key, _NEW) for trial in trials for stage in trial.stages)
        known = self._known.get(point.number)
        if known is not None and known[0] == found and known[1].state != "open":
            return known[1]
        outcome = self._judged(trials, statuses)
        self._known[point.number] = (found, outcome)
        return outcome

    def _judged(self, trials: Sequence[Trial], statuses: Mapping[str, StageStatus]) -> Outcome:
        curve = self._curve(trials)
        if any(is_open(trial, statuses) for trial in trials):
            return Outcome("open", curve=curve)
        values = self._values(trials, statuses)
        stages = [stage for trial in trials for stage in trial.stages]
        if values is not None:
            return Outcome("done", values, curve, self._ended(stages))
        found = [(stage, statuses.get(stage.key, _NEW)) for stage in stages]
        if any(status.state is StageState.failed and status.cause == "diverged" for _, status in found):
            return Outcome("diverged", curve=curve)
        if any(status.state is StageState.cancelled and self._is_pruned(stage) for stage, status in found):
            return Outcome("pruned", curve=curve)
        return Outcome("failed", curve=curve)

    def _values(self, trials: Sequence[Trial], statuses: Mapping[str, StageStatus]) -> tuple[float, ...] | None:
        """The objectives, each the mean over the seeds; None when a trial was not judged."""
        columns: list[list[float]] = [[] for _ in self.config.objectives]
        for trial in trials:
            measures = self._measures(trial, statuses)
            for number, objective in enumerate(self.config.objectives):
                if objective.measure in measures:
                    columns[number].append(float(measures[objective.measure]))
                elif all(statuses.get(stage.key, _NEW).state is StageState.done for stage in trial.stages):
                    raise ConfigError(
                        f"a trial is done, and has no {objective.measure}", given=f"trial {trial.id}",
                        where=self.file.place(f"search.objectives.{number}"),
                        allowed=one_of(measures, objective.measure),
                    )  # fmt: skip
        if any(len(column) < len(trials) for column in columns):
            return None
        return tuple(math.fsum(column) / len(column) for column in columns)

    def _measures(self, trial: Trial, statuses: Mapping[str, StageStatus]) -> dict[str, Any]:
        """Sizes and measures of a trial, as the results table has them."""
        measures: dict[str, Any] = dict(trial.sizes)
        for stage in trial.stages:
            if statuses.get(stage.key, _NEW).state is not StageState.done:
                continue
            record = self.store.record(stage)
            for name, value in record.measures.items() if record is not None else ():
                measures[name] = measures.get(name, 0.0) + value if name in _SUMMED else value
        return measures

    def _curve(self, trials: Sequence[Trial]) -> dict[int, float]:
        pruner = self.config.pruner
        if pruner is None:
            return {}
        stage = next((stage for stage in trials[0].stages if stage.kind == pruner.on), None)
        if stage is None:
            raise ConfigError("the pruner looks at a stage that a trial does not have", given=pruner.on,
                              where=self.file.place("search.pruner.on"),
                              allowed=one_of(stage.kind for stage in trials[0].stages))  # fmt: skip
        path = self.store.folder(stage).progress
        size = path.stat().st_size if path.exists() else 0
        if self._curves.get(path, (-1, {}))[0] != size:
            self._curves[path] = (size, read_curve(path, pruner.measure))
        return self._curves[path][1]

    def _is_pruned(self, stage: Stage) -> bool:
        return marks.cancelled(self.store.folder(stage)).get("why") == PRUNED

    def _ended(self, stages: Iterable[Stage]) -> float | None:
        """When the last record was written."""
        times = [path.stat().st_mtime for stage in stages if (path := self.store.folder(stage).record).exists()]
        return max(times, default=None)


def front(known: Iterable[tuple[Point, Outcome]], config: SearchConfig) -> list[tuple[Point, Outcome]]:
    """The finished points that none beats in one objective without losing in another; of one objective, the best."""
    signs = [1.0 if objective.direction == "minimize" else -1.0 for objective in config.objectives]
    done = [pair for pair in known if pair[1].state == "done"]
    losses = [tuple(sign * value for sign, value in zip(signs, outcome.values, strict=True)) for _, outcome in done]
    return [
        pair for pair, mine in zip(done, losses, strict=True)
        if not any(other != mine and all(one <= two for one, two in zip(other, mine, strict=True)) for other in losses)
    ]  # fmt: skip


def is_open(trial: Trial, statuses: Mapping[str, StageStatus]) -> bool:
    """Whether a trial, its stages parents first, has a stage that is not done and can still be."""
    lost: set[str] = set()
    for stage in trial.stages:
        state = statuses.get(stage.key, _NEW).state
        if state in _IN_VAIN or any(f"{kind}/{identity}" in lost for kind, identity in stage.parents.items()):
            lost.add(stage.key)
        elif state is not StageState.done:
            return True
    return False

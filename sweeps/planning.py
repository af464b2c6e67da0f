"""The plan of a sweep: what is wanted, what is there already, and what the rest will cost. It changes nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sweeps.grid import Trial, expand
from sweeps.search import Search
from sweeps.spec import SpecFile, SweepSpec, load_spec
from sweeps.store import StageState, StageStatus, Store
from tokscale import cost
from tokscale.stage import KINDS, Stage


@dataclass(frozen=True)
class Plan:
    """A sweep's trials and stages with their states; stages that trials share stand here once."""

    spec: SweepSpec
    file: SpecFile
    trials: tuple[Trial, ...]
    stages: Mapping[str, Stage]
    costs: Mapping[str, cost.StageCost]
    statuses: Mapping[str, StageStatus]
    asked: str = ""
    """of a search, whose trials are those asked for so far: how many there are, and how many are to come"""

    def missing(self) -> list[Stage]:
        """Stages that are wanted and not validly done, parents before children."""
        return [stage for key, stage in self.stages.items() if self.statuses[key].state is not StageState.done]


@dataclass(frozen=True)
class KindSummary:
    """One row of the plan: the stages of one kind, how many are in which state, and what the missing ones cost."""

    kind: str
    stages: int
    states: Mapping[str, int]
    missing_flops: float
    missing_disk_bytes: int
    largest_memory_bytes: int


def make_plan(path: Path, store: Store, *, small: bool = False) -> Plan:
    """Plan the sweep of a spec file, or of its small form, against what the store holds."""
    spec, file = load_spec(path, small=small)
    return plan_of(spec, file, store)


def plan_of(spec: SweepSpec, file: SpecFile, store: Store) -> Plan:
    """Plan a sweep that is already read."""
    with _collector_at_rest():
        if spec.search is None:
            return _priced(spec, file, expand(spec, file), store)
        search = Search(spec, file, store)
        return replace(_priced(spec, file, search.trials(), store), asked=search.words())


def _priced(spec: SweepSpec, file: SpecFile, trials: list[Trial], store: Store) -> Plan:
    stages: dict[str, Stage] = {}
    costs: dict[str, cost.StageCost] = {}
    priced: dict[tuple[object, ...], cost.StageCost] = {}
    for trial in trials:
        # seeds change no cost, and a grid has few different tokenizers: price each combination of sections once
        sections = tuple(id(getattr(trial.config, name)) for name in type(trial.config).model_fields if name != "seed")
        for stage in trial.stages:
            if stage.key in stages:
                continue
            stages[stage.key] = stage
            price = priced.get((stage.kind, sections))
            if price is None:
                price = priced[stage.kind, sections] = cost.stage_cost(stage.kind, trial.config)
            costs[stage.key] = price
    return Plan(spec, file, tuple(trials), stages, costs, store.statuses(stages.values()))


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Without garbage collection: a plan makes some 10^5 objects and drops none, and each pass would walk them all."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()  # the plan lives on: nor shall later passes walk it
            gc.enable()


def summarize(plan: Plan) -> list[KindSummary]:
    """The plan's rows, one for each kind of stage, in the order in which a trial goes through them."""
    rows = []
    for kind in KINDS:
        keys = [key for key, stage in plan.stages.items() if stage.kind == kind]
        if not keys:
            continue
        states = {state.value: 0 for state in StageState}
        for key in keys:
            states[plan.statuses[key].state.value] += 1
        missing = [plan.costs[key] for key in keys if plan.statuses[key].state is not StageState.done]
        rows.append(KindSummary(
            kind, len(keys), states, sum(item.flops for item in missing),
            sum(item.disk_bytes for item in missing), max((item.memory_bytes for item in missing), default=0),
        ))  # fmt: skip
    return rows

"""Finding one stage of a sweep by what a person remembers of it."""

from __future__ import annotations

from pathlib import Path

from sweeps.grid import Trial
from sweeps.planning import Plan
from sweeps.results import log_of
from sweeps.store import StageState, Store
from tokscale import cost
from tokscale.errors import UsageError, one_of
from tokscale.stage import KINDS


def find_trial(plan: Plan, words: str) -> Trial:
    """The one trial whose id or label begins with these words; several or none raise ``UsageError``."""
    labels = {trial.id: cost.label(trial.config) for trial in plan.trials}
    exact = [trial for trial in plan.trials if words in (trial.id, labels[trial.id])]
    found = exact or [
        trial for trial in plan.trials if trial.id.startswith(words) or labels[trial.id].startswith(words)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError("no trial of this name", where=plan.spec.name, given=words,
                         allowed=one_of(dict.fromkeys(labels.values()), words))  # fmt: skip
    shown = ", ".join(f"{trial.id} ({labels[trial.id]}, seed {trial.config.seed})" for trial in found)
    raise UsageError("several trials begin like this", where=plan.spec.name, given=words, allowed=shown)


def log_path(plan: Plan, store: Store, words: str, kind: str | None) -> Path:
    """The newest log of a trial's stage: of the kind asked for, else of the failed, the running or the last one."""
    trial = find_trial(plan, words)
    if kind is not None and kind not in KINDS:
        raise UsageError("no such kind of stage", given=kind, allowed=one_of(KINDS, kind))
    stages = [stage for stage in trial.stages if kind in (None, stage.kind)]
    for state in (StageState.failed, StageState.running, StageState.interrupted, StageState.done):
        for stage in reversed(stages):
            path = log_of(store, stage.key)
            if plan.statuses[stage.key].state is state and path is not None:
                return path
    raise UsageError("nothing was logged yet", where=f"{plan.spec.name}, {cost.label(trial.config)}", given=kind,
                     allowed="a stage that was started")  # fmt: skip

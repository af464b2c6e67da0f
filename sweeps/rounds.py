"""Rounds of a sweep: what is wanted now, and what more is wanted as results come in.

    with rounds_of(path, store) as rounds:
        plan = rounds.advance({})
        while plan is not None or work is left:
            ...                                  work on the plan, learn the statuses of its stages
            plan = rounds.advance(statuses)

A grid has one round. A search asks for points, up to its ``parallel`` open at a time, and ends when all that it may ask
for are judged. Whoever runs the jobs also asks ``to_prune`` now and then, marks those trials with ``mark_pruned``, and
cancels the jobs of the stages that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from slurm.profiles import ClusterProfile
from sweeps.grid import Trial
from sweeps.planning import Plan, plan_of
from sweeps.spec import load_spec
from sweeps.store import StageState, StageStatus, Store
from tokscale.stage import Stage


class Rounds:
    """The one round of a grid: its plan, and then nothing more."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._given = False

    def advance(self, statuses: Mapping[str, StageStatus]) -> Plan | None:
        """The plan as it is now, enlarged by what is wanted since the last call; None when nothing more will come.

        ``statuses`` are those of the plan's stages, as far as they are known. The plan of the last call stays the whole
        sweep after None: its own work may still be going on.
        """
        if self._given:
            return None
        self._given = True
        return self.plan

    @property
    def more(self) -> bool:
        """Whether more may be wanted than the plan has."""
        return False

    def grow(self, plan: Plan) -> Plan | None:
        """As ``advance``, for whoever holds a plan with its states: a larger plan, or None when nothing was added."""
        larger = self.advance(plan.statuses)
        return larger if larger is not None and len(larger.trials) > len(plan.trials) else None

    def satisfied(self, statuses: Mapping[str, StageStatus]) -> bool:
        """Whether all is done that was wanted; a trial that a search found wanting is as good as done."""
        return all(statuses[key].state is StageState.done for key in self.plan.stages)

    def to_prune(self, statuses: Mapping[str, StageStatus]) -> list[Trial]:
        """Trials that do so badly on their way that they should end now."""
        return []

    def mark_pruned(self, trials: Sequence[Trial]) -> list[Stage]:
        """Mark trials as ended by the pruner; returns their stages that nobody else needs, whose jobs should end."""
        return []

    def words(self) -> str:
        """How far the asking is, in one line; empty for a grid."""
        return ""

    def findings(self, statuses: Mapping[str, StageStatus]) -> list[str]:
        """What was found so far, a line for each thing; nothing for a grid."""
        return []

    def asker(self) -> str | None:
        """The process elsewhere that asks in our stead, as host:process; None when it is this one, or nobody yet."""
        return None

    def close(self) -> None:
        """Let go of the search, so that another process may ask."""

    def __enter__(self) -> Rounds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rounds_of(path: Path, store: Store, profile: ClusterProfile | None = None, *, small: bool = False) -> Rounds:
    """The rounds of a spec file, or of its small form; ``profile`` is the cluster that GPU hours are counted on.

    Without one it is the spec's own, where a constraint asks for it. Raises what reading the spec raises.
    """
    spec, file = load_spec(path, small=small)
    plan = plan_of(spec, file, store)
    if spec.search is None:
        return Rounds(plan)
    from sweeps.asking import SearchRounds  # loads Optuna, which a grid does without

    return SearchRounds(plan, store, profile)

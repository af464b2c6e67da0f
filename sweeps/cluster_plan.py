"""What a cluster adds to a plan: GPUs, hours and cost of what is missing, and the arrays that would be submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slurm.batch import Preview
from slurm.profiles import ClusterProfile
from sweeps.planning import Plan
from sweeps.resources import Allocation, Allocator
from sweeps.store import Store
from sweeps.submission import submit


@dataclass(frozen=True)
class ClusterPlan:
    """The allocation of every stage that is not done, the arrays to submit, and what a person should know.

    ``priced`` says whether the profile tells what a GPU hour costs.
    """

    name: str
    on_gpus: bool
    priced: bool
    allocations: Mapping[str, Allocation]
    arrays: Sequence[Preview]
    words: Sequence[str]


def plan_on_cluster(plan: Plan, store: Store, profile: ClusterProfile) -> tuple[Plan, ClusterPlan]:
    """A plan with the states as the cluster knows them, and what is missing as it would be submitted.

    Raises ``UsageError`` when a stage cannot fit the cluster's GPUs.
    """
    said: list[str] = []
    made = submit(plan, store, profile, dry_run=True, say=said.append)
    allocator = Allocator(profile, made.plan, store)
    allocations = {stage.key: allocator.of(stage.key) for stage in made.plan.missing()}
    priced = profile.cost_per_gpu_hour is not None
    return made.plan, ClusterPlan(
        profile.name, allocator.on_gpus, priced, allocations, made.previews, [*said, *made.words]
    )

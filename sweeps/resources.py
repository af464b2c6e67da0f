"""What each stage asks of a cluster: GPUs and nodes by time, micro-batch by memory, a time limit, and what it costs.

The global batch is part of what a trial is and never changes. A stage gets the fewest GPUs that finish it within one
job's time limit, since each further one adds waiting for the others; its share of the batch on one GPU is cut into
micro-batches that fit into the memory; a stage of which not even one image fits saves memory (``sweeps.layouts``).
Resources come in few sizes (times and memory are rounded up to powers of two), so that the stages of a sweep fall into
few arrays.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slurm.executor import Resources
from slurm.profiles import ClusterProfile
from sweeps.layouts import Layout, layout_on, layouts
from sweeps.planning import Plan
from sweeps.store import StageState, Store
from tokscale.cost import StageCost, label
from tokscale.errors import StoreError, UsageError
from tokscale.record import Record

# Of the rate that training reaches: encoding waits for images, and sampling reads all weights for one token a time, but
# for diffusion, whose steps are forward passes of whole batches.
KIND_EFFICIENCY = {
    "teacher": 1.0, "tokenizer": 1.0, "probe": 1.0, "reconstruction": 0.5, "latents": 0.5, "generation": 0.05,
    "linear_probe": 0.5, "decoder_finetune": 1.0, "diffusion": 0.5,
}  # fmt: skip
START_SECONDS = 60.0  # interpreter, torch, opening the data
USABLE_MEMORY = 0.85  # of a GPU: the rest goes to its context, to kernels' workspaces and to fragments
HOST_GB = 1.5  # interpreter with torch and lightning, beyond what the cost of a stage counts
TARGET_HOURS = 24.0  # for one job where the cluster names no limit
TIME_MARGIN = 1.5
CPUS_PER_GPU = 4
_SAMPLED = 16  # finished stages of a kind that the measured rate is taken from


@dataclass(frozen=True)
class Allocation:
    """What one stage asks for, and what it is expected to take; hours and what follows are None where no rate is known.

    ``gpus`` counts all nodes; on a cluster without GPUs it is the processes, whose hours take the place of GPU hours.
    """

    resources: Resources
    micro_batch: int | None
    layout: Layout
    """how the stage fits the memory of each GPU"""
    gpus: int
    hours: float | None
    gpu_hours: float | None
    cost: float | None

    @property
    def arguments(self) -> dict[str, Any]:
        """What the stage's function needs to know of it."""
        arguments: dict[str, Any] = {} if self.micro_batch is None else {"micro_batch": self.micro_batch}
        return arguments | {name: True for name in ("shard", "recompute") if getattr(self.layout, name)}


class Rates:
    """FLOP/s of one device by kind of stage: measured on this sweep's finished stages, else the profile's word."""

    def __init__(self, profile: ClusterProfile, measured: Mapping[str, float]) -> None:
        self.measured = dict(measured)
        self._promised = None if profile.tflops is None else 1e12 * profile.tflops

    def of(self, kind: str) -> float | None:
        """FLOP/s of one device at this kind of work; None where neither was measured nor promised."""
        if kind in self.measured:
            return self.measured[kind]
        base = self._promised
        if base is None and self.measured:
            # Of one kind that was measured the others follow, by the same efficiencies.
            known = min(self.measured, key=lambda name: -KIND_EFFICIENCY[name])
            base = self.measured[known] / KIND_EFFICIENCY[known]
        return None if base is None else base * KIND_EFFICIENCY[kind]


def measured_rates(plan: Plan, store: Store, *, on_gpus: bool) -> dict[str, float]:
    """FLOP per device-second over finished stages of each kind, of those that jobs of a cluster ran."""

    def seconds_of(record: Record) -> float:
        gpu_seconds = float(record.measures.get("gpu_seconds", 0.0))
        # What ran outside of a cluster ran on another machine, whatever its folder says now.
        if not record.provenance.get("job"):
            return 0.0
        processes = int(record.provenance.get("world_size", 1) or 1)
        return gpu_seconds if on_gpus else processes * float(record.measures.get("wall_seconds", 0.0))

    return rates_by(plan, store, seconds_of)


def rates_by(plan: Plan, store: Store, seconds_of: Callable[[Record], float]) -> dict[str, float]:
    """FLOP per device-second over some finished stages of each kind; a stage of no seconds does not count."""
    spent: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for key, stage in plan.stages.items():
        kind = plan.costs[key].work or stage.kind
        so_far = spent[kind]
        if plan.statuses[key].state is not StageState.done or so_far[2] >= _SAMPLED:
            continue
        try:
            record = store.record(stage)
        except StoreError:  # damaged: whoever collects the results says so
            continue
        if record is not None and (seconds := seconds_of(record)) > 0:
            spent[kind] = [so_far[0] + plan.costs[key].flops, so_far[1] + seconds, so_far[2] + 1]
    return {kind: flops / seconds for kind, (flops, seconds, _) in spent.items() if flops > 0}


class Allocator:
    """Allocations of a plan's stages on one cluster."""

    def __init__(self, profile: ClusterProfile, plan: Plan, store: Store) -> None:
        self.profile, self.plan = profile, plan
        self.on_gpus = bool(profile.gpus_per_node)
        self.rates = Rates(profile, measured_rates(plan, store, on_gpus=self.on_gpus))
        self._known: dict[tuple[str, StageCost], Allocation] = {}

    def of(self, key: str) -> Allocation:
        """The allocation of a stage; raises ``UsageError`` when it cannot fit the cluster's GPUs."""
        kind, cost = self.plan.stages[key].kind, self.plan.costs[key]
        known = self._known.get((kind, cost))
        if known is None:
            known = self._known[kind, cost] = self._allocate(kind, cost, key)
        return known

    def _allocate(self, kind: str, cost: StageCost, key: str) -> Allocation:
        self._check_fits(kind, cost, key)
        nodes, per_node = self._devices(kind, cost)
        devices = nodes * per_node
        layout = layout_on(cost, devices, self._budget())
        assert layout is not None, "the number of devices was chosen so that it fits"
        micro_batch = self._micro_batch(cost, devices, layout)
        hours = self._hours(kind, cost, devices, layout)
        resources = Resources(
            gpus=per_node if self.on_gpus else 0,
            cpus=per_node * (self.profile.cpus_per_gpu or (CPUS_PER_GPU if self.on_gpus else 1)),
            memory_gb=self._memory_gb(cost, layout, devices, per_node, micro_batch),
            nodes=nodes,
            tasks=per_node,
            minutes=self._minutes(hours),
        )
        device_hours = None if hours is None else hours * devices
        price = self.profile.cost_per_gpu_hour
        paid = None if device_hours is None or price is None else device_hours * price
        return Allocation(resources, micro_batch, layout, devices, hours, device_hours, paid)

    def _budget(self) -> float | None:
        """Bytes that a stage may use on one device; None where the profile does not say."""
        if self.on_gpus:
            memory = self.profile.gpu_memory_gb
            return None if memory is None else USABLE_MEMORY * memory * 2**30
        memory = self.profile.memory_per_gpu_gb
        return None if memory is None else (memory - HOST_GB) * 2**30

    def _check_fits(self, kind: str, cost: StageCost, key: str) -> None:
        most = max((math.prod(one) for one in self._choices(cost.batch)), default=1) if cost.batch else 1
        if layout_on(cost, most, self._budget()) is None:
            budget, last = self._budget() or 0.0, layouts(cost, most)[-1]
            saved = f", blocks shared out among {most}" * last.shard + ", activations recomputed" * last.recompute
            total = self.profile.gpu_memory_gb if self.on_gpus else self.profile.memory_per_gpu_gb
            what = "GPU memory" if self.on_gpus else "memory of one process"
            needed, mend = (
                (f"weights, gradients, moments and a single image{saved}", "a smaller size") if cost.batch
                else ("a batch of images that are coded or sampled", "a smaller size or generation.batch_size")
            )  # fmt: skip
            raise UsageError(
                f"a {kind} stage does not fit into the {what} of cluster {self.profile.name!r}", where=self._label(key),
                given=f"{last.least_bytes / 2**30:.2g} GB for {needed}",
                allowed=f"{max(budget, 0.0) / 2**30:.2g} GB, what {total:g} GB leave; {mend}, or a `where:`",
            )  # fmt: skip

    def _label(self, key: str) -> str:
        """A stage by the tokenizer of a trial that wants it."""
        wanted = [trial for trial in self.plan.trials if any(stage.key == key for stage in trial.stages)]
        return f"{label(wanted[0].config)} ({key})" if wanted else key

    def _devices(self, kind: str, cost: StageCost) -> tuple[int, int]:
        """Nodes and devices on each: the fewest that finish within one job's time limit, or the most there are."""
        if not cost.batch:
            return 1, 1
        target = TARGET_HOURS if self.profile.max_minutes is None else self.profile.max_minutes / 60
        chosen = (1, 1)
        for chosen in self._choices(cost.batch):
            layout = layout_on(cost, math.prod(chosen), self._budget())
            if layout is None:
                continue
            hours = self._hours(kind, cost, math.prod(chosen), layout)
            if hours is None or TIME_MARGIN * hours <= target:
                break
        return chosen

    def _choices(self, batch: int) -> list[tuple[int, int]]:
        """Nodes and devices on each that share a batch equally, the fewest first.

        Of one node powers of two, or all; of several, all of each or the largest power of two.
        """
        whole = self.profile.gpus_per_node or 1
        most = min(self.profile.max_gpus or whole, batch)
        powers = [2**power for power in range(whole.bit_length())]
        found = [(1, devices) for devices in {*powers, whole}]
        found += [(nodes, devices) for nodes in range(2, most + 1) for devices in {powers[-1], whole}]
        fitting = [one for one in found if math.prod(one) <= most and batch % math.prod(one) == 0]
        return sorted(fitting, key=lambda one: (math.prod(one), one[0]))

    def _micro_batch(self, cost: StageCost, devices: int, layout: Layout) -> int | None:
        """Images of one forward pass on one device; None when the whole share fits."""
        budget = self._budget()
        if not cost.batch or budget is None or not cost.image_bytes:
            return None
        share = cost.batch // devices
        if devices == 1 and cost.at_once_bytes(share, layout.image_bytes) <= budget:
            return None
        fitting = max(1, int((budget - layout.fixed_bytes) / layout.image_bytes))
        passes = math.ceil(share / fitting)
        return None if passes == 1 else math.ceil(share / passes)

    def _hours(self, kind: str, cost: StageCost, devices: int, layout: Layout) -> float | None:
        kind = cost.work or kind
        rate = self.rates.of(kind)
        if rate is None:
            return None
        start = 0.0 if kind in self.rates.measured else START_SECONDS  # a measured rate has it in it
        return (start + layout.work * cost.flops / (rate * devices)) / 3600

    def _minutes(self, hours: float | None) -> int | None:
        """A time limit with room for what the estimate does not know, from a ladder of doublings."""
        if hours is None:
            return self.profile.max_minutes
        minutes = 30
        while minutes < 60 * TIME_MARGIN * hours:
            minutes *= 2
        return min(minutes, self.profile.max_minutes or minutes)

    def _memory_gb(
        self, cost: StageCost, layout: Layout, devices: int, per_node: int, micro_batch: int | None
    ) -> float | None:
        """Host memory of one node: what the profile gives each GPU; without GPUs, what the stage needs."""
        if self.profile.memory_per_gpu_gb is not None:
            return self.profile.memory_per_gpu_gb * per_node
        if self.on_gpus:
            return None
        images = micro_batch or (cost.batch // devices if cost.batch else 0)
        if devices == 1 and micro_batch is None:
            needed = cost.at_once_bytes(images, layout.image_bytes)
        else:
            needed = layout.fixed_bytes + images * layout.image_bytes
        return float(2 ** math.ceil(math.log2(HOST_GB + (1.2 * needed + cost.host_bytes) / 2**30))) * per_node


def with_memory(allocation: Allocation, factor: float, most_gb: float | None) -> Allocation:
    """The same allocation with more host memory, up to what a node has."""
    memory = allocation.resources.memory_gb
    if memory is None:
        return allocation
    grown = memory * factor if most_gb is None else min(memory * factor, max(most_gb, memory))
    return dataclasses.replace(allocation, resources=dataclasses.replace(allocation.resources, memory_gb=grown))

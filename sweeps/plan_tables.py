"""The plan on the terminal and its JSON twin: trials, stages by kind with states and cost, and the arrays to submit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweeps.planning import Plan, summarize
from sweeps.results import trial_state
from sweeps.store import StageState
from sweeps.tables import count
from tokscale import cost

if TYPE_CHECKING:
    from sweeps.cluster_plan import ClusterPlan
    from sweeps.resources import Allocation

_MOST_TRIALS = 20
_ALWAYS = (StageState.new, StageState.done, StageState.running, StageState.failed)  # even where no stage is so


def plan_table(plan: Plan, cluster: ClusterPlan | None = None) -> Group:
    """Trials (the first of many), stages by kind with states and cost, and the arrays that a submission would make."""
    asked = [Text(plan.asked)] if plan.asked else []
    if not plan.trials:  # a search that has not begun
        return Group(Text(plan.spec.name), *asked)
    parts: list[Any] = [_trials(plan), *asked, _kinds(plan, cluster)]
    if cluster is not None:
        parts += _arrays(cluster)
    return Group(*parts)


def plan_json(plan: Plan, cluster: ClusterPlan | None = None) -> str:
    """The whole plan: every trial with its sizes and stages, every kind with states and cost, every array."""
    trials = [
        {"trial": trial.id, "label": cost.label(trial.config), "seed": trial.config.seed,
         "status": trial_state(trial, plan.statuses).value, "values": dict(trial.values), "sizes": dict(trial.sizes),
         "stages": [stage.key for stage in trial.stages]}
        for trial in plan.trials
    ]  # fmt: skip
    made: dict[str, Any] = {"sweep": plan.spec.name, "trials": trials, "stages": _kind_rows(plan, cluster)}
    if plan.asked:
        made["asked"] = plan.asked
    if cluster is not None:
        made["cluster"] = cluster.name
        made["arrays"] = [
            {"name": array.name, "elements": array.elements, **asdict(array.resources)} for array in cluster.arrays
        ]
    return json.dumps(made, indent=1)


def _trials(plan: Plan) -> Table:
    more = len(plan.trials) - _MOST_TRIALS
    title = f"{plan.spec.name}: {len(plan.trials)} trials" + (f", the first {_MOST_TRIALS}" if more > 0 else "")
    table = Table(title=title, box=None, title_justify="left")
    for name in ("tokenizer", "seed", "status", "parameters", "tokens", "floats", "bits", "training"):
        table.add_column(name, justify="left" if name in ("tokenizer", "status") else "right")
    # what the label does not say: settings of the grid or the search beyond the tokenizer and the seed
    varied = dict.fromkeys(path for trial in plan.trials for path in trial.values)
    others = [path for path in varied if path != "seed" and not path.startswith("tokenizer")]
    for path in others:
        table.add_column(path, justify="right")
    for trial in plan.trials[:_MOST_TRIALS]:
        sizes = trial.sizes
        bits = f"{sizes['bottleneck_bits']:.0f}" if "bottleneck_bits" in sizes else ""
        table.add_row(
            cost.label(trial.config), str(trial.config.seed), trial_state(trial, plan.statuses).value,
            count(float(sizes["tokenizer_params"])), str(sizes["bottleneck_tokens"]), str(sizes["bottleneck_floats"]),
            bits, f"{count(float(sizes['train_flops']))}FLOP", *(_value(trial.values.get(path, "")) for path in others),
        )  # fmt: skip
    return table


def _kinds(plan: Plan, cluster: ClusterPlan | None) -> Table:
    rows = _kind_rows(plan, cluster)
    always = _ALWAYS if cluster is None else ()
    states = [state.value for state in StageState if state in always or any(row[state.value] for row in rows)]
    table = Table(title="stages" if cluster is None else f"stages on {cluster.name}", box=None, title_justify="left")
    table.add_column("kind", no_wrap=True)
    columns = ["stages", *states, "to do", "disk"]
    if cluster is None:
        columns += ["memory"]
    else:
        what = "GPU" if cluster.on_gpus else "process"
        columns += [f"{what}s" if cluster.on_gpus else "processes", "micro-batch", "hours", f"{what} hours"]
        columns += ["cost"] if cluster.priced else []
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in [*rows, *([_total(rows)] if cluster is not None else [])]:
        cells = [row["kind"], *(str(row[name] or "") for name in ("stages", *states))]
        cells += [f"{count(row['missing_flops'])}FLOP", f"{count(float(row['missing_disk_bytes']))}B"]
        if cluster is None:
            cells += [f"{count(float(row['largest_memory_bytes']))}B"]
        else:
            cells += [*(_span(row[name]) for name in ("gpus", "micro_batch", "hours")), _number(row["gpu_hours"])]
            cells += [_number(row["cost"])] if cluster.priced else []
        table.add_row(*cells, style="bold" if row["kind"] == "all" else None)
    return table


def _arrays(cluster: ClusterPlan) -> list[Any]:
    table = Table(title="arrays that a submission would make", box=None, title_justify="left")
    for name in ("name", "elements", "nodes", "GPUs a node", "CPUs a node", "memory", "time limit"):
        table.add_column(name, justify="left" if name == "name" else "right")
    for (name, elements, asked), alike in Counter(
        (array.name.rpartition(".")[0], array.elements, array.resources) for array in cluster.arrays
    ).items():
        table.add_row(
            name if alike == 1 else f"{alike} x {name}",
            *(str(number) for number in (elements, asked.nodes, asked.gpus, asked.cpus)),
            "default" if asked.memory_gb is None else f"{asked.memory_gb:g} GB",
            "default" if asked.minutes is None else f"{asked.minutes // 60}:{asked.minutes % 60:02} h",
        )  # fmt: skip
    parts: list[Any] = [table if cluster.arrays else Text("nothing is left to submit")]
    if any(row.hours is None for row in cluster.allocations.values()):
        parts.append(Text("hours are not known: no stage has finished there, and the profile has no `tflops`"))
    return [*parts, *(Text(line) for line in cluster.words)]


def _kind_rows(plan: Plan, cluster: ClusterPlan | None) -> list[dict[str, Any]]:
    rows = []
    for row in summarize(plan):
        states = {state.value: row.states[state.value] for state in StageState}
        shown = {
            "kind": row.kind,
            "stages": row.stages,
            **states,
            "missing_flops": row.missing_flops,
            "missing_disk_bytes": row.missing_disk_bytes,
            "largest_memory_bytes": row.largest_memory_bytes,
        }
        if cluster is not None:
            shown |= _asked([one for key, one in cluster.allocations.items() if plan.stages[key].kind == row.kind])
        rows.append(shown)
    return rows


def _asked(allocations: Sequence[Allocation]) -> dict[str, Any]:
    """Smallest and largest numbers of one stage (GPUs, images of a micro-batch, hours), and the sums over all."""
    gpus = [one.gpus for one in allocations]
    micro_batches = [one.micro_batch for one in allocations if one.micro_batch is not None]
    hours = [one.hours for one in allocations if one.hours is not None]
    known = len(hours) == len(allocations)
    gpu_hours = [one.gpu_hours for one in allocations if one.gpu_hours is not None]
    costs = [one.cost for one in allocations if one.cost is not None]
    return {
        "gpus": [min(gpus), max(gpus)] if gpus else [],
        "micro_batch": [min(micro_batches), max(micro_batches)] if micro_batches else [],
        "hours": [min(hours), max(hours)] if hours and known else [],
        "gpu_hours": sum(gpu_hours) if known else None,
        "cost": sum(costs) if known and len(costs) == len(allocations) else None,
    }


def _total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    states = {state.value: sum(row[state.value] for row in rows) for state in StageState}
    sums = {
        name: None if any(row[name] is None for row in rows) else sum(row[name] for row in rows)
        for name in ("gpu_hours", "cost")
    }
    return {
        "kind": "all", "stages": sum(row["stages"] for row in rows), **states, **sums,
        "gpus": [], "micro_batch": [], "hours": [],
        "missing_flops": sum(row["missing_flops"] for row in rows),
        "missing_disk_bytes": sum(row["missing_disk_bytes"] for row in rows),
        "largest_memory_bytes": max((row["largest_memory_bytes"] for row in rows), default=0),
    }  # fmt: skip


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(value[name]) for name in ("kind", "size") if name in value) or str(dict(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _span(ends: Sequence[float]) -> str:
    """``8``, or ``1 - 8`` where stages differ."""
    shown = list(dict.fromkeys(_number(end) for end in ends))
    return "-".join(shown)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"

"""The trials of a grid as plain rows, with what each still costs: for whoever chooses among them, and may not know us.

Offered under the entry point group ``tokscale.services``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from slurm.profiles import ClusterProfile
from sweeps.grid import Trial, expand
from sweeps.planning import Plan, make_plan
from sweeps.resources import KIND_EFFICIENCY, Rates, rates_by
from sweeps.results import collect
from sweeps.spec import load_spec
from sweeps.store import StageState, Store
from tokscale.errors import UsageError
from tokscale.record import Record
from tokscale.stage import trial_id

ASSUMED_TFLOPS = 120.0
"""of one GPU in training, where neither a cluster nor a finished stage says better (docs/costs.md: an A100)"""


def candidates(spec: Path, runs: Path, cluster: str | None = None) -> dict[str, Any]:
    """The trials of a spec: ``candidates``, those that are not done, and ``results``, the rows of the results table.

    Rows are mappings with the columns of the results table, and ``configuration``: trials that share it differ in their
    seed alone. A candidate has ``gpu_hours`` too, and ``stages``, the hours of each stage that it lacks; stages that
    trials share have one key. ``words`` say where the hours come from. Raises what reading the spec raises, and
    ``UsageError`` for a spec with a search, which chooses its trials itself.
    """
    store = Store(runs)
    plan = make_plan(spec, store)
    if plan.spec.search is not None:
        raise UsageError("a search chooses its own trials", where=plan.file.place("search"),
                         allowed="a spec with a grid; or `sampler: information` in the search")  # fmt: skip
    plan, hours, words = _hours(plan, store, cluster)
    rows = [{name: value for name, value in row.items() if value is not None and value == value}
            for row in collect(plan, store).to_dict("records")]  # fmt: skip
    found: list[dict[str, Any]] = []
    for trial, row in zip(plan.trials, rows, strict=True):
        row["configuration"] = _configuration(trial)
        lacking = {stage.key: hours[stage.key] for stage in trial.stages if stage.key in hours}
        if row["status"] != StageState.done.value:
            found.append({**row, "stages": lacking, "gpu_hours": sum(lacking.values())})
    return {"sweep": plan.spec.name, "candidates": found, "results": rows, "words": words}


def spec_of_trials(spec: Path, trials: Sequence[str]) -> str:
    """The text of a spec that holds exactly these trials of another one, by id, under the name NAME-next.

    The grid becomes a list of points, all else stays as its author wrote it. Stages are told by their configs: what is
    done under one name is done under the other.
    """
    made, file = load_spec(spec)
    chosen = [trial for trial in expand(made, file) if trial.id in set(trials)]
    if len(chosen) < len(set(trials)):
        raise UsageError("a trial is not of this spec", where=str(spec), given=", ".join(trials))
    yaml = YAML()
    content = yaml.load(file.text)
    paths = list(made.grid)
    content["name"] = f"{made.name}-next"
    content["grid"] = {path: [trial.values[path] for trial in chosen] for path in paths}
    content.pop("zip", None)
    if len(paths) > 1:
        content["zip"] = [paths]
    buffer = io.StringIO()
    yaml.dump(content, buffer)
    return buffer.getvalue()


def _configuration(trial: Trial) -> str:
    """What a trial shares with those that differ from it in their seed alone."""
    return trial_id(trial.config.model_copy(update={"seed": 0}))


def _hours(plan: Plan, store: Store, cluster: str | None) -> tuple[Plan, dict[str, float], str]:
    """The plan with the states as they are, device hours of every stage that is not done, and where they come from.

    Raises ``UsageError`` where a cluster neither promises a rate nor has measured one.
    """
    name = plan.spec.cluster if cluster is None else cluster
    if name is None or name == "local":
        rates, words = _rates_here(plan, store)
        missing = plan.missing()
        costs = {one.key: (plan.costs[one.key], one.kind) for one in missing}
        return plan, {key: cost.flops / rates[cost.work or kind] / 3600 for key, (cost, kind) in costs.items()}, words
    from sweeps.cluster_plan import plan_on_cluster
    from sweeps.profiles import profile_of

    plan, there = plan_on_cluster(plan, store, profile_of(name))
    hours = {key: one.gpu_hours for key, one in there.allocations.items()}
    if any(one is None for one in hours.values()):
        raise UsageError("hours are not known: no stage has finished there, and the profile has no `tflops`",
                         where=f"cluster {name}", allowed="a profile with `tflops`")  # fmt: skip
    what = "GPU" if there.on_gpus else "process"
    return plan, {key: one for key, one in hours.items() if one is not None}, f"{what} hours on cluster {name}"


def _rates_here(plan: Plan, store: Store) -> tuple[dict[str, float], str]:
    """FLOP/s of one device by kind of stage: as the finished stages of this sweep reached, else an assumed GPU's."""
    measured = rates_by(plan, store, _seconds)
    here = Rates(ClusterProfile("here", tflops=None if measured else ASSUMED_TFLOPS), measured)
    rates = {kind: rate for kind in KIND_EFFICIENCY if (rate := here.of(kind)) is not None}
    if not measured:
        return rates, f"GPU hours at an assumed {ASSUMED_TFLOPS:g} TFLOP/s in training: --cluster NAME knows better"
    return rates, "device hours at the rate that the finished stages of this sweep reached"


def _seconds(record: Record) -> float:
    """Device-seconds of a stage, wherever it ran."""
    return float(record.measures.get("gpu_seconds", 0.0)) or float(record.measures.get("wall_seconds", 0.0))

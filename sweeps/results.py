"""From records to the results table: one row per trial, absent measures absent, and a summary of how the sweep went."""

from __future__ import annotations

import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps import policy
from sweeps.evidence import Evidence, evidence
from sweeps.grid import Trial, flatten
from sweeps.planning import Plan, summarize
from sweeps.store import StageState, StageStatus, Store
from tokscale import cost
from tokscale.errors import UsageError, one_of
from tokscale.record import COLUMNS, write_atomically

if TYPE_CHECKING:
    import pandas as pd

# Column of the table -> kind of stage and artifact whose picture it names.
_PICTURES = {
    "pictures": ("reconstruction", "reconstructions.png"),
    "originals": ("reconstruction", "originals.png"),
    "samples": ("generation", "samples.png"),
}
# from what stops a trial to what is least advanced
_ADVANCING = (StageState.failed, StageState.cancelled, StageState.blocked, StageState.running, StageState.queued,
              StageState.interrupted, StageState.new, StageState.done)  # fmt: skip
_WRITERS = (".parquet", ".csv", ".json")


def collect(plan: Plan, store: Store, found: Mapping[str, Evidence] | None = None) -> pd.DataFrame:
    """The results table: one row per trial, columns of ``tokscale.record.COLUMNS`` and then the config's dotted paths.

    A trial that is not done has a row too, with the measures that its finished stages took. ``found`` is the evidence
    of the plan's stages, where it is known already.
    """
    import pandas as pd

    done = [stage for key, stage in plan.stages.items() if plan.statuses[key].state is StageState.done]
    if found is None:
        found = evidence(store, plan.spec.name, done)
    records = {stage.key: found[stage.key] for stage in done if stage.key in found}
    parts = _Parts(plan.spec.name)
    rows = [_row(trial, plan.statuses, records, parts) for trial in plan.trials]
    names = dict.fromkeys(name for row in rows for name in row)
    ordered = COLUMNS.among(names) + [name for name in names if name not in COLUMNS]
    absent = float("nan")
    table = pd.DataFrame({name: [row.get(name, absent) for row in rows] for name in ordered}, columns=ordered)
    return table.dropna(axis="columns", how="all")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet, csv or json by the file's ending, atomically."""
    if path.suffix not in _WRITERS:
        raise UsageError("no way to write a table of this kind", given=path.name, allowed=one_of(_WRITERS))
    buffer = io.BytesIO()
    if path.suffix == ".parquet":
        table.to_parquet(buffer, index=False)
    elif path.suffix == ".csv":
        table.to_csv(buffer, index=False)
    else:
        table.to_json(buffer, orient="records", indent=1)
    write_atomically(path, buffer.getvalue())


def write_results(
    plan: Plan, store: Store, *, command: str, started: float, price: float | None = None
) -> Path:  # fmt: skip
    """Write ``results.parquet`` and ``summary.json`` of a sweep; returns the sweep's folder.

    ``price`` is that of a GPU hour, where the cluster has one.
    """
    folder = store.sweep(plan.spec.name)
    found = evidence(store, plan.spec.name, plan.stages.values())
    write_table(collect(plan, store, found), folder / "results.parquet")
    summary = _summary(plan, store, list(found.values()), command=command, started=started)
    if price is not None:
        summary["cost_per_gpu_hour"] = price
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1).encode())
    return folder


def trial_state(trial: Trial, statuses: Mapping[str, StageStatus]) -> StageState:
    """State of a trial: that of its least advanced stage, with failures first."""
    states = {statuses[stage.key].state for stage in trial.stages}
    return states.pop() if len(states) == 1 else next(state for state in _ADVANCING if state in states)


def failures(plan: Plan) -> list[dict[str, Any]]:
    """Failures with their remedy, the same error of many trials once with a count; the most frequent first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for key, status in plan.statuses.items():
        if status.state is StageState.failed:
            groups.setdefault(policy.signature(status), []).append(key)
    labels = {stage.key: cost.label(trial.config) for trial in plan.trials for stage in trial.stages}
    return [
        {"cause": cause, "message": plan.statuses[keys[0]].message or "", "remedy": policy.remedy(cause),
         "count": len(keys), "stages": keys, "trials": sorted({labels[key] for key in keys})}
        for (cause, _), keys in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]  # fmt: skip


def log_of(store: Store, key: str) -> Path | None:
    """The log of a stage's newest attempt, if there is one."""
    logs = sorted((store.stages / key / "attempts").glob("*/log.txt"))
    return logs[-1] if logs else None


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, read from its end."""
    with open(path, "rb") as file:
        file.seek(0, io.SEEK_END)
        file.seek(max(0, file.tell() - 1000 * lines))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


class _Parts:
    """What trials of the same sections have in common in their rows: all but id, state, seed and measures."""

    def __init__(self, sweep: str) -> None:
        self._sweep = sweep
        self._known: dict[tuple[int, ...], tuple[dict[str, Any], dict[str, Any]]] = {}

    def of(self, trial: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first columns of a trial's row, with places for its id and state, and the columns of its config."""
        config = trial.config  # whose sections the plan keeps, so that no other object gets the id() of one
        key = tuple(id(getattr(config, name)) for name in type(config).model_fields if name != "seed")
        if key not in self._known:
            self._known[key] = (
                {
                    "sweep": self._sweep,
                    "trial": "",
                    "label": cost.label(config),
                    "status": "",
                    "encoder": cost.encoder_name(config),
                    "decoder": cost.decoder_name(config),
                    "bottleneck": config.tokenizer.bottleneck.kind,
                    "layout": cost.layout(config),
                    **trial.sizes,
                },
                flatten(config),
            )
        return self._known[key]


def _row(
    trial: Trial, statuses: Mapping[str, StageStatus], records: Mapping[str, Evidence], parts: _Parts
) -> dict[str, Any]:
    first, config = parts.of(trial)
    row = {**first, "trial": trial.id, "status": trial_state(trial, statuses).value}
    spent: defaultdict[str, float] = defaultdict(float)
    for stage in trial.stages:
        record = records.get(stage.key)
        if record is None:
            continue
        for name, value in record.measures.items():
            if name in ("wall_seconds", "gpu_seconds", "skipped_files"):
                spent[name] += float(value)
            else:
                row[name] = value
    row |= spent
    for column, (kind, artifact) in _PICTURES.items():
        for stage in trial.stages:
            if stage.kind == kind and stage.key in records and artifact in records[stage.key].artifacts:
                row[column] = f"stages/{stage.key}/artifacts/{artifact}"
    return row | config | {"seed": trial.config.seed}


def _summary(
    plan: Plan, store: Store, records: Sequence[Evidence], *, command: str, started: float
) -> dict[str, Any]:  # fmt: skip
    states = Counter(trial_state(trial, plan.statuses).value for trial in plan.trials)
    grouped = failures(plan)
    for group in grouped:
        log = log_of(store, group["stages"][0])
        group["log_tail"] = tail(log, 20) if log is not None else ""
        group["cause"] = f"{group['cause']}: {group['message']}" if group["message"] else group["cause"]
    return {
        "sweep": plan.spec.name,
        "title": plan.spec.title,
        "command": command,
        "started": _moment(started),
        "finished": _moment(time.time()),
        "wall_seconds": time.time() - started,
        "stage_seconds": sum(float(record.measures.get("wall_seconds", 0)) for record in records),
        "gpu_seconds": sum(float(record.measures.get("gpu_seconds", 0)) for record in records),
        "trials": dict(states),
        "stages": _stage_rows(plan, records),
        "failures": grouped,
        "notes": list(dict.fromkeys(note for record in records for note in record.notes)),
        "environment": _environment(records),
    }


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _stage_rows(plan: Plan, records: Iterable[Evidence]) -> list[dict[str, Any]]:
    spent: defaultdict[tuple[str, str], float] = defaultdict(float)
    for record in records:
        for name in ("wall_seconds", "gpu_seconds"):
            spent[record.kind, name] += float(record.measures.get(name, 0))
    return [
        {"kind": row.kind, **row.states, "seconds": round(spent[row.kind, "wall_seconds"], 1),
         "gpu_seconds": round(spent[row.kind, "gpu_seconds"], 1)}
        for row in summarize(plan)
    ]  # fmt: skip


def _environment(records: Iterable[Evidence]) -> dict[str, Any]:
    """Versions, commits, hosts and devices of the records; where they differ, all are named."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        known = {**record.provenance.get("versions", {}), **{
            name: record.provenance.get(name) for name in ("git_commit", "host", "device", "threads")}}  # fmt: skip
        for name, value in known.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in found.items()}

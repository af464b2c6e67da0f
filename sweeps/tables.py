"""Tables on the terminal and their JSON twins."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sweeps.planning import Plan, summarize
from sweeps.results import failures, trial_state
from sweeps.store import StageState
from tokscale import cost, presets
from tokscale.config import AutoregressiveProbe, VitTokenizer, VQBottleneck
from tokscale.record import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_MOST_TRIALS = 20
_STATES = ("new", "done", "running", "interrupted", "failed")
_RESULT_COLUMNS = (
    "label", "seed", "status", "bottleneck_floats", "bottleneck_bits", "psnr", "ssim", "rfd", "ar_loss",
    "ar_bits_per_image", "gfd",
)  # fmt: skip


def console() -> Console:
    """Standard output, as wide as the terminal; 120 columns where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=120, soft_wrap=True)


def count(number: float) -> str:
    """A count for people: ``43.1 M``, ``1.2 T``."""
    for limit, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {letter}"
    return f"{number:.3g}" if isinstance(number, float) else str(number)


def plan_table(plan: Plan) -> Group:
    """Trials (the first of many) and stages by kind with states and cost."""
    parts: list[Any] = [_trials(plan), _kinds(plan, cost_too=True)]
    return Group(*parts)


def status_table(plan: Plan) -> Group:
    """Trials by state, stages by kind and state, failures grouped by cause."""
    states = Counter(trial_state(trial, plan.statuses).value for trial in plan.trials)
    shown = ", ".join(f"{states[state]} {state}" for state in _STATES if states[state])
    parts: list[Any] = [Text(f"{plan.spec.name}: {len(plan.trials)} trials: {shown}"), _kinds(plan, cost_too=False)]
    for group in failures(plan):
        head = f"{group['count']} failed, {group['cause']}: {', '.join(group['trials'])}"
        parts += [Text(head, style="red"), Text(f"  {group['message']}")]
    return Group(*parts)


def plan_json(plan: Plan) -> str:
    """The whole plan: every trial with its sizes and stages, every kind with states and cost."""
    trials = [
        {"trial": trial.id, "label": cost.label(trial.config), "seed": trial.config.seed,
         "status": trial_state(trial, plan.statuses).value, "values": dict(trial.values), "sizes": dict(trial.sizes),
         "stages": [stage.key for stage in trial.stages]}
        for trial in plan.trials
    ]  # fmt: skip
    return json.dumps({"sweep": plan.spec.name, "trials": trials, "stages": _kind_rows(plan)}, indent=1)


def status_json(plan: Plan) -> str:
    """States of trials and stages, and failures."""
    states = Counter(trial_state(trial, plan.statuses).value for trial in plan.trials)
    rows = [{name: row[name] for name in ("kind", "stages", *_STATES)} for row in _kind_rows(plan)]
    return json.dumps({"sweep": plan.spec.name, "trials": dict(states), "stages": rows, "failures": failures(plan)},
                      indent=1)  # fmt: skip


def results_table(table: pd.DataFrame) -> Table:
    """The measures that a person looks at first; ``--output`` has all columns."""
    names = [name for name in _RESULT_COLUMNS if name in table]
    shown = Table(title=None, box=None)
    for name in names:
        shown.add_column(COLUMNS[name].axis if name != "label" else "tokenizer",
                         justify="left" if name in ("label", "status") else "right")  # fmt: skip
    for row in table[names].to_dict("records"):
        shown.add_row(*(_cell(row[name]) for name in names))
    return shown


def preset_tables() -> list[Table]:
    """One table for each family of sizes."""
    tables = []
    for family, rows in _presets().items():
        table = Table(title=f"{family} sizes", box=None, title_justify="left")
        for name in ("name", "width", "depth", "heads", "parameters", "source"):
            table.add_column(name, justify="left" if name in ("name", "source") else "right")
        for row in rows:
            table.add_row(row["name"], str(row["width"]), str(row["depth"]), str(row["heads"]),
                          count(float(row["parameters"])), row["source"])  # fmt: skip
        tables.append(table)
    return tables


def presets_json() -> str:
    """All named sizes with their parameters."""
    return json.dumps(_presets(), indent=1)


def _presets() -> dict[str, list[dict[str, Any]]]:
    return {
        family: [
            {"name": name, "width": size.width, "depth": size.depth, "heads": size.heads,
             "parameters": _parameters(family, name), "source": size.source}
            for name, size in sizes.items()
        ]
        for family, sizes in presets.FAMILIES.items()
    }  # fmt: skip


def _parameters(family: str, name: str) -> int:
    """Parameters as published: a ViT with its 16-pixel patches, a GPT over 16384 codes and 1000 classes."""
    if family == "vit":
        tokenizer = VitTokenizer.model_validate({"encoder": name})
        return cost.tokenizer_params(tokenizer)["encoder_params"]
    return cost.probe_params(AutoregressiveProbe.model_validate({"size": name}), VQBottleneck(kind="vq"), 1000)


def _trials(plan: Plan) -> Table:
    more = len(plan.trials) - _MOST_TRIALS
    title = f"{plan.spec.name}: {len(plan.trials)} trials" + (f", the first {_MOST_TRIALS}" if more > 0 else "")
    table = Table(title=title, box=None, title_justify="left")
    for name in ("tokenizer", "seed", "status", "parameters", "tokens", "floats", "bits", "training"):
        table.add_column(name, justify="left" if name in ("tokenizer", "status") else "right")
    # what the label does not say: settings of the grid beyond the tokenizer and the seed
    others = [path for path in plan.spec.grid if path != "seed" and not path.startswith("tokenizer")]
    for path in others:
        table.add_column(path, justify="right")
    for trial in plan.trials[:_MOST_TRIALS]:
        sizes = trial.sizes
        bits = f"{sizes['bottleneck_bits']:.0f}" if "bottleneck_bits" in sizes else ""
        table.add_row(
            cost.label(trial.config), str(trial.config.seed), trial_state(trial, plan.statuses).value,
            count(float(sizes["tokenizer_params"])), str(sizes["bottleneck_tokens"]), str(sizes["bottleneck_floats"]),
            bits, f"{count(float(sizes['train_flops']))}FLOP", *(str(trial.values[path]) for path in others),
        )  # fmt: skip
    return table


def _kinds(plan: Plan, *, cost_too: bool) -> Table:
    table = Table(title="stages", box=None, title_justify="left")
    table.add_column("kind")
    for name in ("stages", *_STATES):
        table.add_column(name, justify="right")
    if cost_too:
        for name in ("to do", "disk", "memory"):
            table.add_column(name, justify="right")
    for row in _kind_rows(plan):
        cells = [row["kind"], *(str(row[name] or "") for name in ("stages", *_STATES))]
        if cost_too:
            cells += [f"{count(row['missing_flops'])}FLOP", f"{count(float(row['missing_disk_bytes']))}B",
                      f"{count(float(row['largest_memory_bytes']))}B"]  # fmt: skip
        table.add_row(*cells)
    return table


def _kind_rows(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"kind": row.kind, "stages": row.stages, **{state.value: row.states[state.value] for state in StageState},
         "missing_flops": row.missing_flops, "missing_disk_bytes": row.missing_disk_bytes,
         "largest_memory_bytes": row.largest_memory_bytes}
        for row in summarize(plan)
    ]  # fmt: skip


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or value != value:  # absent: NaN is not equal to itself
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and not float(value).is_integer() else f"{value:.0f}"

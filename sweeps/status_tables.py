"""The table of a sweep's trials by stage on the terminal: every state and progress, and more about what runs."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Span, Text

from sweeps.grid import Trial
from sweeps.inspection import Look
from sweeps.planning import Plan
from sweeps.store import StageState
from tokscale import cost
from tokscale.stage import KINDS

STYLES = {
    StageState.new: "dim", StageState.queued: "", StageState.running: "cyan", StageState.interrupted: "yellow",
    StageState.failed: "red", StageState.blocked: "yellow", StageState.cancelled: "magenta", StageState.done: "green",
}  # fmt: skip
# in which the trials come that have no stage running, and did not fail
_ORDER = (StageState.interrupted, StageState.running, StageState.queued, StageState.blocked, StageState.cancelled,
          StageState.new, StageState.done)  # fmt: skip
_TOLD = (StageState.running, StageState.failed, StageState.queued, StageState.interrupted)
_SHORT_KINDS = {"decoder_finetune": "finetune", "reconstruction": "reconstr.", "generation": "generat."}
# of the cluster's words, for a cell; those that are empty stand in the summary, or in another cell of the row
_SHORT_REASONS = {
    "waits behind jobs of higher priority": "priority",
    "waits for free resources": "resources",
    "waits for a job before it": "its parent",
    "as many of its array run as may at a time": "array limit",
    "it left the queue": "left the queue",
    "as it was last known: slurmctld does not answer": "",
}
_DETAILS = ("images/s", "loss", "left", "attempt", "node", "job")
_SILENT_SECONDS = 600.0  # without a step, and a person should know
_FRAME_LINES = 3  # two of heading, and one for what is not shown
LEAST_LINES = _FRAME_LINES + 5
_LONGEST_CELL = 28


def duration(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``4:07 min``, ``3:20 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def clock(seconds: float) -> str:
    """A time of day; with the date when it is of another."""
    then = time.localtime(seconds)
    return time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", then)


@dataclass
class _Column:
    """One column: its two heading lines and a cell for each row."""

    heading: str
    below: str
    cells: list[tuple[str, str]]  # words and style
    right: bool = False
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = max(len(words) for words in (self.heading, self.below, *(words for words, _ in self.cells)))


def most_lines(look: Look) -> int:
    """What the table of all trials may need."""
    return _FRAME_LINES + 2 * len(look.plan.trials)


def trial_lines(look: Look, width: int, room: int | None) -> list[Text]:
    """The table's lines, at most ``room``: running and failed trials first when there is no room for all.

    A wide terminal has a column for each detail of what runs; a narrow one has them in a second line.
    """
    states = look.trial_states()
    most = 2 * len(states) if room is None else max(LEAST_LINES, room) - _FRAME_LINES
    numbers = _foremost(look, states, most)
    names, details = _name_columns(look, numbers), _detail_columns(look, numbers)
    columns = [*names, *_stage_columns(look, numbers, brief=False), *details]
    if _total(columns, 2) > width:
        columns = [*names, *_stage_columns(look, numbers, brief=True), *details]
    in_lines = _total(columns, 2) > width
    if in_lines:
        numbers = _foremost(look, states, most, second_lines=True)
        columns = [*_name_columns(look, numbers), *_stage_columns(look, numbers, brief=True)]
    gap = 2 if _total(columns, 2) <= width else 1
    _clip(columns[1], columns[1].width + width - _total(columns, gap))
    lines = [_line([(column.heading, "bold") for column in columns], columns, gap),
             _line([(column.below, "dim") for column in columns], columns, gap)]  # fmt: skip
    for row, number in enumerate(numbers):
        lines.append(_line([column.cells[row] for column in columns], columns, gap))
        if in_lines and (words := _in_words(look, look.plan.trials[number])):
            indent = " " * (columns[0].width + gap + 1)
            lines.append(Text(f"{indent}{words}", style="cyan", no_wrap=True, overflow="ellipsis"))
    shown = set(numbers)
    left = Counter(state.value for number, state in enumerate(states) if number not in shown)
    if left:
        others = ", ".join(f"{count} {state}" for state, count in left.most_common())
        words = f"... and {sum(left.values())} more: {others}"
        lines.append(Text(words, style="dim", no_wrap=True, overflow="ellipsis"))
    return lines


def _foremost(look: Look, states: Sequence[StageState], room: int, *, second_lines: bool = False) -> list[int]:
    """Which trials to show, by their place in the plan: all in its order, or the running and failed ones first."""
    running = [number for number, trial in enumerate(look.plan.trials) if _active(look, trial, StageState.running)]
    height = dict.fromkeys(running, 2 if second_lines else 1)
    if len(states) - len(running) + sum(height.values()) <= room:
        return list(range(len(states)))
    failed = [number for number, state in enumerate(states) if state is StageState.failed and number not in height]
    others = [number for state in _ORDER for number, found in enumerate(states)
              if found is state and state is not StageState.failed and number not in height]  # fmt: skip
    chosen = _that_fit(running, height, max(room // 2, room - len(failed)))
    chosen += _that_fit(failed, height, room - sum(height[number] for number in chosen))
    return chosen + _that_fit(others, height, room - sum(height.get(number, 1) for number in chosen))


def _that_fit(numbers: Sequence[int], height: Mapping[int, int], room: int) -> list[int]:
    ends = itertools.accumulate(height.get(number, 1) for number in numbers)
    return [number for number, end in zip(numbers, ends, strict=True) if end <= room]


def _name_columns(look: Look, numbers: Sequence[int]) -> list[_Column]:
    """What tells some trials apart."""
    trials = [look.plan.trials[number] for number in numbers]
    return [
        _Column("#", "", [(str(number + 1), "dim") for number in numbers], right=True),
        _Column("trial", "stages done", [(cost.label(trial.config), "") for trial in trials]),
        *(_Column(heading, "", [(_value(trial, path), "") for trial in trials], right=True)
          for heading, path in _told_apart_by(look.plan).items()),
    ]  # fmt: skip


def _stage_columns(look: Look, numbers: Sequence[int], *, brief: bool) -> list[_Column]:
    """The stages of some trials by kind."""
    keys = [{stage.kind: stage.key for stage in look.plan.trials[number].stages} for number in numbers]
    return [
        _Column(_SHORT_KINDS.get(kind, kind) if brief else kind, f"{done}/{total}",
                [_cell(look, of_trial.get(kind), brief=brief) for of_trial in keys])
        for kind, (done, total) in _done_by_kind(look).items()
    ]  # fmt: skip


def _detail_columns(look: Look, numbers: Sequence[int]) -> list[_Column]:
    """What else is known of the stages that run, failed or wait, where anything is."""
    details = [_details(look, look.plan.trials[number]) for number in numbers]
    return [
        _Column(name, "", [found.get(name, ("", "")) for found in details], right=name not in ("node", "job"))
        for name in _DETAILS
        if any(name in found for found in details)
    ]


def _told_apart_by(plan: Plan) -> dict[str, str]:
    """Heading -> dotted path of what differs between trials of one label; the seed, then as the grid has them."""
    labels: dict[tuple[int, int], str] = {}
    first: dict[tuple[str, str], Any] = {}
    differs = {"seed": False}
    for trial in plan.trials:
        # trials share their sections, so this asks for each label once
        known = (id(trial.config.tokenizer), id(trial.config.data))
        label = labels.get(known) or labels.setdefault(known, cost.label(trial.config))
        for path, value in (("seed", trial.config.seed), *trial.values.items()):
            if not differs.setdefault(path, False):
                differs[path] = first.setdefault((label, path), value) != value
    paths = [path for path in differs if differs[path]]
    ends = Counter(path.rpartition(".")[2] for path in paths)
    return {path.rpartition(".")[2] if ends[path.rpartition(".")[2]] == 1 else path: path for path in paths}


def _value(trial: Trial, path: str) -> str:
    value = trial.config.seed if path == "seed" else trial.values.get(path, "")
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {item}" for name, item in value.items())
    return _short(f"{value:g}" if isinstance(value, float) else str(value))


def _done_by_kind(look: Look) -> dict[str, tuple[int, int]]:
    total: Counter[str] = Counter(stage.kind for stage in look.plan.stages.values())
    done = Counter(stage.kind for key, stage in look.plan.stages.items() if look.statuses[key].state is StageState.done)
    return {kind: (done[kind], total[kind]) for kind in KINDS if total[kind]}


def _cell(look: Look, key: str | None, *, brief: bool) -> tuple[str, str]:
    if key is None:
        return "", ""
    status, reading = look.statuses[key], look.readings.get(key)
    words = status.state.value
    if status.state is StageState.running and reading is not None:
        words = f"{int(100 * reading.share)} %"  # 100 % is nothing less
    if not brief and (why := _why(look, key)):
        words = f"{words}: {why}"
    return _short(words), STYLES[status.state]


def _why(look: Look, key: str) -> str:
    """A word or two on the state of a stage; none where another column of its row says it."""
    status, stage = look.statuses[key], look.plan.stages[key]
    if status.state in (StageState.failed, StageState.interrupted):
        return status.cause or ""
    if status.state is StageState.running:
        return short_reason(status.reason)
    parents = (look.statuses[f"{kind}/{identity}"].state for kind, identity in stage.parents.items())
    if status.state is not StageState.queued or any(state is not StageState.done for state in parents):
        return ""
    return short_reason(status.reason)


def short_reason(reason: str | None) -> str:
    """Why a stage waits, in a word or two."""
    head = (reason or "").partition(",")[0]
    return _SHORT_REASONS.get(head, head)


def _active(look: Look, trial: Trial, *states: StageState) -> str | None:
    """The stage of a trial to tell more about: of the first of these states that one has, that with most left to do."""
    for state in states:
        keys = [stage.key for stage in trial.stages if look.statuses[stage.key].state is state]
        if keys:
            return max(keys, key=lambda key: look.seconds_left.get(key, 0.0))
    return None


def _details(look: Look, trial: Trial) -> dict[str, tuple[str, str]]:
    """What is known of a trial's running stage, else of the one that failed or waits, by column."""
    key = _active(look, trial, *_TOLD)
    if key is None:
        return {}
    status, reading = look.statuses[key], look.readings.get(key)
    found = {
        "attempt": str(status.attempts) if status.attempts > 1 else "",
        "node": status.node or "",
        "job": status.job or "",
    }
    if status.state is StageState.running:
        found |= {"left": duration(look.seconds_left[key]) if key in look.seconds_left else ""}
        if reading is not None:
            found["images/s"] = "" if reading.per_second is None else f"{reading.per_second:,.4g}"
            found["loss"] = "" if reading.loss is None else f"{reading.loss:.4g}"
            if look.when - reading.time > _SILENT_SECONDS and reading.share < 1:
                found["left"] = f"silent {duration(look.when - reading.time)}"
    return {name: (words, STYLES[status.state]) for name, words in found.items() if words}


def _in_words(look: Look, trial: Trial) -> str:
    """The details of a running stage in one line."""
    key = _active(look, trial, StageState.running)
    if key is None:
        return ""
    found = {name: words for name, (words, _) in _details(look, trial).items()}
    forms = {"images/s": "{} images/s", "loss": "loss {}", "left": "{} left", "attempt": "attempt {}",
             "node": "{}", "job": "job {}"}  # fmt: skip
    words = [form.format(found[name]) for name, form in forms.items() if name in found]
    several = sum(look.statuses[stage.key].state is StageState.running for stage in trial.stages) > 1
    return (f"{key.split('/')[0]}: " if several and words else "") + ", ".join(words)


def _total(columns: Sequence[_Column], gap: int) -> int:
    return sum(column.width for column in columns) + gap * (len(columns) - 1)


def _clip(column: _Column, width: int) -> None:
    """Make a column no wider than this, and no narrower than makes sense."""
    column.width = width = min(column.width, max(10, width))
    column.below = column.below[:width]
    column.cells = [
        (words if len(words) <= width else f"{words[: width - 1]}…", style) for words, style in column.cells
    ]


def _line(cells: Sequence[tuple[str, str]], columns: Sequence[_Column], gap: int) -> Text:
    words, spans, end = [], [], 0
    for (cell, style), column in zip(cells, columns, strict=True):
        words.append(cell.rjust(column.width) if column.right else cell.ljust(column.width))
        if style:
            spans.append(Span(end, end + column.width, style))
        end += column.width + gap
    line = Text((" " * gap).join(words), no_wrap=True, overflow="ellipsis", spans=spans)
    line.rstrip()
    return line


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST_CELL else f"{words[: _LONGEST_CELL - 1]}…"

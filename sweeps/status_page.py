"""The status of a sweep as a person reads it, and its JSON twin: a summary, the trials by stage, failures by cause."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from sweeps.inspection import Effort, FailureGroup, Look, failure_groups
from sweeps.planning import summarize
from sweeps.results import tail
from sweeps.status_tables import LEAST_LINES, STYLES, clock, duration, most_lines, short_reason, trial_lines
from sweeps.store import StageState, Store
from tokscale import cost
from tokscale.stage import KINDS

_LOG_LINES = 8
_MESSAGE_LINES = 4
_NAMED_TRIALS = 3


def picture(look: Look, console: Console, store: Store) -> Group:
    """The status in as many lines as the terminal has; where there is no terminal, all of it."""
    width = console.width
    head = [Text(line, style=style) for words, style in _head(look) for line in textwrap.wrap(words, width)]
    groups = failure_groups(look, store)
    if not console.is_terminal:
        return Group(*head, Text(), *trial_lines(look, width, None), *_failure_lines(look, groups, width, None))
    room = console.height - len(head) - 3  # an empty line, and two for the command and the next prompt
    # failures may have what the table leaves, and half of the room in any case
    spare = max(room // 2, room - most_lines(look))
    failures = _failure_lines(look, groups, width, min(spare, room - LEAST_LINES))
    return Group(*head, Text(), *trial_lines(look, width, room - len(failures)), *failures)


def summary(look: Look) -> str:
    """The sweep in one line: trials and stages by state, what was spent, what is left, and when this was so."""
    return " ".join(words for words, _ in _head(look))


def status_json(look: Look, store: Store) -> str:
    """All that a look found: trials and stages by state, a row for each trial, failures, effort, and trouble."""
    states = look.trial_states()
    groups = failure_groups(look, store)
    return json.dumps({
        "sweep": look.plan.spec.name,
        "time": look.when,
        "queue_time": look.queue_when,
        "trouble": list(look.trouble),
        "trials": Counter(state.value for state in states),
        "stages": [{"kind": row.kind, "stages": row.stages, **row.states} for row in summarize(look.plan)],
        "effort": asdict(look.effort),
        "table": [
            {"number": number, "trial": trial.id, "label": cost.label(trial.config), "seed": trial.config.seed,
             "status": state.value, "values": dict(trial.values),
             "stages": {stage.kind: _json_stage(look, stage.key) for stage in trial.stages}}
            for number, (trial, state) in enumerate(zip(look.plan.trials, states, strict=True), 1)
        ],
        "failures": [
            {**asdict(group), "log": None if group.log is None else str(group.log), "count": len(group.stages)}
            for group in groups
        ],
    }, indent=1)  # fmt: skip


def _json_stage(look: Look, key: str) -> dict[str, Any]:
    status, reading = look.statuses[key], look.readings.get(key)
    known = {"stage": key, **asdict(status), "state": status.state.value, "seconds_left": look.seconds_left.get(key)}
    known |= {"share": None, "per_second": None, "loss": None} if reading is None else {
        "share": reading.share, "per_second": reading.per_second, "loss": reading.loss,
        "warning": reading.warning}  # fmt: skip
    return {name: value for name, value in known.items() if value is not None}


def _head(look: Look) -> list[tuple[str, str]]:
    """The lines above the table, with their styles."""
    plan = look.plan
    trials = Counter(look.trial_states())
    lines = [(f"{plan.spec.name}: {_counted(trials, len(plan.trials))} trials{_others(trials)}", "bold")]
    stages = Counter(status.state for status in look.statuses.values())
    reasons = Counter(
        status.reason.partition(",")[0] for status in look.statuses.values()
        if status.state is StageState.queued and status.reason and short_reason(status.reason)
    )  # fmt: skip
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
    lines.append((f"{_counted(stages, len(plan.stages))} stages{_others(stages, {StageState.queued: why})}", ""))
    lines.append((", ".join([*_effort(look), f"seen at {clock(look.when)}"]), ""))
    return lines + [(words, "yellow") for words in (*look.trouble, *_warnings(look))]


def _warnings(look: Look) -> list[str]:
    """What running stages warn of, by trial."""
    return [
        f"trial {number} ({cost.label(trial.config)}): {reading.warning}"
        for number, trial in enumerate(look.plan.trials, 1) for stage in trial.stages
        if look.statuses[stage.key].state is StageState.running
        and (reading := look.readings.get(stage.key)) is not None and reading.warning
    ]  # fmt: skip


def _counted(states: Mapping[StageState, int], total: int) -> str:
    return f"all {total}" if states.get(StageState.done) == total else f"{states.get(StageState.done, 0)} of {total}"


def _others(states: Mapping[StageState, int], remarks: Mapping[StageState, str] | None = None) -> str:
    """`` done, 3 running, 2 failed``: the states that there are, with remarks in parentheses."""
    words = [" done"]
    for state in (StageState.running, StageState.queued, StageState.failed, StageState.interrupted, StageState.blocked,
                  StageState.cancelled, StageState.new):  # fmt: skip
        remark = (remarks or {}).get(state)
        if states.get(state):
            words.append(f"{states[state]} {state.value}" + (f" ({remark})" if remark else ""))
    return ", ".join(words)


def _effort(look: Look) -> list[str]:
    effort, words = look.effort, []
    if effort.spent is not None:
        words.append(f"{_hours(effort.spent, effort)} spent")
    if effort.left is not None and not look.complete:
        words.append(f"about {_hours(effort.left, effort)} left")
    if effort.seconds is not None and not look.complete:
        pace = f" with {effort.at_once} at a time" if effort.at_once else ""
        words.append(f"done in about {duration(effort.seconds)}{pace}")
    return words


def _hours(hours: float, effort: Effort) -> str:
    if not effort.on_gpus:
        return f"{duration(3600 * hours)} of work"
    return f"{hours:,.0f} GPU hours" if hours >= 100 else f"{hours:.3g} GPU hours"


def _failure_lines(look: Look, groups: Sequence[FailureGroup], width: int, room: int | None) -> list[Text]:
    """Failures by cause, each with its trials, its remedy and the end of one log; the less frequent say less."""
    for whole, log_lines in [(len(groups), _LOG_LINES), *((len(groups), n) for n in (4, 2)), (2, 2), (1, 4), (1, 2)]:
        blocks = [_failure(look, group, width, log_lines if number < whole else None)
                  for number, group in enumerate(groups)]  # fmt: skip
        lines = [line for block in blocks for line in block]
        if room is None or len(lines) <= room:
            return lines
    assert room is not None
    return [*lines[: max(0, room - 1)], Text("... and more: all are shown without a terminal, as by `| less`", "dim")]


def _failure(look: Look, group: FailureGroup, width: int, log_lines: int | None) -> list[Text]:
    """A group of failures: its heading, and all the rest unless ``log_lines`` is None."""
    kinds = Counter(key.split("/")[0] for key in group.stages)
    counted = [kind if len(kinds) == 1 else f"{kinds[kind]} {kind}" for kind in KINDS if kind in kinds]
    what = group.state.value if group.cause == group.state.value else f"{group.state.value}: {group.cause}"
    heading = f"{len(group.stages)} {what} ({', '.join(counted)})"
    lines = [Text(line, style=f"bold {STYLES[group.state]}") for line in textwrap.wrap(heading, width)]
    if log_lines is None:
        return lines
    named = [f"{number} ({cost.label(look.plan.trials[number - 1].config)})" for number in group.trials[:_NAMED_TRIALS]]
    more = len(group.trials) - len(named)
    trials = f"trial{'s' if len(group.trials) > 1 else ''} {', '.join(named)}{f' and {more} more' if more else ''}"
    for words in (trials, *group.message.splitlines()[:_MESSAGE_LINES], f"remedy: {group.remedy}"):
        lines += _indented(words, width)
    if group.log is not None:
        lines += [Text("  the end of its log:", "dim"), *_indented(str(group.log), width, "dim")]
        try:
            end = tail(group.log, log_lines)
        except OSError as error:
            end = f"cannot be read: {error.strerror}"
        lines += [Text(f"  | {line}", "dim", no_wrap=True, overflow="ellipsis") for line in end.splitlines()]
    return [Text(), *lines]


def _indented(words: str, width: int, style: str = "") -> list[Text]:
    wrapped = textwrap.wrap(words, max(20, width - 2), break_on_hyphens=False)
    return [Text(f"  {line}", style) for line in wrapped]

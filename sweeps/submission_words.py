"""What a person is told about a submission, a cancellation and a retry, and its JSON twin."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.control import Cancellation
from sweeps.hints import typed
from sweeps.results import failures
from sweeps.submission import Submission

_LEFT_WORDS = {
    "done": "done", "running": "running", "queued": "queued", "failed": "failed", "cancelled": "cancelled",
    "blocked": "blocked by a stage that failed or was cancelled", "held back": "held back",
    "waiting": "waiting for stages that no job of the queue works on",
}  # fmt: skip


def report(made: Submission, *, next_too: bool = True) -> str:
    """What was submitted, what was left and why, what to know, and what to type next."""
    lines: list[str] = []
    for preview in made.previews:
        lines += [f"--- {preview.name}: {preview.elements} elements ---", preview.text.rstrip(), ""]
    name, dry = made.plan.spec.name, bool(made.previews)
    count = sum(made.submitted.values())
    if count:
        verb = "would submit" if dry else "submitted"
        lines.append(f"{name}: {verb} {_stages(count)} to {made.cluster} in {_many(made.arrays, 'array')}: "
                     f"{_listed(made.submitted)}")  # fmt: skip
    else:
        lines.append(f"{name}: nothing to submit")
    left = {_LEFT_WORDS[word]: made.left[word] for word in _LEFT_WORDS if made.left.get(word)}
    if left:
        lines.append(f"left as they are: {_listed(left)}")
    for group in failures(made.plan):
        lines += [f"  {group['count']} failed, {group['cause']}: {_first_line(group['message'])}",
                  f"    remedy: {group['remedy']}"]  # fmt: skip
    lines += made.words
    if made.remaining:
        lines.append(f"the cluster takes no more for now ({made.limit}): {_stages(made.remaining)} remain; "
                     "the same command goes on with them later")  # fmt: skip
    if next_too and not dry:
        lines.append(f"next: {_next(made)}")
    return "\n".join(lines)


def again(made: Submission) -> str:
    """What was submitted again while a sweep was watched, and after what."""
    statuses = made.plan.statuses
    causes = Counter(statuses[key].cause or statuses[key].state.value for key in made.keys)
    return f"submitted {_stages(len(made.keys))}: {_listed(made.submitted)} (before: {_listed(causes)})"


def as_json(made: Submission) -> str:
    """A submission as JSON."""
    content = {
        "sweep": made.plan.spec.name, "cluster": made.cluster, "submitted": dict(made.submitted), "arrays": made.arrays,
        "left": dict(made.left), "remaining": made.remaining, "limit": made.limit, "words": list(made.words),
        "failures": failures(made.plan), "next": _next(made),
        "sbatch": [{"name": one.name, "elements": one.elements, "text": one.text} for one in made.previews],
    }  # fmt: skip
    return json.dumps(content, indent=1)


def cancelled(sweep: str, trials: int, made: Cancellation, runs: Path) -> str:
    """What a cancellation did."""
    lines = [f"{sweep}: cancelled {_stages(len(made.mark))} of {_many(trials, 'trial')}, "
             f"{_many(len(made.jobs), 'job')} of them on the cluster"]  # fmt: skip
    lines += [f"left, since {wanter} wants them too: {_stages(count)}" for wanter, count in made.shared.items()]
    lines += [f"still at work outside the cluster, to be stopped there: {owner} ({_stages(count)})"
              for owner, count in made.elsewhere.items()]  # fmt: skip
    if made.mark:
        lines.append(f"they stay cancelled until: {typed(f'tokscale retry {sweep}', runs)}")
    return "\n".join(lines)


def forgiven(sweep: str, count: int, freed: int) -> str:
    """What a retry forgave, and how many stages were blocked by that."""
    more = f", and {_stages(freed)} that waited in vain for them" if freed else ""
    return f"{sweep}: {_stages(count)} may run again{more}" if count else f"{sweep}: nothing failed or was cancelled"


def _next(made: Submission) -> str:
    name = made.plan.spec.name

    def tokscale(words: str) -> str:
        return typed(f"tokscale {words}", made.runs)

    going = sum(made.submitted.values()) + sum(made.left.get(word, 0) for word in ("running", "queued", "waiting"))
    if going:
        return tokscale(f"status {name} --watch")
    if made.left.get("failed"):
        return f"{tokscale(f'status {name}')}, then {tokscale(f'retry {name}')}"
    if made.left.get("cancelled"):
        return tokscale(f"retry {name}")
    return tokscale(f"results {name}")


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _stages(count: int) -> str:
    return _many(count, "stage")


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""

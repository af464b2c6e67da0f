"""What to do about a stage that did not get done: submit it again, leave it, or wait, by the cause of its end.

A table and a function of plain values: it reads no file and asks no cluster.

Causes come from two sides. The stage itself says ``out of memory``, ``node``, ``diverged``, ``data``, ``weights``,
``config``, ``store``, ``code`` and ``no progress``. For one that could not say anything, the cluster says ``time
limit``, ``preempted``, ``node``, ``host memory``, ``launch``, ``lost``, ``killed`` and ``cancelled``; ``crash`` is a
process on this machine that ended without a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sweeps.store import StageState, StageStatus
from tokscale.stage import Stage

MEMORY_FACTOR = 1.5  # more host memory at each try after the cluster killed a stage for it
BREAKER = 10  # as many equal failures of one kind, none done, and the rest is not begun
BREAKER_CAUSES = ("data", "weights", "config", "code", "launch", "crash")


@dataclass(frozen=True)
class Rule:
    """Whether a stage is submitted again by itself, how often at most (None: always), and what a person can do."""

    again: bool
    most: int | None
    remedy: str


_GOES_ON = "nothing to do: it goes on from its last checkpoint"
RULES: Mapping[str, Rule] = {
    "interrupted": Rule(True, None, _GOES_ON),
    "preempted": Rule(True, None, _GOES_ON),
    "time limit": Rule(True, None, f"{_GOES_ON}; a larger max_minutes in the profile means fewer stops"),
    "node": Rule(True, 5, f"{_GOES_ON}, on another node; tell those who run the cluster"),
    "out of memory": Rule(True, 6, "a smaller training.batch_size or tokenizer, or a GPU with more memory"),
    "host memory": Rule(True, 4, "more memory_per_gpu_gb in the profile, then `tokscale retry`"),
    "lost": Rule(True, 3, "read the launcher's log; `tokscale retry` when the cluster is well again"),
    "killed": Rule(True, 3, "read the end of its log: something outside ended it; then `tokscale retry`"),
    "store": Rule(True, 3, "make room in the runs folder, or make it writable; then the sweep goes on"),
    "diverged": Rule(False, None, "a smaller training.lr or a longer warm-up; the last good checkpoint is kept"),
    "data": Rule(False, None, "mend the data set, then `tokscale retry`"),
    "weights": Rule(False, None, "`tokscale weights fetch`, or the file put where the message says; "
                    "then `tokscale retry`"),
    "config": Rule(False, None, "mend the spec: what changes in it becomes a new trial"),
    "code": Rule(False, None, "mend the code, then `tokscale retry`"),
    "crash": Rule(False, None, "read the end of its log, then `tokscale retry`"),
    "launch": Rule(False, None, "no Python on the node: ask `tokscale cluster check NAME`, then `tokscale retry`"),
    "no progress": Rule(False, None, "more frequent checkpoints or a larger max_minutes, then `tokscale retry`"),
    "cancelled": Rule(False, None, "`tokscale retry` begins it again"),
    "blocked": Rule(False, None, "it follows the stage that it stands on"),
}  # fmt: skip
_UNKNOWN = Rule(False, None, "read the end of its log, then `tokscale retry`")


def rule(cause: str | None) -> Rule:
    """The rule of a cause; one that nobody knows is left to a person, and no cause at all is an interruption."""
    return RULES.get(cause or "interrupted", _UNKNOWN)


def remedy(cause: str | None, state: StageState = StageState.failed) -> str:
    """What a person can do about a cause, in words; about what is merely interrupted, nothing need be done."""
    found = rule(cause)
    if state is StageState.interrupted and found.again and found.remedy != _GOES_ON:
        return f"nothing yet: `tokscale submit`, and `run` by itself, try it again; if it comes back: {found.remedy}"
    return found.remedy


def may_go_on(cause: str | None, tries: int) -> bool:
    """Whether a stage that ended so is submitted again by itself, after so many tries for this cause."""
    found = rule(cause)
    return found.again and (found.most is None or tries < found.most)


def signature(status: StageStatus) -> tuple[str, str]:
    """Cause and message of a failure without the ids of stages and jobs: equal for the same error of two trials.

    Of a launch that failed the first line counts: what follows are the launcher's last words, to which each node may
    add words of its own.
    """
    cause, message = status.cause or "unknown", status.message or ""
    if cause == "launch":
        message = message.partition("\n")[0]
    return cause, re.sub(r"\b[0-9a-f]{16}\b|\b\d+(_\d+)?\b", "…", message)


@dataclass(frozen=True)
class Decision:
    """What is submitted now, parents first, with which changes; and why the rest is left.

    ``left`` has a word for each other stage: its state, ``held back``, or ``waiting`` (for something that is no job of
    the queue). ``memory`` has the factor of host memory for those that need more, ``exclude`` the nodes that are left
    out, ``words`` one message for each thing that a person should know.
    """

    submit: tuple[str, ...]
    left: Mapping[str, str]
    memory: Mapping[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def decide(
    stages: Mapping[str, Stage],
    standings: Mapping[str, StageStatus],
    ends: Mapping[str, Counter[str]],
    living: Collection[str] = (),
) -> Decision:
    """Decide about every stage; ``stages`` come parents first.

    ``ends`` counts by cause how often a stage was submitted again already; ``living`` are the keys whose jobs wait or
    run, on which others can be made to wait.
    """
    held, words = _held_back(stages, standings)
    left: dict[str, str] = {}
    submit: list[str] = []
    for key, stage in stages.items():
        word = _why_not(key, stage, standings, left, held, living)
        if word:
            left[key] = word
        else:
            submit.append(key)
    factors = {}
    for key in submit:
        if tries := ends.get(key, Counter())["host memory"] + (standings[key].cause == "host memory"):
            factors[key] = MEMORY_FACTOR**tries
    bad = [standings[key].node for key in submit if standings[key].cause == "node"]
    return Decision(tuple(submit), left, factors, tuple(dict.fromkeys(node for node in bad if node)), tuple(words))


def _why_not(
    key: str,
    stage: Stage,
    standings: Mapping[str, StageStatus],
    left: Mapping[str, str],
    held: Collection[str],
    living: Collection[str],
) -> str:
    """Why a stage is not submitted now, in a word; empty when it is."""
    state = standings[key].state
    if state not in (StageState.new, StageState.interrupted):
        return str(state.value)
    if stage.kind in held:
        return "held back"
    for parent in (f"{kind}/{identity}" for kind, identity in stage.parents.items()):
        word = left.get(parent, "")
        if word in ("held back", "waiting"):
            return word
        if standings[parent].state.alive and parent not in living:
            return "waiting"
    return ""


def _held_back(stages: Mapping[str, Stage], standings: Mapping[str, StageStatus]) -> tuple[list[str], list[str]]:
    """Kinds of which nothing more is begun, as the same error met one after another; and the words about it."""
    done = {stage.kind for key, stage in stages.items() if standings[key].state is StageState.done}
    errors: Counter[tuple[str, tuple[str, str]]] = Counter()
    messages: dict[tuple[str, tuple[str, str]], str] = {}
    open_kinds: Counter[str] = Counter()
    for key, stage in stages.items():
        status = standings[key]
        if status.state is StageState.failed and status.cause in BREAKER_CAUSES and stage.kind not in done:
            error = (stage.kind, signature(status))
            errors[error] += 1
            messages.setdefault(error, f"{status.cause}: {status.message}")
        elif status.state in (StageState.new, StageState.interrupted):
            open_kinds[stage.kind] += 1
    held, words = [], []
    for error, count in errors.items():
        kind, (cause, _) = error
        if count >= BREAKER and open_kinds[kind] and kind not in held:
            held.append(kind)
            words.append(
                f"{open_kinds[kind]} {kind} stages are held back: {count} failed with the same error and none is done\n"
                f"  {messages[error]}\n  remedy: {remedy(cause)}"
            )
    return held, words

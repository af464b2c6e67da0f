"""Progress of a sweep: how far its running stages are, how long all will still take, and the display of both."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from sweeps.inspection import Effort, Look, Reading
from sweeps.planning import Plan
from sweeps.status_page import picture, summary
from sweeps.status_tables import duration
from sweeps.store import StageState, StageStatus, Store
from tokscale import cost
from tokscale.record import RECORD_NAME

__all__ = ["Estimate", "Taken", "Watch", "duration", "last_line", "readings", "seconds_left"]

OPEN = (StageState.new, StageState.queued, StageState.running, StageState.interrupted)
_REFRESH_SECONDS = 0.5
_SUMMARY_SECONDS = 60.0  # between summaries where there is no terminal
_SECONDS = re.compile(rb'"(wall|gpu)_seconds": *([-+.0-9eE]+)')
_KNOWN_SHARE = 0.5  # of the work that is left, by kinds of which a stage has finished


class Watch:
    """The display of a sweep at work: a live table on a terminal, a line per finished stage elsewhere.

    Whoever runs the stages on this machine calls ``update``; whoever looks at a cluster calls ``show``.
    """

    def __init__(self, plan: Plan, store: Store, workers: int, console: Console) -> None:
        self.plan, self.store, self.console = plan, store, console
        self.estimate = Estimate(plan, workers)
        self._statuses: dict[str, StageStatus] = dict(plan.statuses)
        self._labels = {stage.key: cost.label(trial.config) for trial in plan.trials for stage in trial.stages}
        # what the live table showed last goes when it stops: whoever stops it says how it ended
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = -float("inf")
        self._summed = time.monotonic()
        self._summary = ""
        self._said: set[str] = set()

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, statuses: Mapping[str, StageStatus]) -> None:
        """Take note of new states of stages that run here, and show them."""
        for key, status in statuses.items():
            self.estimate.note(key, self._statuses[key].state, status.state)
        if self._live is None or time.monotonic() - self._shown >= _REFRESH_SECONDS:
            self.show(self._look(statuses))
        else:
            self._tell_ended(statuses)

    def show(self, look: Look) -> None:
        """Show what a look found."""
        self._tell_ended(look.statuses)
        for words in look.trouble:
            self._say_once(words)
        now = time.monotonic()
        if self._live is not None:
            self._shown = now
            self._live.update(picture(look, self.console, self.store), refresh=True)
        elif now - self._summed >= _SUMMARY_SECONDS:
            self._summed = now
            words = summary(look)
            if words != self._summary:
                self._summary = words
                self.console.print(words, highlight=False, markup=False)

    def wait_for(self, owners: Sequence[str]) -> None:
        """Say, once, that all that is left is in the hands of other processes."""
        many = "" if len(owners) == 1 else "s"
        verb = "works" if len(owners) == 1 else "work"
        words = f"waiting for {', '.join(owners)} (host:process{many}), which {verb} on the rest"
        if words not in self._said:
            self._said.add(words)
            self.console.print(words, highlight=False)

    def _say_once(self, words: str) -> None:
        """Where there is no picture to hold it, say a thing when it is new."""
        head = words.partition(";")[0]
        if self._live is None and head not in self._said:
            self._said.add(head)
            self.console.print(words, highlight=False, markup=False)

    def _look(self, statuses: Mapping[str, StageStatus]) -> Look:
        running = [key for key, status in statuses.items() if status.state is StageState.running]
        read = readings(self.store, running)
        shares = {key: reading.share for key, reading in read.items()}
        left = {key: seconds for key in running if (seconds := seconds_left(key, read, self.estimate)) is not None}
        effort = Effort(seconds=self.estimate.seconds_left(statuses, shares), at_once=self.estimate.workers)
        return Look(replace(self.plan, statuses=statuses), time.time(), read, left, effort=effort)

    def _tell_ended(self, statuses: Mapping[str, StageStatus]) -> None:
        ended = [
            key for key, status in statuses.items()
            if status.state is not self._statuses[key].state and status.state not in OPEN
        ]  # fmt: skip
        self._statuses = dict(statuses)
        for key in ended:
            self._tell(key, statuses[key])

    def _tell(self, key: str, status: StageStatus) -> None:
        kind = key.split("/")[0]
        if status.state is StageState.failed:
            self.console.print(f"[red]failed[/red] {kind} {self._labels[key]}: {status.cause}: {status.message}",
                               highlight=False)  # fmt: skip
        elif self._live is None and status.state is StageState.done:
            done = sum(item.state is StageState.done for item in self._statuses.values())
            left = self.estimate.seconds_left(self._statuses, {})
            words = "" if left is None else f"; about {duration(left)} left"
            self.console.print(f"{done:>4}/{len(self._statuses)} {kind} {self._labels[key]} done{words}",
                               highlight=False)  # fmt: skip


class Estimate:
    """Time left, from planned FLOPs and the seconds per FLOP that finished stages of each kind took."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self.work = {key: item.flops for key, item in plan.costs.items()}
        self.workers = workers
        self._started: dict[str, float] = {}
        self._spent: dict[str, tuple[float, float]] = {}

    def note(self, key: str, before: StageState, after: StageState) -> None:
        """Keep when a stage starts and ends."""
        if before is after:
            return
        if after is StageState.running:
            self._started[key] = time.monotonic()
        elif after is StageState.done and key in self._started:
            self.learn(key, time.monotonic() - self._started[key])

    def learn(self, key: str, seconds: float) -> None:
        """Take note of what a finished stage took."""
        kind = key.split("/")[0]
        flops, spent = self._spent.get(kind, (0.0, 0.0))
        self._spent[kind] = (flops + self.work[key], spent + seconds)

    def expected(self, key: str) -> float | None:
        """Seconds that a whole stage takes by those of its kind; None where none has finished."""
        flops, seconds = self._spent.get(key.split("/")[0], (0.0, 0.0))
        return self.work[key] * seconds / flops if flops else None

    def running_for(self, key: str) -> float | None:
        """Seconds since a stage was seen to start."""
        return time.monotonic() - self._started[key] if key in self._started else None

    def seconds_left(self, statuses: Mapping[str, StageStatus], shares: Mapping[str, float]) -> float | None:
        """Seconds until all is done, or None while too little is known: a small stage's time is mostly start-up."""
        open_work: defaultdict[str, float] = defaultdict(float)
        for key, status in statuses.items():
            if status.state in OPEN:
                open_work[key.split("/")[0]] += self.work[key]
        known = sum(work for kind, work in open_work.items() if kind in self._spent)
        if not self._spent or known < _KNOWN_SHARE * sum(open_work.values()):
            return None
        flops, seconds = (sum(column) for column in zip(*self._spent.values(), strict=True))
        rates = {kind: spent[1] / spent[0] for kind, spent in self._spent.items() if spent[0] > 0}
        overall = seconds / max(flops, 1.0)
        left = 0.0
        for key, status in statuses.items():
            if status.state in OPEN:
                left += self.work[key] * rates.get(key.split("/")[0], overall) * (1 - shares.get(key, 0.0))
        return left / self.workers


class Taken:
    """What finished stages took, from their records, each of which is read once."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.wall, self.gpu = Estimate(plan, workers=1), Estimate(plan, workers=1)
        self.wall_seconds = self.gpu_seconds = 0.0
        self.stages = 0
        self._folder = str(store.stages)
        self._read: set[str] = set()

    def read(self, statuses: Mapping[str, StageStatus]) -> None:
        """Read the records that are new; one that is damaged counts for nothing, and the next submission says so."""
        for key, status in statuses.items():
            if status.state is not StageState.done or key in self._read:
                continue
            self._read.add(key)
            seconds = _seconds(f"{self._folder}/{key}/{RECORD_NAME}")
            if seconds is None:
                continue
            wall, gpu = seconds
            self.wall.learn(key, wall)
            self.gpu.learn(key, gpu)
            self.wall_seconds, self.gpu_seconds = self.wall_seconds + wall, self.gpu_seconds + gpu
            self.stages += 1


def _seconds(path: str) -> tuple[float, float] | None:
    """Wall and GPU seconds of a record; None when it cannot be read.

    Of thousands of records two numbers each are wanted: to find them is ten times as quick as to read all as JSON.
    """
    try:
        with open(path, "rb") as file:
            found = {name: float(value) for name, value in _SECONDS.findall(file.read())}
    except (OSError, ValueError):
        return None
    return found.get(b"wall", 0.0), found.get(b"gpu", 0.0)


def seconds_left(key: str, read: Mapping[str, Reading], estimate: Estimate, since: float | None = None) -> float | None:
    """Seconds that a running stage still takes: by its own pace, else by that of its kind and when it began.

    ``since`` is when it began, in seconds since the epoch; by default when it was seen to start.
    """
    reading = read.get(key)
    if reading is not None and reading.per_second:
        return max(0.0, reading.total - reading.done) / reading.per_second
    expected = estimate.expected(key)
    elapsed = estimate.running_for(key) if since is None else time.time() - since
    return None if expected is None or elapsed is None else max(0.0, expected - elapsed)


def readings(store: Store, keys: Iterable[str]) -> dict[str, Reading]:
    """How far stages are, for those that have a progress file."""
    read = {key: _reading(last_line(store.stages / key / "progress.jsonl")) for key in keys}
    return {key: reading for key, reading in read.items() if reading is not None}


def _reading(line: Mapping[str, Any]) -> Reading | None:
    try:
        return Reading(float(line["done"]), float(line["total"]), _number(line, "per_second"), _number(line, "loss"),
                       float(line.get("time", 0.0)), line.get("warning"))  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None


def _number(line: Mapping[str, Any], name: str) -> float | None:
    return float(line[name]) if name in line else None


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a JSONL file; empty when there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().split(b"\n")[:-1]
        line = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return {}
    return line if isinstance(line, dict) else {}

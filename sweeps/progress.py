"""What a person sees while a sweep runs: what runs, how far it is, and how long it will still take."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.planning import Plan
from sweeps.store import StageState, StageStatus, Store
from tokscale import cost
from tokscale.stage import KINDS

_OPEN = (StageState.new, StageState.running, StageState.interrupted)
_REFRESH_SECONDS = 0.5
_KNOWN_SHARE = 0.5  # of the work that is left, by kinds of which a stage has finished


class Watch:
    """Progress of a sweep: a live table on a terminal, a line per finished stage elsewhere."""

    def __init__(self, plan: Plan, store: Store, workers: int, console: Console) -> None:
        self.plan, self.store, self.console = plan, store, console
        self.estimate = Estimate(plan, workers)
        self._statuses: dict[str, StageStatus] = dict(plan.statuses)
        self._labels = {stage.key: cost.label(trial.config) for trial in plan.trials for stage in trial.stages}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = 0.0
        self._said: set[str] = set()

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, statuses: Mapping[str, StageStatus]) -> None:
        """Take note of new states and show them."""
        ended = [
            key for key, status in statuses.items()
            if status != self._statuses[key] and status.state not in _OPEN
        ]  # fmt: skip
        for key, status in statuses.items():
            self.estimate.note(key, self._statuses[key].state, status.state)
        self._statuses = dict(statuses)
        for key in ended:
            self._tell(key, statuses[key])
        now = time.monotonic()
        if self._live is not None and now - self._shown >= _REFRESH_SECONDS:
            self._shown = now
            self._live.update(self._picture(), refresh=True)

    def wait_for(self, owners: Sequence[str]) -> None:
        """Say, once, that all that is left is in the hands of other processes."""
        words = (
            f"waiting for {', '.join(owners)} (host:process), which work{'s' if len(owners) == 1 else ''} on the rest"
        )
        if words not in self._said:
            self._said.add(words)
            self.console.print(words, highlight=False)

    def _tell(self, key: str, status: StageStatus) -> None:
        kind = key.split("/")[0]
        if status.state is StageState.failed:
            self.console.print(f"[red]failed[/red] {kind} {self._labels[key]}: {status.cause}: {status.message}",
                               highlight=False)  # fmt: skip
        elif self._live is None:
            done = sum(item.state is StageState.done for item in self._statuses.values())
            left = self.estimate.seconds_left(self._statuses, {})
            self.console.print(f"{done:>4}/{len(self._statuses)} {kind} {self._labels[key]} done; {_left(left)}",
                               highlight=False)  # fmt: skip

    def _picture(self) -> Group:
        running = {key for key, status in self._statuses.items() if status.state is StageState.running}
        lines = {key: last_line(self.store.stages / key / "progress.jsonl") for key in running}
        shares = {key: line["done"] / line["total"] for key, line in lines.items() if line}
        done = sum(status.state is StageState.done for status in self._statuses.values())
        left = self.estimate.seconds_left(self._statuses, shares)
        head = Text.assemble((self.plan.spec.name, "bold"), f"  {done} of {len(self._statuses)} stages  {_left(left)}")
        return Group(head, self._by_kind(), self._by_stage(sorted(running), lines, shares))

    def _by_kind(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for kind in KINDS:
            states = [status.state for key, status in self._statuses.items() if key.startswith(f"{kind}/")]
            if not states:
                continue
            done, failed = states.count(StageState.done), states.count(StageState.failed)
            words = Text(f"{done}/{len(states)}") + Text(f"  {failed} failed" if failed else "", style="red")
            table.add_row(kind, ProgressBar(total=len(states), completed=done, width=30), words)
        return table

    def _by_stage(
        self, running: list[str], lines: Mapping[str, Mapping[str, Any]], shares: Mapping[str, float]
    ) -> Table:
        table = Table.grid(padding=(0, 2))
        for key in running:
            line = lines[key]
            speed = f"{line['per_second']:.0f} images/s" if "per_second" in line else ""
            loss = f"loss {line['loss']:.4g}" if "loss" in line else ""
            share = f"{100 * shares[key]:3.0f} %" if key in shares else ""
            table.add_row("running", key.split("/")[0], self._labels[key], share, speed, loss)
        return table


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
            kind = key.split("/")[0]
            flops, seconds = self._spent.get(kind, (0.0, 0.0))
            self._spent[kind] = (flops + self.work[key], seconds + time.monotonic() - self._started[key])

    def seconds_left(self, statuses: Mapping[str, StageStatus], shares: Mapping[str, float]) -> float | None:
        """Seconds until all is done, or None while too little is known: a small stage's time is mostly start-up."""
        open_work: defaultdict[str, float] = defaultdict(float)
        for key, status in statuses.items():
            if status.state in _OPEN:
                open_work[key.split("/")[0]] += self.work[key]
        known = sum(work for kind, work in open_work.items() if kind in self._spent)
        if not self._spent or known < _KNOWN_SHARE * sum(open_work.values()):
            return None
        flops, seconds = (sum(column) for column in zip(*self._spent.values(), strict=True))
        rates = {kind: spent[1] / spent[0] for kind, spent in self._spent.items() if spent[0] > 0}
        overall = seconds / max(flops, 1.0)
        left = 0.0
        for key, status in statuses.items():
            if status.state in _OPEN:
                left += self.work[key] * rates.get(key.split("/")[0], overall) * (1 - shares.get(key, 0.0))
        return left / self.workers


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


def duration(seconds: float) -> str:
    """Seconds for people: ``42 s``, ``4:07 min``, ``3:20 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _left(seconds: float | None) -> str:
    return "time left: not known yet" if seconds is None else f"about {duration(seconds)} left"

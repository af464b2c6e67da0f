"""``study.journal``: the searches of a sweep as Optuna studies, for ``optuna-dashboard``, and for the pruners.

    optuna-dashboard runs/sweeps/NAME/study.journal

The journal is kept in memory and written beside it. The file has one writer and is never read here, so that nothing
that happens to it can hurt a search: a dashboard that reads it while it is written sees whole lines, and one that was
torn, removed or edited is written anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalStorage
from optuna.trial import Trial

from sweeps.outcomes import Outcome
from sweeps.search_log import Point
from sweeps.study import NAMED_CONSTRAINTS, STATES, Translation, constraints_of, quiet
from tokscale.errors import StoreError
from tokscale.record import write_atomically

FILE_NAME = "study.journal"

Known = Sequence[tuple[Point, Outcome]]


class Dashboard:
    """The studies of all searches of a sweep, by name, in one journal."""

    def __init__(self, translation: Translation, path: Path) -> None:
        self.translation = translation
        self.path = path.absolute()  # a relative one would change its meaning with the working directory
        self._begin()

    def follow(self, searches: Mapping[str, Known]) -> list[Point]:
        """Bring the studies and the file up to date; returns the open points that the pruner would end now."""
        try:
            losers = self._follow(searches)
        except _OutdatedError:
            self._begin()
            losers = self._follow(searches)
        self._publish()
        return losers

    def _begin(self) -> None:
        self._journal = MemoryJournal()
        self._storage = JournalStorage(self._journal)
        self._studies: dict[str, _LiveStudy] = {}
        self._published, self._bytes = 0, -1

    def _follow(self, searches: Mapping[str, Known]) -> list[Point]:
        losers = []
        for name, known in searches.items():
            if name not in self._studies:
                self._studies[name] = _LiveStudy(self.translation, self._storage, name)
            losers += self._studies[name].follow(known)
        return losers

    def _publish(self) -> None:
        """Append to the file what is new; write it anew when it is not what was written last.

        A disk that is full keeps nobody from searching on: what is missing is written next time.
        """
        if self._published == len(self._journal) and self._bytes == _size(self.path):
            return
        try:
            if self._bytes != _size(self.path):
                write_atomically(self.path, self._journal.text())
            else:
                with open(self.path, "ab") as file:
                    file.write(self._journal.text(self._published))
        except (OSError, StoreError):
            self._bytes = -1
            return
        self._published, self._bytes = len(self._journal), _size(self.path)


class _LiveStudy:
    """One study; it is told what happens, in the order in which it does."""

    def __init__(self, translation: Translation, storage: JournalStorage, name: str) -> None:
        self.translation = translation
        self._study = translation.study(storage, name)
        self._open: dict[int, Trial] = {}
        self._told: dict[int, Outcome] = {}
        self._reported: dict[int, set[int]] = {}
        self._losers: set[int] = set()

    def follow(self, known: Known) -> list[Point]:
        """Bring the study up to date; the open points that the pruner would end.

        Raises ``_OutdatedError`` when something changed that had been told as final: then a new study is due.
        """
        for point, outcome in known:
            told = self._told.get(point.number)
            if told is not None and told.state != "open":
                if (told.state, told.values) != (outcome.state, outcome.values):
                    raise _OutdatedError
                continue
            if told is None and outcome.state != "open" and not self._replays(outcome):
                self._study.add_trial(self.translation.frozen(point, outcome))
            else:
                with quiet():
                    self._advance(point, outcome)
            self._told[point.number] = outcome
        return [point for point, _ in known if point.number in self._losers]

    def _advance(self, point: Point, outcome: Outcome) -> None:
        """Bring one point up to date that is open, or was until now."""
        if point.number not in self._open:
            self._study.enqueue_trial(self.translation.params(point), user_attrs=self.translation.attributes(point))
            self._open[point.number] = self._study.ask(self.translation.distributions)
            _constrain(self._open[point.number], point.constraints)
        trial = self._open[point.number]
        curve = self.translation.curve(outcome)
        reported = self._reported.setdefault(point.number, set())
        for step in sorted(curve.keys() - reported):
            trial.report(curve[step], step)
            reported.add(step)  # for good: an attempt that begins again may say it a second time
            if trial.should_prune():
                self._losers.add(point.number)
        if outcome.state != "open":
            _constrain(trial, {name: value for name, value in constraints_of(point, outcome).items()
                               if name not in point.constraints})  # fmt: skip
            self._study.tell(trial, list(outcome.values) or None, STATES[outcome.state])
            del self._open[point.number]
            self._losers.discard(point.number)

    def _replays(self, outcome: Outcome) -> bool:
        """Whether the pruner keeps notes of its own, which only come back by reporting the whole curve again."""
        pruner = self.translation.config.pruner
        return pruner is not None and pruner.kind == "hyperband" and bool(outcome.curve)


class MemoryJournal(BaseJournalBackend):
    """The lines of a journal, in memory; ``text`` of them is what Optuna's own file would hold."""

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        # As from a file: what is read does not change when the writer's objects do.
        self._logs += json.loads(json.dumps(logs))

    def __len__(self) -> int:
        return len(self._logs)

    def text(self, start: int = 0) -> bytes:
        """The lines from a number on."""
        return "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in self._logs[start:]).encode()


class _OutdatedError(Exception):
    """A study says something of the past that is no longer so."""


def _constrain(trial: Trial, constraints: Mapping[str, float]) -> None:
    if NAMED_CONSTRAINTS:
        for name, value in constraints.items():
            trial.set_constraint(name, value)


def _size(path: Path) -> int:
    """Bytes of a file; -2 when there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -2

"""``history.jsonl`` of a sweep: who submitted what, from which code and spec, which ends it answered, what was retried.

One line an event, written at once and never changed. The ends of earlier tries are read back from it: a stage that was
killed three times is not tried a fourth time, and one that ran out of memory gets more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slurm.lines import append_line, read_lines
from tokscale.record import cannot_write

HISTORY_NAME = "history.jsonl"
EXCLUDED_SECONDS = 3600.0  # how long a node that failed is left out


class History:
    """The events of one sweep, oldest first."""

    def __init__(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.events = events

    def ends(self) -> dict[str, Counter[str]]:
        """How often each stage was submitted again, by the cause of its end; a retry begins the count anew."""
        counts: dict[str, Counter[str]] = {}
        for event in self.events:
            for key in event.get("retried", ()):
                # What a stage needs does not change by being forgiven.
                counts[key] = Counter({"host memory": counts.get(key, Counter())["host memory"]})
            for key, cause in event.get("again", {}).items():
                counts.setdefault(key, Counter())[cause] += 1
        return counts

    def excluded(self, now: float) -> tuple[str, ...]:
        """The nodes that were left out of late, the newest last."""
        late = [event for event in self.events if now - event.get("time", 0.0) < EXCLUDED_SECONDS]
        return tuple(dict.fromkeys(node for event in late for node in event.get("excluded", ())))

    def last(self, name: str) -> Any:
        """The newest value of a name; None where no event has it."""
        return next((event[name] for event in reversed(self.events) if name in event), None)


def read_history(folder: Path) -> History:
    """The events of the sweep of this folder; a line that was cut short is passed over."""
    return History(read_lines(folder / HISTORY_NAME))


def write_history(folder: Path, event: Mapping[str, Any]) -> None:
    """Append an event with the time; raises ``StoreError`` when the folder cannot be written."""
    path = folder / HISTORY_NAME
    try:
        append_line(path, {"time": time.time(), **event})
    except OSError as error:
        raise cannot_write(path, error) from error

"""``search.jsonl``: every point that a search asked for, one line each, written before anything of it is submitted.

It is the truth about what was asked; what came of it stands in the records. Lines are only ever appended, by the one
process that holds the claim on the search. A line that its writer could not finish was never acted on: it is ignored,
and removed before the next one is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from slurm.lines import append_line
from tokscale.errors import StoreError
from tokscale.record import cannot_write, write_atomically

FILE_NAME = "search.jsonl"


@dataclass(frozen=True)
class Point:
    """One point that was asked for: its settings, the trials that judge it, and how it stands to the constraints.

    ``cell`` are the grid's values that the search belongs to. A constraint holds where its value is 0 or less; of a
    point that breaks one nothing is ever run. ``sampler`` is what the sampler noted for itself.
    """

    number: int
    params: Mapping[str, Any]
    trials: tuple[str, ...]
    when: float
    cell: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    sampler: Mapping[str, Any] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        return not self.broken

    @cached_property
    def broken(self) -> frozenset[str]:
        """The constraints that do not hold."""
        return frozenset(name for name, value in self.constraints.items() if value > 0)


def read_points(path: Path) -> list[Point]:
    """The points of a search in the order in which they were asked; raises ``StoreError`` for a damaged line."""
    points = []
    for number, line in enumerate(_whole_lines(_read(path)), 1):
        try:
            fields = json.loads(line)
            points.append(Point(**{**fields, "trials": tuple(fields["trials"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                "a line of a search is damaged", where=f"{path}:{number}", given=str(error),
                allowed="restore it, or remove the line: its point is then asked for again",
            ) from error  # fmt: skip
    return points


def append_point(path: Path, point: Point) -> None:
    """Add a point durably; for the holder of the search's claim. Raises ``StoreError``."""
    mend(path)
    try:
        append_line(path, asdict(point))
    except OSError as error:
        raise cannot_write(path, error) from error


def mend(path: Path) -> None:
    """Remove an unfinished last line."""
    content = _read(path)
    if content and not content.endswith(b"\n"):
        write_atomically(path, b"".join(line + b"\n" for line in _whole_lines(content)))


def _whole_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise StoreError(f"a search cannot be read: {error.strerror}", where=str(path),
                         allowed="a file that this user may read") from error  # fmt: skip

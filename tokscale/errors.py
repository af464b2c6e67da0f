"""Errors that a person reads.

    TokscaleError              any of them; the command line prints it as one message, without a traceback
    ├── UsageError             the words were wrong (exit status 2)
    │   ├── ConfigError        a value of a spec or a config, with the dotted path and, for YAML, file and line
    │   └── TableError         a table or one of its columns
    └── WorkError              the work failed (exit status 1)
        ├── DataError          images that cannot be read, folders that are empty
        ├── WeightsError       pretrained weights, or code that goes with them, that are absent, damaged or others
        ├── StoreError         the runs folder: no room, no permission, a damaged record
        ├── DivergedError      a loss that is no longer finite
        ├── MemoryRunOutError  no memory left, on the GPU or beside it
        ├── NodeError          the machine, not the work: a GPU that fails, a process that vanished
        ├── NoProgressError    attempts that end one after another without getting any further
        ├── StoppedError       asked to stop by a signal; what was done is in the checkpoint
        ├── CancelledError     somebody cancelled the stage; it stays so until it is retried
        └── HeldError          a living process works on the same stage

Broken promises of our own code are assertions, not one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TokscaleError(Exception):
    """One message: what is wrong, where, what was given, what is allowed."""

    exit_status = 1
    again = False
    """whether the same work should be begun again as it is; a job that ends so is requeued"""
    cause = ""
    """the class of a failure, in a word or two: status groups by it, and what is tried again depends on it"""

    def __init__(self, what: str, *, where: str | None = None, given: object = None, allowed: str | None = None):
        self.what, self.where, self.given, self.allowed = what, where, given, allowed
        lines = [what]
        if where is not None:
            lines.append(f"  where:   {where}")
        if given is not None:
            lines.append(f"  given:   {given if isinstance(given, str) else repr(given)}")
        if allowed is not None:
            lines.append(f"  allowed: {allowed}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between processes by themselves.
        return _rebuild, (type(self), self.what, self.where, self.given, self.allowed), {"again": self.again}


class UsageError(TokscaleError):
    """The words were wrong: a flag, a file, a value."""

    exit_status = 2
    cause = "config"


class ConfigError(UsageError):
    """A value of a spec or a config is unknown, of the wrong type, or impossible."""


class TableError(UsageError):
    """A table or one of its columns cannot be used as asked."""


class WorkError(TokscaleError):
    """The words were right, the work failed."""


class DataError(WorkError):
    """Images are missing, unreadable or too few."""

    cause = "data"


class WeightsError(WorkError):
    """Pretrained weights, or the code that goes with them, are absent, damaged, or not what they should be."""

    cause = "weights"


class StoreError(WorkError):
    """The runs folder cannot be written, is full, or holds something damaged."""

    cause = "store"


class DivergedError(WorkError):
    """A loss or a measure is no longer a finite number."""

    cause = "diverged"


class MemoryRunOutError(WorkError, MemoryError):
    """No memory is left; the next attempt takes half of the images at once, while there is a half."""

    cause = "out of memory"
    again = True


class NodeError(WorkError):
    """The machine failed, not the work: the next attempt is better made on another one."""

    cause = "node"
    again = True


class NoProgressError(WorkError):
    """One attempt after another ended without a new checkpoint or a record."""

    cause = "no progress"


class StoppedError(WorkError):
    """The stage was asked to stop; it saved a checkpoint and can be resumed."""

    again = True


class CancelledError(WorkError):
    """Somebody cancelled the stage; nothing was touched."""

    cause = "cancelled"


class HeldError(WorkError):
    """A living process works on the same stage; nothing was touched."""

    again = True


def one_of(allowed: Iterable[str], given: str | None = None) -> str:
    """The allowed words in one line, with "did you mean" in front when one of them is near what was given."""
    words = [str(word) for word in allowed]
    near = difflib.get_close_matches(str(given), words, n=1, cutoff=0.6) if given is not None else []
    listed = ", ".join(words)
    return f"did you mean {near[0]!r}? one of: {listed}" if near else f"one of: {listed}"


def _rebuild(
    kind: type[TokscaleError], what: str, where: str | None, given: object, allowed: str | None
) -> TokscaleError:
    return kind(what, where=where, given=given, allowed=allowed)

"""The one interface behind which this machine and a cluster stand: jobs go in, statuses come out.

A job is the name of a function with plain arguments. It leaves its results in files of its own, so an executor carries
no return values: a status says how the job went as a process, and the caller judges from the files whether the work is
whole.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

AnyExecutor = TypeVar("AnyExecutor", bound="Executor")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job asks of a cluster; on this machine the number of workers is the limit and these are not read."""

    gpus: int = 0  # per node
    cpus: int = 1  # per node
    memory_gb: float | None = None  # per node; None: what the cluster gives by default
    nodes: int = 1
    tasks: int = 1  # processes per node: one a GPU
    minutes: int | None = None  # None: the longest that the cluster allows

    def __post_init__(self) -> None:
        for name, least in (("gpus", 0), ("cpus", 1), ("nodes", 1), ("tasks", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} of a job is {getattr(self, name)}, allowed: {least} or more")
        for name in ("memory_gb", "minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} of a job is {value}, allowed: more than 0, or None")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of ``module:function`` in a process that is not ours.

    ``arguments`` are JSON values: a mapping is passed by keyword, a sequence by position. ``after`` holds the keys of
    the jobs that must be done first. Among the jobs that may start, the highest ``priority`` starts first, then the one
    submitted first; giving later stages of a trial a higher priority finishes trials one by one instead of all at the
    end. ``log`` receives everything that the job prints, from C and from a crash too.
    """

    key: str
    name: str
    target: str
    log: Path
    arguments: Sequence[Any] | Mapping[str, Any] = ()
    resources: Resources = field(default_factory=Resources)
    after: tuple[str, ...] = ()
    priority: int = 0

    def __post_init__(self) -> None:
        module, colon, function = self.target.partition(":")
        if not (module and colon and function):
            raise ValueError(f"target of job {self.name} is {self.target!r}, allowed: 'module:function'")
        if isinstance(self.arguments, str):
            raise ValueError(f"arguments of job {self.name} are one string, allowed: a sequence or a mapping")
        try:
            json.dumps(self.arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"arguments of job {self.name} are not JSON values: {error}") from error


class JobState(str, Enum):
    """Where a job is. The last four are final; ``blocked`` never ran, because a job before it did not get done."""

    pending = "pending"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"
    blocked = "blocked"

    def __str__(self) -> str:
        return self.value  # the same in every version of Python

    @property
    def final(self) -> bool:
        return self not in (JobState.pending, JobState.running)


CAUSES = (
    "", "time limit", "preempted", "node", "out of memory", "cancelled", "launch", "lost", "blocked", "killed",
)  # fmt: skip


@dataclass(frozen=True)
class JobStatus:
    """How a job is: its state, why (in words), where and when (seconds since the epoch), and its process's end.

    ``worker`` is the process id here and the job id on a cluster (``A_k`` for element k of array A). ``exit_code`` is
    that of the process when it ended with the job, negative for a signal, as in ``subprocess``; None when the process
    lives on or never was. ``cause`` is why, for a program to read: one of ``CAUSES``, or what the job noted itself.
    ``log`` is the launcher's own, for jobs that ended before they could write to theirs.
    """

    key: str
    state: JobState
    reason: str = ""
    started: float | None = None
    ended: float | None = None
    host: str | None = None
    worker: str | None = None
    exit_code: int | None = None
    cause: str = ""
    log: Path | None = None


class Executor(ABC):
    """Runs jobs, each after the jobs that it names; leaving the ``with`` block closes it."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, in any order among themselves.

        Raises ``ValueError`` and takes none of them when a key is already waiting or running, when ``after`` names a
        key that was never submitted, or when jobs wait for each other. A key that has ended may be submitted again.
        """

    @abstractmethod
    def poll(self) -> dict[str, JobStatus]:
        """The status of every job by key, brought up to date without waiting."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> dict[str, JobStatus]:
        """The statuses that changed since the last call, as soon as there is one; empty when none did in ``timeout``
        seconds, and at once when no job is left to wait for."""

    @abstractmethod
    def cancel(self, keys: Iterable[str]) -> None:
        """Ask jobs to end: those that wait never start, those that run get SIGTERM and, after a grace, SIGKILL.

        Returns at once. Jobs that come after a cancelled one become blocked; keys that have ended are left as they are.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the jobs.

        On this machine what has not ended is cancelled, and nothing of it runs any more on return. A cluster's jobs go
        on: nobody need watch them, and another process may.
        """

    def __enter__(self: AnyExecutor) -> AnyExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

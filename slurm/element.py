"""One element of an array, inside its SLURM job: what submitit's pickle calls in every task.

It calls the target and decides what its end means. Nobody else requeues: submitit's handlers, which would do so inside
a signal's frame, are replaced first thing, and Lightning's are off. The decision is taken by rank 0 alone, after the
target has returned or raised and everything is flushed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from slurm.ending import SHARED, conclude, first_cause, note
from slurm.hearing import Hearing, warning_seconds
from slurm.notes import (
    End,
    mark_bad_node,
    read_bad_nodes,
    read_end,
    read_json,
    start_path,
    write_elements,
    write_json,
)
from slurm.threads import short_waits
from slurm.worker import call, describe, flush_output, output_to

__all__ = ["Element", "End", "read_bad_nodes", "read_end", "run_element", "write_elements"]

RANK_SECONDS = 60.0  # that a rank that was told to stop leaves rank 0 to save and to requeue
LEAVE_SECONDS = 60.0  # for the interpreter to shut down, which threads of a broken process group may prevent


class BadNodeError(Exception):
    """The job started on a node that an earlier job marked as bad."""

    again = True
    cause = "node"


class StoppedEarlyError(Exception):
    """The job was told to stop before its target began."""

    again = True


# Ends in vain, counted under these words: after MOST_IN_VAIN of them an element is not requeued any more.
IN_VAIN: Mapping[type[BaseException], str] = {BadNodeError: "bad node", StoppedEarlyError: "stopped early"}


@dataclass(frozen=True)
class Element:
    """An element as it finds itself in a SLURM job: what to call, which job and rank it is, what it may do."""

    folder: Path  # of its array
    index: int
    job: str  # A_a, or the job's id when it is no array
    restart: int
    rank: int
    ranks: int
    host: str  # as SLURM calls the node
    cpus: int  # per task
    requeue: bool
    minutes: int | None  # its time limit
    name: str
    target: str
    arguments: list[Any] | dict[str, Any]
    log: Path

    @classmethod
    def here(cls, path: Path, environment: Mapping[str, str] = os.environ) -> Element:
        """The element that this SLURM job is; ``ValueError`` when the array's file knows none such."""
        content = read_json(path)
        if content is None:
            raise ValueError(f"{path} cannot be read: is the folder shared with this node?")
        index = environment.get("SLURM_ARRAY_TASK_ID") or next(iter(content["elements"]))
        if index not in content["elements"]:
            raise ValueError(f"{path} has no element {index}")
        array = environment.get("SLURM_ARRAY_JOB_ID")
        own = content["elements"][index]
        return cls(
            folder=path.absolute().parent,
            index=int(index),
            job=f"{array}_{index}" if array else environment.get("SLURM_JOB_ID", ""),
            restart=int(environment.get("SLURM_RESTART_COUNT") or 0),
            rank=int(environment.get("SLURM_PROCID") or 0),
            ranks=int(environment.get("SLURM_NTASKS") or 1),
            host=environment.get("SLURMD_NODENAME") or socket.gethostname(),
            cpus=int(environment.get("SLURM_CPUS_PER_TASK") or content["cpus_per_task"]),
            requeue=bool(content["requeue"]),
            minutes=content.get("minutes"),
            name=own["name"],
            target=own["target"],
            arguments=own["arguments"],
            log=Path(own["log"]),
        )

    @property
    def own_log(self) -> Path:
        """Where this rank's output goes: rank 0's is the job's log, the others' lie beside it."""
        return self.log if self.rank == 0 else self.log.with_name(f"{self.log.stem}-rank{self.rank}{self.log.suffix}")

    def previous(self) -> End | None:
        """How the start before this one ended, if that was noted."""
        end = read_end(self.folder, self.index)
        return end if end is not None and end.restart < self.restart else None

    def end(self, state: str, cause: str = "", message: str = "", **more: Any) -> End:
        """An end of this start, with what earlier starts of the element counted."""
        previous = self.previous()
        tally = dict(previous.tally) if previous is not None else {}
        return End(state, self.restart, cause, message, self.host, time.time(), rank=self.rank,
                   **{"tally": tally, **more})  # fmt: skip


def run_element(path: str) -> None:
    """Run, in every task of a SLURM job, the element of an array that this job is; ``path`` is its elements.json.

    Returns when the target did, ends the process with ``SystemExit`` otherwise. An exception of the target may say two
    things by attributes: ``again`` (True: begin the same work again) and ``cause`` (a word for the note).
    """
    hearing = Hearing()
    element = Element.here(Path(path))
    try:
        with output_to(str(element.own_log)):
            code = _run(element, hearing)
    except OSError as error:  # the log cannot be opened: say so where the launcher's output goes
        traceback.print_exc()
        code = _conclude(element, error)
    if code:
        _leave(code)


def _run(element: Element, hearing: Hearing) -> int:
    """Call the target with its log as standard output and error; the exit status of this task."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    error: BaseException | None = None
    try:
        _introduce(element)
        hearing.heed_warnings(element.job, warning_seconds(element.minutes))
        _prepare(element)
        _refuse_bad_nodes(element)
        importlib.import_module(element.target.partition(":")[0])
        if hearing.stop is not None:
            raise StoppedEarlyError(f"{hearing.stop} arrived before the work began")
        with hearing.passed_on():
            call(element.target, element.arguments)
    except BaseException as raised:
        if not (isinstance(raised, SystemExit) and raised.code in (None, 0)):
            error = raised
            with contextlib.suppress(OSError):  # a log without room must not hide the error
                traceback.print_exc()
    flush_output()
    hearing.listen()
    _remove_caches(element)
    return _conclude(element, error)


def _introduce(element: Element) -> None:
    """Head this start's part of the log, and note that Python got as far as this."""
    mask = len(os.sched_getaffinity(0))
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"=== {element.name}: job {element.job}, start {element.restart + 1}, rank {element.rank} of {element.ranks} "
          f"on {element.host}, {now}, {mask} cores, code {Path(__file__).parents[1]}")  # fmt: skip
    if mask < element.cpus:
        print(f"warning: this task was given {mask} of the {element.cpus} cores that it asked for: either the node is "
              "shared out so, or a CPU mask was inherited from the shell that submitted")  # fmt: skip
    if element.rank == 0:
        logs = {path.name: path.stat().st_size for path in element.folder.glob(f"{element.job}_*log*")}
        write_json(start_path(element.folder, element.index),
                   {"restart": element.restart, "host": element.host, "time": time.time(), "logs": logs})  # fmt: skip


def _prepare(element: Element) -> None:
    """The environment that a target may count on; what the user has set stays."""
    # Who has set the one means both: torch takes the larger of the two.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, min(element.cpus, len(os.sched_getaffinity(0)))))
    caches = _caches(element)
    for name, value in (
        ("OMP_NUM_THREADS", threads),
        ("MKL_NUM_THREADS", threads),
        *short_waits(os.environ).items(),
        # On a shared folder, a stale handle in such a cache takes down one rank and hangs the others.
        ("TRITON_CACHE_DIR", str(caches / "triton")),
        ("TORCHINDUCTOR_CACHE_DIR", str(caches / "inductor")),
    ):
        os.environ.setdefault(name, value)
    os.environ.pop("JOB_PREVIOUS_END", None)
    previous = element.previous()
    if previous is not None and previous.restart == element.restart - 1 and previous.cause:
        os.environ["JOB_PREVIOUS_END"] = previous.cause


def _refuse_bad_nodes(element: Element) -> None:
    """Raise ``BadNodeError`` on a marked node; rank 0 answers for all nodes of the job."""
    marks = read_bad_nodes(element.folder.parent)
    hosts = {element.host}
    nodes = os.environ.get("SLURM_JOB_NODELIST", "")
    if marks and element.rank == 0 and nodes not in ("", element.host):
        words = ["scontrol", "show", "hostnames", nodes]  # expands the list itself, without asking slurmctld
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            hosts |= set(subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.split())
    for host in sorted(hosts & marks.keys()):
        raise BadNodeError(f"node {host} was marked as bad: {marks[host]}")


def _conclude(element: Element, error: BaseException | None) -> int:
    """Note how this start ended, requeue the element if it is to begin again; the exit status of this task."""
    if error is None:
        if element.rank == 0:
            note(element, element.end("done"))
        return 0
    cause, again = str(getattr(error, "cause", "") or ""), getattr(error, "again", False) is True
    in_vain = IN_VAIN.get(type(error), "")
    if cause == "node" and not in_vain:
        with contextlib.suppress(OSError):
            mark_bad_node(element.folder.parent, element.host, describe(error))
    own = element.end("stopped" if again else "failed", cause, describe(error), again=again)
    if element.rank > 0:
        note(element, own)
        if again and (in_vain or cause in SHARED):
            _await_rank_0(element)
        return 1
    if element.ranks > 1:
        own = first_cause(element, own)
    conclude(element, own, in_vain=in_vain)
    return 1


def _await_rank_0(element: Element) -> None:
    """Let rank 0 save and requeue: the end of this process would have srun end them all."""
    deadline = time.monotonic() + RANK_SECONDS
    while time.monotonic() < deadline:
        end = read_end(element.folder, element.index)
        if end is not None and end.restart == element.restart and (end.requeued or end.state != "stopped"):
            return
        time.sleep(1.0)


def _caches(element: Element) -> Path:
    return Path(os.environ.get("SLURM_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / f"caches-of-job-{element.job}"


def _remove_caches(element: Element) -> None:
    if os.environ.get("SLURM_LOCALID", "0") == "0":
        shutil.rmtree(_caches(element), ignore_errors=True)


def _leave(code: int) -> NoReturn:
    """End this process with an exit status, even if threads that wait for a dead rank keep the interpreter."""
    watchdog = threading.Timer(LEAVE_SECONDS, os._exit, (code,))
    watchdog.daemon = True
    watchdog.start()
    sys.exit(code)

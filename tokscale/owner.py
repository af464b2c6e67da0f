"""Who a process is, told apart from every other that may have its number: on any machine, boot, or in any container."""

from __future__ import annotations

import functools
import os
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

LEASE = 300.0  # seconds without a heartbeat after which an owner elsewhere counts as dead
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # the number is fixed in the kernel: processes of no container


@dataclass(frozen=True)
class Owner:
    """The process behind a claim; ``start``, in the kernel's ticks, and the next three are empty where unknown.

    ``job`` is the SLURM job's id on ``cluster``, empty outside of one; ``restart`` counts how often it was requeued.
    """

    attempt: int
    host: str
    pid: int
    start: str = ""
    boot: str = ""
    machine: str = ""
    pid_namespace: str = ""
    token: str = ""
    when: str = ""
    lease: float = LEASE
    job: str = ""
    restart: int = 0
    cluster: str = ""

    def __str__(self) -> str:
        if not self.pid:
            return "an unknown process"
        of_job = f" (job {self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{of_job} since {self.when}"


def this_process(attempt: int, lease: float = LEASE) -> Owner:
    """This process as the owner of an attempt."""
    boot, machine, pid_namespace = _surroundings()
    return Owner(
        attempt=attempt,
        host=socket.gethostname(),
        pid=os.getpid(),
        start=_process_start(os.getpid()) or "",
        boot=boot,
        machine=machine,
        pid_namespace=pid_namespace,
        token=uuid.uuid4().hex,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        lease=lease,
        job=os.environ.get("SLURM_JOB_ID", ""),
        restart=_restarts(),
        cluster=os.environ.get("SLURM_CLUSTER_NAME", ""),
    )


def is_gone(owner: Owner) -> bool:
    """Whether a process is certainly no more; False also where this process cannot know."""
    here = this_process(owner.attempt)
    if owner.job and (owner.job, owner.cluster) == (here.job, here.cluster) and owner.restart < here.restart:
        return True  # SLURM ends a job, on all its nodes, before it starts it again
    if not (here.boot and here.pid_namespace) or (owner.host, owner.pid_namespace) != (here.host, here.pid_namespace):
        return False
    if owner.boot != here.boot:
        # This machine has started anew since. In a container, or without an id, the host's name alone proves nothing.
        return owner.machine == here.machine != "" and here.pid_namespace == INITIAL_PID_NAMESPACE
    # Containers can share a host's name and its boot: only within one pid namespace does a number mean a process.
    start = _process_start(owner.pid)
    return start != owner.start if start is not None else not _exists(owner.pid)


def _restarts() -> int:
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(count) if count.isdecimal() else 0


@functools.cache
def _surroundings() -> tuple[str, str, str]:
    """Boot, machine and pid namespace of this process; empty where the system has none."""

    def read(path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except OSError:
            return ""

    try:
        pid_namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        pid_namespace = ""
    return read("/proc/sys/kernel/random/boot_id"), read("/etc/machine-id"), pid_namespace


def _process_start(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None where that cannot be read, empty when it has ended."""
    try:
        # The second field is the program's name in parentheses, and may hold anything, spaces and parentheses too.
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return "" if values[0] in ("Z", "X") else values[19]


def _exists(pid: int) -> bool:
    """Whether there is such a process; /proc may hide those of other people."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True

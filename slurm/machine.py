"""What this machine lets us use and see: cores, memory, GPUs, processes, in a container or a SLURM job too."""

from __future__ import annotations

import os
import socket
from pathlib import Path

ROOT = Path("/")


def default_workers(memory_per_worker_gb: float, cores_per_worker: int = 1) -> int:
    """How many workers fit into the cores and the free memory of this machine; at least one."""
    by_memory = int(memory_gb() / memory_per_worker_gb)
    return max(1, min(cores() // cores_per_worker, by_memory))


def cores(root: Path = ROOT) -> int:
    """Cores that this process may use: its CPU mask and the CPU quota of its control groups; at least one."""
    masked = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [float(masked)]
    for folder in _groups(root, "cpu"):
        quota, period = _words(folder / "cpu.max", 2) or (
            *_words(folder / "cpu.cfs_quota_us", 1),
            *_words(folder / "cpu.cfs_period_us", 1),
        ) or ("max", "max")  # fmt: skip
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return max(1, int(min(quotas)))


def memory_gb(root: Path = ROOT) -> float:
    """Memory that new processes may take (GB of 2^30 bytes): what is free, and the limits of the control groups."""
    limits = [_free_memory(root)]
    for folder in _groups(root, "memory"):
        words = _words(folder / "memory.max", 1) or _words(folder / "memory.limit_in_bytes", 1)
        if words and words[0].isdigit():
            limits.append(int(words[0]))
    return min(limits) / 2**30


def visible_gpus(root: Path = ROOT) -> tuple[str, ...]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them, found without loading CUDA."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
    devices = [path.name.removeprefix("nvidia") for path in (root / "dev").glob("nvidia[0-9]*")]
    return tuple(sorted(devices, key=int))


def process_space(root: Path = ROOT) -> str:
    """Where a process id means a process: host, boot and pid namespace; empty where that cannot be told.

    Hosts may share a name, and the first pid namespace has the same number on all of them; no two boots are alike.
    """
    boot = _text(root / "proc/sys/kernel/random/boot_id").strip()
    try:
        space = os.readlink(root / "proc/self/ns/pid")
    except OSError:
        return ""
    return f"{socket.gethostname()} {boot} {space}" if boot else ""


def _groups(root: Path, controller: str) -> list[Path]:
    """Folders of the control groups above this process, version 2 or 1; a limit may be set at any level."""
    folders: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        below = Path(path.lstrip("/"))
        # In a container the path is the host's, and the group's own files are at the mount itself.
        folders += [mount / part for part in (below, *below.parents)]
    return folders


def _free_memory(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _words(path: Path, count: int) -> tuple[str, ...]:
    words = _text(path).split()
    return tuple(words) if len(words) == count else ()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

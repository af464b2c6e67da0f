"""Where and with what a stage ran: versions, commit, host, device, seconds and peak memory, over all its attempts."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import socket
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

import tokscale
from tokscale.errors import StoreError
from tokscale.record import write_atomically
from tokscale.stage import StageFolder
from tokscale.stages.attempts import beginning
from tokscale.stages.context import Context, Measures

_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "scipy", "pillow")


class Meter:
    """Times one attempt and keeps it in the attempt's folder, also when the attempt fails; adds up all attempts.

    Each of ``ranks`` processes has a GPU, where there are any, for the whole attempt: those that leave when training is
    over leave theirs idle.
    """

    def __init__(self, folder: StageFolder, attempt: int, ranks: int = 1) -> None:
        self.folder, self.attempt, self.ranks = folder, attempt, ranks

    def __enter__(self) -> Meter:
        self._started = time.time()
        self._clock = time.monotonic()
        _reset_peak_memory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = {
            "started": self._started,
            "wall_seconds": time.monotonic() - self._clock,
            "gpus": self.ranks if torch.cuda.is_available() else 0,
            "peak_memory_bytes": _peak_memory(),
            "host": socket.gethostname(),
        }
        # A full disk may be why the attempt failed: its own message must not be hidden behind this one.
        with contextlib.suppress(StoreError) if error is not None else contextlib.nullcontext():
            write_atomically(self.folder.attempt(self.attempt) / "spent.json", json.dumps(spent, indent=1).encode())

    def measures(self) -> Measures:
        """Wall and GPU seconds over all attempts whose cost is known."""
        spent = self._all()
        return {
            "wall_seconds": round(sum(item["wall_seconds"] for item in spent), 3),
            "gpu_seconds": round(sum(item["wall_seconds"] * item["gpus"] for item in spent), 3),
        }

    def provenance(self, context: Context) -> dict[str, Any]:
        """Everything a reader needs to judge a number: what made it, where, when, and in how many attempts."""
        spent = self._all()
        return {
            "versions": versions(),
            "git_commit": git_commit(),
            "host": socket.gethostname(),
            "device": _device_name(context.device),
            "threads": torch.get_num_threads(),
            "seed": context.config.get("seed"),
            "started": spent[0]["started"],
            "finished": time.time(),
            "attempts": self.attempt,
            "peak_memory_bytes": max(item["peak_memory_bytes"] for item in spent),
            "world_size": self.ranks,
            "micro_batch": beginning(self.folder, self.attempt)[1],
            "job": os.environ.get("SLURM_JOB_ID"),
            "nodes": os.environ.get("SLURM_JOB_NODELIST"),
        }

    def _all(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.path.glob("attempts/*/spent.json"))]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of tokscale, Python and the packages that numbers depend on."""
    found = {"tokscale": tokscale.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout that this code runs from, or was copied from, with ``-dirty`` when it was edited.

    A copy made for a job says so in ``snapshot.json`` beside the packages; None where nothing is known.
    """
    root = Path(tokscale.__file__).parent.parent
    if not (root / ".git").exists():
        return _commit_of_snapshot(root)
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _commit_of_snapshot(root: Path) -> str | None:
    try:
        described = json.loads((root / "snapshot.json").read_bytes())
        git = described.get("git") or described
        return f"{git['commit']}-dirty" if git.get("dirty") else git["commit"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):  # Linux; platform.processor() is empty on Debian
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # Linux: 5 resets the high-water mark, so that a warm worker's past is not ours
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """Peak memory in bytes: of the GPU where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

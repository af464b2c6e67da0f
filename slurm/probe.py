"""What the check of a cluster runs on a node: it writes down what it sees, and waits to be told to stop."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slurm.hearing import WARNING
from slurm.notes import write_json

STARTED, SURROUNDINGS, SIGNAL, STARTED_AGAIN = "started.json", "surroundings.json", "signal.json", "again.json"


class ToldToStop(Exception):
    """The signal arrived: begin again, as a job does that is preempted or runs out of time."""

    again = True


def probe(folder: str, modules: Sequence[str], requeue: bool, seconds: float) -> None:
    """Leave what is seen of this node in a shared folder, wait for the warning of its end, begin again if asked."""
    place, host = Path(folder), os.environ.get("SLURMD_NODENAME", "")
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        write_json(place / STARTED_AGAIN, {"host": host, **clocks(place)})
        return
    heard: list[int] = []
    signal.signal(WARNING, lambda number, frame: heard.append(number))
    write_json(place / STARTED, {"host": host, **clocks(place)})
    write_json(place / SURROUNDINGS, {"modules": {name: look_at(name) for name in modules}, "gpus": gpus()})
    deadline = time.monotonic() + seconds
    while not heard and time.monotonic() < deadline:
        time.sleep(0.1)
    if heard:
        write_json(place / SIGNAL, {"time": time.time()})
        if requeue:
            raise ToldToStop("the check sent its signal")


def clocks(folder: Path) -> dict[str, float]:
    """This machine's time and, of the same moment, that of the folder's file system (seconds since the epoch)."""
    path = folder / f".clock-{os.getpid()}-{time.time_ns()}"
    before = time.time()
    path.write_bytes(b"now")
    after = time.time()
    file_system = path.stat().st_mtime
    path.unlink()
    return {"time": (before + after) / 2, "file_system": file_system}


def look_at(module: str) -> dict[str, str]:
    """Version and place of a module as it is imported here, or the error that this raises."""
    try:
        found = importlib.import_module(module)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"version": version_of(module), "file": str(getattr(found, "__file__", "") or "")}


def version_of(module: str) -> str:
    """The installed version of a module, without importing it; empty when nothing of that name is installed."""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return ""


def gpus() -> dict[str, Any]:
    """The GPUs that SLURM gave, by their environment variable, and those that torch sees, if it was imported."""
    seen: dict[str, Any] = {"given": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
    torch = sys.modules.get("torch")
    if torch is not None:
        seen |= {"torch": torch.__version__, "cuda": torch.version.cuda, "count": torch.cuda.device_count()}
        seen["names"] = [torch.cuda.get_device_name(number) for number in range(seen["count"])]
    return seen

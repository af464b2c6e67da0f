"""What jobs of these tests do when the fault is about jobs and not about training: count, fail, eat memory.

``count`` is a stage in small: it goes on from its last step, saves when it is asked to stop, and says that it is done
by making a file that must not exist yet, so that work done twice shows.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(Exception):
    """Asked to stop; what was done is saved."""

    again = True


class Unlucky(Exception):
    """An error that trying again does not mend."""

    cause = "code"


def count(folder: str, name: str, steps: int, pause: float = 0.0) -> None:
    """Count to ``steps`` with a pause after each, from where an earlier attempt stopped."""
    asked: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, frame: asked.append(number))
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    saved, done = place / f"{name}.step", place / f"{name}.done"
    begin = int(saved.read_text()) if saved.exists() else 0
    node, restart = os.environ.get("SLURMD_NODENAME", socket.gethostname()), os.environ.get("SLURM_RESTART_COUNT", "0")
    with open(place / f"{name}.attempts", "a") as file:
        file.write(f"{node} {restart} {begin}\n")
    print("begins at", begin, "after", os.environ.get("JOB_PREVIOUS_END", "nothing"), flush=True)
    for step in range(begin, steps):
        time.sleep(pause)
        temporary = place / f".{name}.{os.getpid()}"
        temporary.write_text(str(step + 1))
        temporary.replace(saved)
        if asked and step + 1 < steps:
            raise Stopped(f"stopped by {signal.Signals(asked[0]).name} at step {step + 1}")
    try:
        with open(done, "x") as file:
            file.write(node)
    except FileExistsError:
        (place / f"{name}.twice").touch()


def need(folder: str, name: str, parents: list[str]) -> None:
    """As a count of one that refuses to begin before its parents are done."""
    missing = [parent for parent in parents if not (Path(folder) / f"{parent}.done").exists()]
    if missing:
        (Path(folder) / f"{name}.early").write_text(" ".join(missing))
        raise Unlucky(f"{name} began before {missing}")
    count(folder, name, 1)


def fail(message: str) -> None:
    """An error of the code."""
    raise Unlucky(message)


def eat(megabytes: int, seconds: float = 30.0) -> None:
    """Take real memory, page by page, and hold it."""
    held = bytearray(megabytes << 20)
    for page in range(0, len(held), 4096):
        held[page] = 1
    print("holds", megabytes, "MB", flush=True)
    time.sleep(seconds)


def leave(code: int) -> None:
    """End the process at once, without a word to anybody."""
    sys.stdout.flush()
    os._exit(code)

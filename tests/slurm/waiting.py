"""Waiting for jobs and processes, and reading what they left behind."""

import time
from pathlib import Path

PATIENCE = 60.0  # seconds; reached only by a failure


def finish(executor):
    """Statuses once nothing is left to run."""
    deadline = time.monotonic() + PATIENCE
    while True:
        executor.wait(deadline - time.monotonic())
        statuses = executor.poll()
        if all(status.state.final for status in statuses.values()):
            return statuses
        assert time.monotonic() < deadline, statuses


def eventually(condition):
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def lines(path):
    return path.read_text().split("\n")[:-1] if path.exists() else []


def runs(pid):
    """Whether a process still executes; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False

"""Processes that want one claim, and claims that others left."""

import json
import os
import time
from dataclasses import asdict, replace

from tokscale.owner import this_process

PATIENCE = 60.0


HOUR = 3600.0


# Says what it got, and holds it until its standard input closes.
CONTENDER = """
import sys
from pathlib import Path
from tokscale.claim import claim
for line in sys.stdin:
    got = claim(Path(line.strip()))
    print(got.attempt if got else 0, flush=True)
"""


def race(processes, folder):
    """All try at once; what each got."""
    for process in processes:
        process.stdin.write(f"{folder}\n")
    for process in processes:
        process.stdin.flush()
    return [int(process.stdout.readline()) for process in processes]


def expect_eventually(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def publish(folder, attempt=1, age=0.0, **fields):
    """Leave a claim as another process would have."""
    path = folder / "claim" / f"{attempt:04}"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = replace(this_process(attempt), token="another", **fields)
    path.write_text(json.dumps(asdict(owner)))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return owner

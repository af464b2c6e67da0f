"""What the local executor costs per job: trivial jobs through warm workers, beside one new interpreter per job.

    python benchmarks/local_dispatch.py

The ratio is what to read; both columns come from one run on one machine. Target: under 20 ms per job in a warm worker.

    2026-11-21, x86_64 (Intel Xeon), 2 cores, Python 3.11.7
                                        ms per job   ratio
    a new interpreter per job                12.95    1.00
    1 warm worker                             0.31    0.02
    2 warm workers                            0.29    0.02
    1 warm worker, torch imported             0.33    0.03
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slurm import Job, LocalExecutor
from slurm.machine import cores

JOBS = 500
INTERPRETERS = 30


def main() -> None:
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {cores()} cores, Python {platform.python_version()}")
    new = milliseconds_per_interpreter()
    print(f"{'':34}{'ms per job':>12}{'ratio':>8}")
    print(f"{'a new interpreter per job':34}{new:12.2f}{1:8.2f}")
    for label, workers, preload in [
        ("1 warm worker", 1, ()),
        ("2 warm workers", 2, ()),
        ("1 warm worker, torch imported", 1, ("torch",)),
    ]:
        warm = milliseconds_per_job(workers, preload)
        print(f"{label:34}{warm:12.2f}{warm / new:8.2f}")


def milliseconds_per_job(workers: int, preload: tuple[str, ...]) -> float:
    """Submission to last status of jobs that do nothing, log file and status included; workers already warm."""
    with tempfile.TemporaryDirectory() as folder, LocalExecutor(workers, preload=preload) as executor:
        run(executor, folder, "warm-up", 10 * workers)
        start = time.perf_counter()
        run(executor, folder, "measured", JOBS)
        return 1000 * (time.perf_counter() - start) / JOBS


def run(executor: LocalExecutor, folder: str, name: str, count: int) -> None:
    """Run jobs that do nothing, and check that each was done."""
    logs = Path(folder) / name
    keys = [f"{name} {i}" for i in range(count)]
    executor.submit([Job(key=key, name=key, target="os:getpid", log=logs / f"{key}.log") for key in keys])
    while executor.wait():
        pass
    statuses = executor.poll()
    assert all(statuses[key].state == "done" for key in keys)


def milliseconds_per_interpreter() -> float:
    start = time.perf_counter()
    for _ in range(INTERPRETERS):
        subprocess.run([sys.executable, "-c", "import os; os.getpid()"], check=True, env=dict(os.environ))
    return 1000 * (time.perf_counter() - start) / INTERPRETERS


if __name__ == "__main__":
    main()

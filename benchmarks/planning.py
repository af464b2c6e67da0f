"""How long a plan of 10,000 trials takes, and what of it is the interpreter and its imports.

python benchmarks/planning.py
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

SPEC = """\
name: planning
grid:
  tokenizer.bottleneck.channels: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
  tokenizer.patch: [4, 8, 16, 32]
  tokenizer.encoder: [S, B, L, tiny, mini]
  tokenizer.decoder: [S, B, L, tiny, mini]
  training.lr: [1e-4, 2e-4]
  seed: [0, 1, 2, 3, 4]
"""
ROUNDS = 5


def seconds(*words: str) -> float:
    """Median wall seconds of a command over a few rounds."""
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def main() -> None:
    """Print a table of medians, with date and hardware."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "planning.yaml"
        spec.write_text(SPEC)
        runs = str(Path(folder) / "runs")
        rows = {
            "bare interpreter": seconds("-c", "pass"),
            "tokscale --help": seconds("-m", "tokscale.front", "--help"),
            "tokscale plan, 10,000 trials": seconds("-m", "tokscale.front", "plan", str(spec), "--runs", runs),
        }
    print(
        f"{date.today()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}"
    )
    for name, value in rows.items():
        print(f"{name:32} {value:6.2f} s")


if __name__ == "__main__":
    main()

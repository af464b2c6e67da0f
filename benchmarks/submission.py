"""What it takes to submit 200 trials (1,000 stages) to a real SLURM, submit them again, look at them and cancel them.

python benchmarks/submission.py      (as root, with the packages that `make slurm` installs)

The cluster is one of four nodes on this machine; its partition is down, so that nothing starts meanwhile. The ratio is
to the bare sbatch calls: one for each array, of a script that does nothing.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from tests.cluster.lab import Lab

SPEC = """\
name: thousand
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: pico, decoder: pico, patch: 4}
  probe: {size: pico}
grid:
  tokenizer.bottleneck.channels: [1, 2, 4, 8, 16]
  seed: SEEDS
"""
CLUSTERS = "lab: {partition: main, gpus_per_node: 2, gpu_memory_gb: 16, max_minutes: 60}\n"
ARRAYS = 5


def seconds(folder: Path, environment: Mapping[str, str], *words: str) -> float:
    """Wall seconds of one command."""
    start = time.perf_counter()
    subprocess.run(words, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print a table with date and hardware."""
    with tempfile.TemporaryDirectory(prefix="b") as name:
        folder = Path(name)
        folder.chmod(0o755)  # MUNGE's socket must be within everybody's reach
        (folder / "spec.yaml").write_text(SPEC.replace("SEEDS", str(list(range(40)))))
        (folder / "clusters.yaml").write_text(CLUSTERS)
        lab = Lab.start(folder / "lab")
        try:
            environment = {**lab.environment, "PYTHONPATH": str(Path(__file__).parents[1])}
            lab.ask("scontrol", "update", "partition=main", "state=down")
            front = (sys.executable, "-m", "tokscale.front")
            bare = sum(
                seconds(folder, environment, "sbatch", "--array=0-199", "--wrap=true", "-o", "/dev/null")
                for _ in range(ARRAYS)
            )
            commands = {
                "tokscale submit, 1,000 stages": ("submit", "spec.yaml", "--cluster", "lab"),
                "tokscale submit, once more": ("submit", "spec.yaml", "--cluster", "lab"),
                "tokscale status": ("status", "thousand"),
                "tokscale cancel": ("cancel", "thousand"),
            }
            rows = {f"bare sbatch, {ARRAYS} arrays of 200": bare}
            rows |= {what: seconds(folder, environment, *front, *words) for what, words in commands.items()}
        finally:
            lab.stop()
    print(
        f"{date.today()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}"
    )
    for what, spent in rows.items():
        print(f"{what:36} {spent:6.2f} s  {spent / bare:8.1f} x bare sbatch")


if __name__ == "__main__":
    main()

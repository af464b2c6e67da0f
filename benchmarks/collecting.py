"""How long status and results of a sweep of 10,000 finished stages take, and what one more record adds.

    python benchmarks/collecting.py [--trials 2500]

The store is made of real descriptions and records, written by the project's own writers; nothing is trained. Beside the
commands stands their floor: an interpreter with its imports, and reading or looking at every record, in one process and
in order. Each row has processor seconds and wall seconds: on a busy machine the former are what compares.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas  # noqa: F401 (what a row takes beyond its import is asked)

from sweeps.evidence import KEPT_NAME, evidence
from sweeps.inspection import open_sweep
from sweeps.planning import Plan, make_plan
from sweeps.results import collect
from sweeps.store import Store
from tokscale.record import Record, write_record

SPEC = """\
name: collecting
trial:
  data: {{kind: procedural, validation_images: 64}}
  linear_probe: {{}}
grid:
  tokenizer.bottleneck.channels: [2, 4, 8, 16, 32]
  tokenizer.encoder: [nano, micro]
  seed: [{seeds}]
"""
MEASURES: dict[str, dict[str, float | int | str]] = {
    "tokenizer": {"train_images": 1000, "wall_seconds": 10.0, "gpu_seconds": 0.0},
    "reconstruction": {"mse": 0.01, "psnr": 20.0, "ssim": 0.7, "rfd": 1.0, "features": "random-conv"},
    "latents": {"wall_seconds": 1.0},
    "probe": {"ar_loss": 1.5, "ar_bits_per_image": 138.5, "probe_params": 100_000, "wall_seconds": 9.0},
    "generation": {"gfd": 3.0, "precision": 0.5, "recall": 0.4, "features": "random-conv", "cfg_scale": 1.0},
    "linear_probe": {"ar_linear_accuracy": 0.5, "tokenizer_linear_accuracy": 0.4},
}


def fill(plan: Plan, store: Store) -> list[Path]:
    """Finish every stage of a plan on paper; returns the records."""
    store.prepare_all(plan.stages.values())
    store.write_sweep(plan.spec.name, (store.root.parent / "sweep.yaml").read_text(), [])
    versions = {
        "versions": {"torch": "2.13.0", "tokscale": "0.2.0"},
        "git_commit": "0" * 40,
        "host": "node",
        "threads": 1,
    }
    paths = []
    for stage in plan.stages.values():
        record = Record(stage.kind, stage.id, dict(stage.config), dict(stage.parents), MEASURES[stage.kind],
                        provenance=versions)  # fmt: skip
        paths.append(write_record(store.folder(stage).path, record))
    return paths


def command(*words: str) -> tuple[float, float]:
    """Processor and wall seconds of a Python command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def here(work: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall seconds of work in this process."""
    start = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def measured(spec: Path, runs: Path) -> dict[str, tuple[float, float]]:
    """All rows of the table."""
    store = Store(runs)
    plan = make_plan(spec, store)
    paths = fill(plan, store)
    time.sleep(3)  # a record that was written just now is not kept
    of_sweep, front = [str(spec), "--runs", str(runs)], ["-m", "tokscale.front"]
    results = [*front, "results", *of_sweep, "-o", str(spec.with_name("table.parquet"))]
    stages = list(plan.stages.values())
    rows = {
        "the interpreter": command("-c", "pass"),
        "import pandas": command("-c", "import pandas"),
        "import the sweep's own modules": command("-c", "import sweeps.inspection, sweeps.results"),
        f"times of {len(paths):,} records": here(lambda: [path.stat() for path in paths]),
        f"bytes of {len(paths):,} records": here(lambda: [path.read_bytes() for path in paths]),
        "tokscale --help": command(*front, "--help"),
        "tokscale plan": command(*front, "plan", *of_sweep),
        "tokscale status": command(*front, "status", *of_sweep),
        "reading the records, first time": here(lambda: evidence(store, plan.spec.name, stages)),
        "reading the records, nothing new": here(lambda: evidence(store, plan.spec.name, stages)),
    }
    (store.sweep(plan.spec.name) / KEPT_NAME).unlink()
    rows["tokscale results, first time"] = command(*results)
    rows["tokscale results, nothing new"] = command(*results)
    rows["the same in a process with its imports"] = here(lambda: collect(*open_sweep(str(spec), runs)))
    paths[-1].write_bytes(paths[-1].read_bytes())
    rows["reading the records, one is new"] = here(lambda: evidence(store, plan.spec.name, stages))
    rows["tokscale results, one record is new"] = command(*results)
    return rows


def main() -> None:
    """Print a table with date and hardware."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1700, help="rounded to a multiple of ten; six stages each")
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "sweep.yaml"
        spec.write_text(SPEC.format(seeds=", ".join(map(str, range(trials // 10)))))
        rows = measured(spec, Path(folder) / "runs")
    cores = len(os.sched_getaffinity(0))
    print(f"{date.today()}, {platform.machine()}, {cores} cores, Python {sys.version.split()[0]}")
    print(f"{'':40} processor    wall")
    for name, (processor, wall) in rows.items():
        print(f"{name:40}  {processor:6.2f} s {wall:6.2f} s")


if __name__ == "__main__":
    main()

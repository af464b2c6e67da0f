"""How long status and results of a sweep of 10,000 finished stages take, and what one more record adds.

    python benchmarks/collecting.py [--trials 2500]

The store is made of real descriptions and records, written by the project's own writers; nothing is trained. Beside the
commands stands their floor: reading the bytes of every record, in one process and in order.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from sweeps.planning import Plan, make_plan
from sweeps.store import Store
from tokscale.record import RECORD_NAME, Record, write_record

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


def seconds(*words: str) -> float:
    """Wall seconds of a command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tokscale.front", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def read_all(paths: list[Path]) -> float:
    """Wall seconds of reading every record's bytes."""
    start = time.perf_counter()
    for path in paths:
        path.read_bytes()
    return time.perf_counter() - start


def main() -> None:
    """Print a table with date and hardware."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1700, help="rounded to a multiple of ten; six stages each")
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        spec, runs = Path(folder) / "sweep.yaml", str(Path(folder) / "runs")
        spec.write_text(SPEC.format(seeds=", ".join(map(str, range(trials // 10)))))
        store = Store(Path(runs))
        plan = make_plan(spec, store)
        paths = fill(plan, store)
        table = str(Path(folder) / "table.parquet")
        rows = {
            f"bytes of {len(paths):,} records": read_all(paths),
            "tokscale --help": seconds("--help"),
            "tokscale status": seconds("status", str(spec), "--runs", runs),
            "tokscale results, first time": seconds("results", str(spec), "--runs", runs, "-o", table),
            "tokscale results, nothing new": seconds("results", str(spec), "--runs", runs, "-o", table),
        }
        newest = paths[-1]
        assert newest.name == RECORD_NAME
        newest.write_bytes(newest.read_bytes())
        rows["tokscale results, one record is new"] = seconds("results", str(spec), "--runs", runs, "-o", table)
    cores = len(os.sched_getaffinity(0))
    print(f"{date.today()}, {platform.machine()}, {cores} cores, Python {sys.version.split()[0]}")
    for name, value in rows.items():
        print(f"{name:40} {value:6.2f} s")


if __name__ == "__main__":
    main()

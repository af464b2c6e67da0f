"""``tokscale run`` as a person runs it: whole processes, killed at random, and never a stage lost or doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

# One worker runs them all: they share a finished sweep that takes its time.
pytestmark = pytest.mark.xdist_group("run")

TOKSCALE = [sys.executable, "-m", "tokscale.front"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKSCALE_RUNS": ""}


def start(*words, runs):
    return subprocess.Popen(
        [*TOKSCALE, *map(str, words), "--runs", str(runs)], env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(*words, runs, expected=0):
    process = start(*words, runs=runs)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == expected, output
    return output


def measures(runs, name="small"):
    table = pd.read_parquet(runs / "sweeps" / name / "results.parquet")
    return table.drop(columns=["gpu_seconds", "wall_seconds"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_spec_text):
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = folder / "small.yaml"
    spec.write_text(small_spec_text)
    runs = folder / "runs"
    return spec, runs, finish("run", spec, "--workers", 2, runs=runs)


def test_a_run_ends_with_results_and_a_report(undisturbed):
    _, runs, output = undisturbed
    assert "3 of 3 trials done" in output
    table = pd.read_parquet(runs / "sweeps" / "small" / "results.parquet")
    assert list(table["status"]) == ["done"] * 3
    assert table[["psnr", "ssim", "mse", "rfd", "ar_loss", "ar_bits_per_image", "gfd"]].notna().all(axis=None)
    for column in ("pictures", "originals", "samples"):
        assert all((runs / path).is_file() for path in table[column])
    report = runs / "sweeps" / "small" / "report" / "report.html"
    assert all(label in report.read_text() for label in table["label"])
    summary = json.loads((runs / "sweeps" / "small" / "summary.json").read_text())
    assert summary["trials"] == {"done": 3}
    assert summary["failures"] == []


def test_running_again_does_nothing_but_say_so(undisturbed):
    spec, runs, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    output = finish("run", spec, runs=runs)
    assert "all 3 trials are done" in output
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_kill_9_at_random_points_loses_and_doubles_nothing(undisturbed, tmp_path):
    spec, reference, _ = undisturbed
    runs = tmp_path / "runs"
    chance = random.Random(7)
    for _ in range(4):
        process = start("run", spec, "--workers", 2, runs=runs)
        deadline = time.monotonic() + chance.uniform(6, 16)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.communicate()
    finish("run", spec, "--workers", 2, runs=runs)
    pd.testing.assert_frame_equal(measures(runs), measures(reference))
    records = sorted(path.relative_to(runs) for path in runs.glob("stages/*/*/record.json"))
    assert records == sorted(path.relative_to(reference) for path in reference.glob("stages/*/*/record.json"))
    for path in records:
        artifacts = [json.loads((folder / path).read_text())["artifacts"] for folder in (runs, reference)]
        assert artifacts[0] == artifacts[1], path


def test_two_at_once_share_the_work(undisturbed, tmp_path):
    spec, reference, _ = undisturbed
    runs = tmp_path / "runs"
    both = [start("run", spec, "--workers", 2, runs=runs) for _ in range(2)]  # equal threads, so equal bits
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    pd.testing.assert_frame_equal(measures(runs), measures(reference))
    for path in runs.glob("stages/*/*/record.json"):
        assert json.loads(path.read_text())["provenance"]["attempts"] == 1


def test_a_killed_worker_is_a_failed_stage_and_the_rest_goes_on(undisturbed, tmp_path):
    spec, _, _ = undisturbed
    runs = tmp_path / "runs"
    process = start("run", spec, "--workers", 1, runs=runs)
    victim = None
    while victim is None and process.poll() is None:
        time.sleep(0.05)
        for claim in runs.glob("stages/tokenizer/*/claim/0001"):
            victim = json.loads(claim.read_text())["pid"]
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "2 of 3 trials done" in output
    assert "crash" in output
    status = finish("status", "small", runs=runs)
    assert "1 failed" in status
    assert "SIGKILL" in status
    assert "3 of 3 trials done" in finish("run", spec, "--workers", 2, runs=runs)


def test_ctrl_c_leaves_a_sweep_that_goes_on(undisturbed, tmp_path):
    spec, _, _ = undisturbed
    runs = tmp_path / "runs"
    process = start("run", spec, "--workers", 1, runs=runs)
    while not list(runs.glob("stages/tokenizer/*/progress.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert "goes on from here" in output
    status = json.loads(finish("status", "small", "--json", runs=runs))
    assert sum(row["interrupted"] for row in status["stages"]) == 1
    assert sum(row["failed"] for row in status["stages"]) == 0


def test_an_extended_grid_runs_only_what_is_new(undisturbed, tmp_path):
    import shutil

    spec, reference, _ = undisturbed
    runs = tmp_path / "runs"
    shutil.copytree(reference, runs)
    longer = Path(tmp_path / "longer.yaml")
    longer.write_text(spec.read_text().replace("channels: 4}", "channels: 4}\n    - {kind: kl, channels: 2}"))
    plan = json.loads(finish("plan", longer, "--json", runs=runs))
    assert [(row["new"], row["done"]) for row in plan["stages"]] == [(1, 3)] * 5
    changed = Path(tmp_path / "changed.yaml")
    changed.write_text(spec.read_text().replace("probe: {size: pico", "probe: {size: pico, mixtures: 4"))
    plan = json.loads(finish("plan", changed, "--json", runs=runs))
    assert {row["kind"]: (row["new"], row["done"]) for row in plan["stages"]} == {
        "tokenizer": (0, 3), "reconstruction": (0, 3), "latents": (0, 3), "probe": (3, 0), "generation": (3, 0),
    }  # fmt: skip

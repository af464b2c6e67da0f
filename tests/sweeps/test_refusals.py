"""What a person gets when things are wrong: one message, the right exit status, and nothing half-written."""

import os
import subprocess
import sys

import pytest


def tokscale(*words, cwd, **environment):
    return subprocess.run([sys.executable, "-m", "tokscale.front", *map(str, words)], capture_output=True, text=True,
                          cwd=cwd, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})  # fmt: skip


def assert_refused(done, status, *words):
    assert done.returncode == status, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in said, said


SPECS = {
    "unknown key": ("trial: {tokenizer: {patsh: 8}}\n", ["sweep.yaml:2", "did you mean 'patch'"]),
    "wrong type": ("trial:\n  seed: one\n", ["sweep.yaml:3", "integer"]),
    "heads do not divide": ("trial: {tokenizer: {encoder: {width: 64, depth: 1, heads: 3}}}\n", ["3 heads do not"]),
    "patch does not divide": ("trial: {data: {resolution: 36}, tokenizer: {patch: 16}}\n", ["does not divide"]),
    "empty grid": ("grid: {seed: []}\n", ["sweep.yaml:2", "no trial"]),
    "too small to measure": ("trial: {data: {resolution: 8}, tokenizer: {patch: 8}}\n", ["16"]),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("case", SPECS)
def test_a_wrong_spec_is_refused_before_anything_is_written(tmp_path, case, command):
    text, words = SPECS[case]
    (tmp_path / "sweep.yaml").write_text("name: s\n" + text)
    assert_refused(tokscale(command, "sweep.yaml", cwd=tmp_path), 2, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


SMALLEST = """\
name: s
trial:
  data: DATA
  tokenizer: {encoder: pico, decoder: pico, patch: 8}
  training: {images: 64, batch_size: 16}
  probe: null
"""
PROCEDURAL = "{kind: procedural, resolution: 16, validation_images: 20}"


def test_a_missing_data_folder_is_named(tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        SMALLEST.replace("DATA", "{kind: image_folder, root: nowhere, resolution: 16}")
    )
    assert_refused(tokscale("run", "sweep.yaml", "--workers", 1, cwd=tmp_path), 1, "nowhere", "0 of 1 trials done")
    status = tokscale("status", "s", cwd=tmp_path)
    assert "data" in status.stdout
    assert "nowhere" in status.stdout


def test_a_runs_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "sweep.yaml").write_text(SMALLEST.replace("DATA", PROCEDURAL))
    assert_refused(tokscale("run", "sweep.yaml", "--runs", "/proc/nothing", cwd=tmp_path), 1, "/proc/nothing", "--runs")


def test_a_runs_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "sweep.yaml").write_text(SMALLEST.replace("DATA", PROCEDURAL))
    (tmp_path / "runs").write_text("not a folder")
    assert_refused(tokscale("run", "sweep.yaml", cwd=tmp_path), 1, "cannot be read", "--runs")
    assert (tmp_path / "runs").read_text() == "not a folder"


LIMITED = """
import resource, sys
from tokscale import front
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # the workers inherit it: every larger file is refused
front.main(sys.argv[1:])
"""


def test_a_disk_without_room_fails_the_stage_and_a_later_run_mends_it(tmp_path):
    (tmp_path / "sweep.yaml").write_text(SMALLEST.replace("DATA", PROCEDURAL))
    words = [sys.executable, "-c", LIMITED, "run", "sweep.yaml", "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, timeout=200, env=environment)
    assert_refused(done, 1, "cannot write", "store")
    assert not list(tmp_path.glob("runs/stages/*/*/record.json"))
    left = [path.name for path in tmp_path.glob("runs/stages/*/*/**/*") if path.is_file()]
    assert not [name for name in left if name.endswith((".safetensors", ".pt"))], left
    assert "1 of 1 trials done" in tokscale("run", "sweep.yaml", "--workers", 1, cwd=tmp_path).stdout


def test_a_wrong_column_or_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("E,rFID\n1,2\n2,1\n4,0.5\n")
    assert_refused(
        tokscale("fit", "t.csv", "--x", "E", "--y", "rfid", cwd=tmp_path), 2, "t.csv", "did you mean", "E, rFID"
    )
    assert_refused(tokscale("fit", "absent.csv", "--x", "E", "--y", "rFID", cwd=tmp_path), 2, "absent.csv")
    (tmp_path / "w.csv").write_text("E,rFID\n1,high\n2,low\n")
    assert_refused(tokscale("fit", "w.csv", "--x", "E", "--y", "rFID", cwd=tmp_path), 2, "rFID")


@pytest.mark.parametrize("setting", ["data: {validation_images: 1}", "generation: {images: 3}"])
def test_what_could_not_be_measured_is_refused_before_training(tmp_path, setting):
    (tmp_path / "sweep.yaml").write_text(f"name: s\ntrial: {{{setting}}}\n")
    assert_refused(tokscale("plan", "sweep.yaml", cwd=tmp_path), 2, "greater than or equal to 4")

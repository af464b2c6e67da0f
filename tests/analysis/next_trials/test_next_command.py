"""``tokscale next`` on a real spec and a store of real records: from a start to a plan, and to a spec to submit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.next_trials.answer import hours_shown
from sweeps.grid import Trial
from sweeps.planning import make_plan
from sweeps.store import Store
from tokscale.record import Record, write_record

SPEC = """\
name: floats
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: pico, decoder: pico, patch: 8}
  probe: null
grid:
  tokenizer.bottleneck.channels: [1, 2, 4, 8, 16, 32, 64, 128]
  tokenizer.patch: [4, 8, 16]
  seed: [0, 1]
"""
TARGET = "psnr at bottleneck_floats=32k"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "floats.yaml"
    path.write_text(SPEC)
    return path


def finish(store: Store, trial: Trial, rng: np.random.Generator) -> None:
    """The records of a finished trial, whose PSNR follows a law of its bottleneck."""
    psnr = 10 + 1.5 * math.log2(trial.sizes["bottleneck_floats"]) + 0.2 * rng.standard_normal()
    for stage in trial.stages:
        measures = {"psnr": psnr} if stage.kind == "reconstruction" else {}
        store.prepare(stage)
        record = Record(stage.kind, stage.id, {}, dict(stage.parents), {**measures, "wall_seconds": 1.0})
        write_record(store.folder(stage).path, record)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tokscale.front", "next", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def run_json(*words: object) -> Any:
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_start_then_a_plan_whose_spec_holds_exactly_its_trials(spec: Path, tmp_path: Path) -> None:
    runs, rng = tmp_path / "runs", np.random.default_rng(0)
    words = (spec, "--target", TARGET, "--law", "semilog", "--runs", runs)
    first = run_json(*words, "--budget", 10)
    assert first["law"] is None
    assert len(first["trials"]) == 4
    assert "assumed" in first["hours"]
    store = Store(runs)
    asked = {trial["trial"] for trial in first["trials"]}
    for trial in make_plan(spec, store).trials:
        if trial.id in asked:
            finish(store, trial, rng)
    written = tmp_path / "next.yaml"
    budget = 0.01
    second = run_json(*words, "--budget", budget, "-o", written)
    assert second["law"] == "semilog"
    assert second["n"] == 4
    assert 0 < second["gpu_hours"] <= budget
    assert not asked & {trial["trial"] for trial in second["trials"]}
    shares = [trial["share"] for trial in second["trials"]]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.8
    assert written.read_text() == second["spec"]
    plan = make_plan(written, store)
    assert {trial.id for trial in plan.trials} == {trial["trial"] for trial in second["trials"]}
    assert len(plan.missing()) == sum(len(trial.stages) for trial in plan.trials)


@pytest.mark.parametrize(
    ("hours", "words"), [(2.7e-6, "0.0097 s"), (0.0, "0"), (0.25, "0.25"), (12.345, "12.3"), (123456.7, "123457")]
)
def test_hours_are_said_as_a_person_says_them(hours: float, words: str) -> None:
    assert hours_shown(hours) == words


def test_people_see_trials_hours_intervals_and_where_the_hours_come_from(spec: Path, tmp_path: Path) -> None:
    store, rng = Store(tmp_path / "runs"), np.random.default_rng(1)
    for trial in make_plan(spec, store).trials[:12]:
        finish(store, trial, rng)
    done = run(spec, "--target", TARGET, "--budget", 1, "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    for words in (
        TARGET.replace("32k", "32000"),
        "hours",
        "interval",
        "GPU hours are expected to narrow",
        "-o next.yaml",
    ):
        assert words in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "psnr", "--budget", "1"], "says nothing"),
        (["--target", TARGET, "--budget", "-1"], "a budget is"),
        (["--target", TARGET, "--budget", "1", "--law", "quadratik"], "did you mean 'quadratic'"),
        (["--target", "pnsr at bottleneck_floats=1", "--budget", "1"], "did you mean 'psnr'"),
        (["--target", TARGET, "--budget", "1", "--cluster", "absent"], "no such cluster"),
    ],
)
def test_wrong_words_are_one_message(spec: Path, tmp_path: Path, words: list[str], message: str) -> None:
    done = run(spec, *words, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_loads_without_the_libraries_that_it_uses() -> None:
    code = """import sys, analysis.next_command
heavy = {"numpy", "pandas", "scipy", "torch", "optuna", "rich.console", "pydantic"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr

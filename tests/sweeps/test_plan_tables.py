"""What ``tokscale plan`` shows: states and costs by kind, and on a cluster its GPUs, hours, cost and arrays."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from sweeps.plan_tables import plan_json, plan_table
from sweeps.planning import make_plan
from sweeps.resources import Allocator
from sweeps.store import Store

CLUSTERS = """\
gpus:
  gpus_per_node: 8
  gpu_memory_gb: 80
  cpus_per_gpu: 12
  max_minutes: 1440
  max_array: 2
  tflops: 100
  cost_per_gpu_hour: 2.0
"""


@pytest.fixture
def folder(tmp_path, small_spec, monkeypatch):
    (tmp_path / "clusters.yaml").write_text(CLUSTERS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tokscale(*words):
    return subprocess.run([sys.executable, "-m", "tokscale.front", *words], capture_output=True, text=True, timeout=120)


def test_without_a_cluster_there_are_states_and_work(small_spec, tmp_path):
    plan = make_plan(small_spec, Store(tmp_path / "runs"))
    console = Console(width=120, file=io.StringIO())
    console.print(plan_table(plan))
    shown = console.file.getvalue()
    assert "small: 3 trials" in shown
    assert "GPU hours" not in shown
    made = json.loads(plan_json(plan))
    assert {row["kind"]: row["new"] for row in made["stages"]} == dict.fromkeys(
        ("tokenizer", "reconstruction", "latents", "probe", "generation"), 3
    )


def test_on_a_cluster_sums_are_those_of_the_allocations_and_nothing_is_written(folder, small_spec):
    done = tokscale("plan", str(small_spec), "--cluster", "gpus", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    from slurm.profiles import load_profile

    store = Store(folder / "runs")
    plan = make_plan(small_spec, store)
    allocator = Allocator(load_profile("gpus", folder), plan, store)
    for row in made["stages"]:
        asked = [allocator.of(key) for key, stage in plan.stages.items() if stage.kind == row["kind"]]
        assert row["gpu_hours"] == pytest.approx(sum(one.gpu_hours for one in asked))
        assert row["cost"] == pytest.approx(2.0 * row["gpu_hours"])
        assert row["gpus"] == [1, 1]
    assert sum(array["elements"] for array in made["arrays"]) == len(plan.stages)
    assert max(array["elements"] for array in made["arrays"]) <= 2  # the profile's max_array
    assert not (folder / "runs").exists()


def test_the_table_on_a_cluster_has_hours_cost_and_arrays(folder, small_spec):
    done = tokscale("plan", str(small_spec), "--cluster", "gpus")
    assert done.returncode == 0, done.stderr
    for words in ("stages on gpus", "GPU hours", "cost", "arrays that a submission would make", "small.tokenizer"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_an_unknown_cluster_is_one_message(folder, small_spec):
    done = tokscale("plan", str(small_spec), "--cluster", "gpu")
    assert done.returncode == 2
    assert "did you mean 'gpus'" in done.stderr
    assert "clusters.yaml" in done.stderr

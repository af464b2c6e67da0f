"""Rounds: points are asked, within budget and constraints, and neither lost nor doubled, whoever is killed and when."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.profiles import ClusterProfile
from sweeps.planning import make_plan
from sweeps.store import Store
from tests.sweeps.search_bench import SPEC, Bench, asked, finish, judge, study
from tokscale.config import VitTokenizer
from tokscale.errors import ConfigError


@pytest.fixture
def bench(tmp_path):
    def make(text=SPEC, profile=None):
        return Bench(tmp_path, text, profile)

    return make


def test_a_grid_has_one_round(bench):
    made = bench(SPEC.partition("search:")[0] + "grid: {seed: [0, 1]}\n")
    rounds = made.rounds()
    assert len(rounds.advance({}).trials) == 2
    assert rounds.advance({}) is None
    assert not made.store.root.exists()


def test_a_search_runs_its_budget_exactly_and_shows_it(bench):
    made = bench(SPEC.replace("parallel: 1", "parallel: 3"))
    assert make_plan(made.spec, made.store).trials == ()
    assert "0 points asked, 12 to come" in make_plan(made.spec, made.store).asked
    plan = made.run(most_open=3)
    points = made.points()
    assert len(points) == len(plan.trials) == 12
    assert [point.trials for point in points] == [(trial.id,) for trial in plan.trials]
    shown = make_plan(made.spec, made.store)
    assert [trial.id for trial in shown.trials] == [trial.id for trial in plan.trials]
    assert "12 points asked, 0 to come" in shown.asked
    told = study(made.store).trials
    assert [trial.params for trial in told] == [point.params for point in points]
    assert [trial.value for trial in told] == pytest.approx([judge(trial) for trial in plan.trials])


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "grid"])
def test_an_interrupted_search_asks_the_same_points(tmp_path, sampler):
    text = SPEC.replace("parallel: 1", f"parallel: 1\n  sampler: {sampler}").replace("trials: 12", "trials: 24")
    if sampler == "grid":
        text = text.replace("{low: 1e-5, high: 1e-1, log: true}", "[1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1]")
    if sampler == "nsga2":
        text = text.replace("[psnr]", "[psnr, {measure: bottleneck_floats, direction: minimize}]")
    text += '  constraints: ["bottleneck_floats <= 128"]\n'
    found = []
    for again in (False, True):
        folder = tmp_path / str(again)
        folder.mkdir()
        made = Bench(folder, text)
        made.run(again=again)
        found.append(asked(made.points()))
    assert found[0] == found[1]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.sweeps.search_bench import Bench, SPEC
left, fsync = int(sys.argv[2]), os.fsync
def counted(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # before this write is durable
    fsync(descriptor)
os.fsync = counted
Bench(Path(sys.argv[1]), SPEC).run()
"""


def test_kill_9_at_any_write_loses_and_doubles_no_point(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    Bench(undisturbed, SPEC).run()
    killed = tmp_path / "killed"
    killed.mkdir()
    # of the seven writes or so of each point, a different one each time
    ends = []
    for left in (1, 3, 8, 14, 20, 31, 10**9):
        words = [sys.executable, "-c", KILLED, str(killed), str(left)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        ends.append(subprocess.run(words, check=False, env=environment).returncode)
        log = killed / "runs" / "sweeps" / "study" / "search.jsonl"
        if ends[-1] == -9 and left == 8 and log.exists():
            log.write_bytes(log.read_bytes() + b'{"number": 7, "par')  # what a killed writer can leave
    assert ends[-1] == 0
    assert ends.count(-9) >= 4
    assert asked(Bench(killed, SPEC).points()) == asked(Bench(undisturbed, SPEC).points())
    assert len(study(Store(killed / "runs")).trials) == 12


def test_a_small_space_is_tried_once_and_then_exhausted(bench):
    made = bench(SPEC.replace("{low: 1e-5, high: 1e-1, log: true}", "[1e-4, 1e-3]").replace("trials: 12", "trials: 50"))
    plan = made.run()
    assert len({trial.id for trial in plan.trials}) == len(plan.trials) == len(made.points()) == 8


def test_two_ways_to_write_a_trial_are_one_point(bench):
    nano = VitTokenizer.model_validate({"encoder": "nano"}).encoder
    numbers = f"{{width: {nano.width}, depth: {nano.depth}, heads: {nano.heads}}}"
    text = SPEC.replace("tokenizer.bottleneck.channels: [2, 4, 8, 16]", f"tokenizer.encoder: [nano, {numbers}, pico]")
    made = bench(text.replace("{low: 1e-5, high: 1e-1, log: true}", "[1e-3]"))
    assert len(made.run().trials) == 2


def test_trials_that_another_sweep_has_done_count_at_once(bench):
    made = bench(SPEC.replace("trials: 12", "trials: 4\n  sampler: grid").replace("{low: 1e-5, high: 1e-1, log: true}",
                                                                                 "[1e-3]"))  # fmt: skip
    other = made.spec.with_name("other.yaml")
    other.write_text(SPEC.partition("search:")[0].replace("study", "other") +
                     "grid: {training.lr: [1e-3], tokenizer.bottleneck.channels: [2, 4, 8, 16]}\n")  # fmt: skip
    for trial in make_plan(other, made.store).trials:
        finish(made.store, trial, psnr=judge(trial))
    with made.rounds() as rounds:
        plan = rounds.advance({})
        while plan is not None:
            assert not made.open_trials(plan)
            plan = rounds.advance({})
    assert [trial.state.name for trial in study(made.store).trials] == ["COMPLETE"] * 4


def test_what_breaks_a_constraint_costs_nothing_and_no_budget(bench):
    made = bench(SPEC + '  constraints: ["bottleneck_floats <= 64"]\nwhere: ["training.lr > 1e-4"]\n')
    plan = made.run()
    assert len(plan.trials) == 12
    assert all(trial.sizes["bottleneck_floats"] <= 64 and trial.config.training.lr > 1e-4 for trial in plan.trials)
    broken = [point for point in made.points() if not point.feasible]
    assert broken
    assert {trial.id for trial in plan.trials}.isdisjoint(one for point in broken for one in point.trials)
    states = [trial.state.name for trial in study(made.store).trials]
    assert states.count("COMPLETE") == 12
    assert states.count("PRUNED") == len(broken)


def test_a_space_without_a_feasible_point_is_refused_with_what_was_broken(bench):
    made = bench(SPEC.replace("parallel: 1", "sampler: random") + '  constraints: ["bottleneck_floats <= 8"]\n')
    for _ in range(2):  # again: nothing is drawn a second time
        with made.rounds() as rounds, pytest.raises(ConfigError, match="no feasible point") as refusal:
            rounds.advance({})
        assert "study.yaml:13" in str(refusal.value)
        assert "bottleneck_floats <= 8 (" in str(refusal.value)
        assert len(made.points()) <= 200
    made.spec.write_text(SPEC)  # another spec: those draws are none of its business
    assert len(made.run().trials) == 12


def test_settings_that_do_not_go_together_are_not_tried(bench):
    made = bench(SPEC.replace("tokenizer.bottleneck.channels: [2, 4, 8, 16]", "tokenizer.patch: [7, 8, 12, 16]"))
    plan = made.run()
    assert {trial.config.tokenizer.patch for trial in plan.trials} == {8, 16}
    assert len(plan.trials) == 12


A100 = ClusterProfile("a100", gpus_per_node=8, gpu_memory_gb=80, tflops=100.0)


def test_gpu_hours_are_those_of_the_plan(bench):
    text = SPEC.replace("tokenizer.bottleneck.channels: [2, 4, 8, 16]",
                        "training.images: {low: 1M, high: 4G, log: true}")  # fmt: skip
    made = bench(text + '  constraints: ["gpu_hours <= 0.05"]\n', A100)
    plan = made.run()
    assert len(plan.trials) == 12
    assert all(any(point.constraints) for point in made.points())
    largest = max(trial.config.training.images for trial in plan.trials)
    smallest = min(trial.config.training.images for trial in plan.trials)
    refused = [point.params["training.images"] for point in made.points() if not point.feasible]
    assert smallest < largest < min(refused)


def test_gpu_hours_that_nobody_knows_are_refused(bench):
    made = bench(SPEC + '  constraints: ["gpu_hours <= 0.2"]\n')
    with made.rounds() as rounds, pytest.raises(ConfigError, match="not known") as refusal:
        rounds.advance({})
    assert "study.yaml:13" in str(refusal.value)

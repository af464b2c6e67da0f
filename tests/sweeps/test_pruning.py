"""Pruning: what does worse on its way is ended, by hand here and by the local loop on worker processes."""

import json
import textwrap

import pytest
from rich.console import Console

from slurm.local import LocalExecutor
from sweeps import local, orchestration
from sweeps.store import StageState
from tests.sweeps.search_bench import SPEC, Bench, finish, study


@pytest.fixture
def bench(tmp_path):
    def make(text=SPEC, profile=None):
        return Bench(tmp_path, text, profile)

    return make


def report(store, stage, losses, total=100):
    folder = store.prepare(stage)
    lines = [json.dumps({"done": done, "total": total, "loss": loss}) + "\n" for done, loss in losses]
    folder.progress.write_text("".join(lines))


@pytest.mark.parametrize("kind", ["median", "hyperband"])
def test_a_point_that_does_worse_on_its_way_is_ended(bench, kind):
    made = bench(SPEC + f"  pruner: {{on: tokenizer, kind: {kind}, warmup: 0.1}}\n")
    with made.rounds() as rounds:
        plan = rounds.advance({})
        for _ in range(9):
            trial = plan.trials[-1]
            report(made.store, trial.stages[0], [(0, 3.0), (50, 2.0), (100, 1.0)])
            finish(made.store, trial, psnr=20.0)
            plan = rounds.advance(made.store.statuses(plan.stages.values()))
        bad = plan.trials[-1]
        report(made.store, bad.stages[0], [(0, 3.0), (4, 9.0), (9, 9.0)])
        assert rounds.to_prune(plan.statuses) == []  # within the warm-up
    with made.rounds() as rounds:  # what the pruner knows comes back
        rounds.advance({})
        report(made.store, bad.stages[0], [(0, 9.0), (40, 9.0), (50, 9.0)])
        assert [trial.id for trial in rounds.to_prune(plan.statuses)] == [bad.id]
        stages = rounds.mark_pruned([bad])
        assert [stage.key for stage in stages] == [stage.key for stage in bad.stages]
        statuses = made.store.statuses(plan.stages.values())
        assert {statuses[stage.key].state for stage in stages} == {StageState.cancelled}
        assert rounds.to_prune(statuses) == []
        assert len(rounds.advance(statuses).trials) == 11
    told = study(made.store).trials[9]
    assert told.state.name == "PRUNED"
    assert told.intermediate_values[40] == -9.0  # turned over, as the objective is maximised


ERRAND = """
import json, math, time
from pathlib import Path
from tokscale import claim
from tokscale.record import Record, write_record
from ruamel.yaml import YAML

def work(path):
    folder = Path(path)
    stage = YAML(typ="safe", pure=True).load((folder / "stage.yaml").read_text())
    with claim.claim(folder):
        measures = {}
        if stage["kind"] == "tokenizer":
            far = abs(math.log10(stage["config"]["training"]["lr"]) + 3)
            for done in range(0, 101, 5):
                with open(folder / "progress.jsonl", "a") as file:
                    file.write(json.dumps({"done": done, "total": 100, "loss": 1 + far}) + chr(10))
                time.sleep(0.02 if far < 0.7 else 0.3)  # a lost cause takes long, if nobody ends it
        else:
            tokenizer = folder.parent.parent / "tokenizer" / stage["parents"]["tokenizer"] / "stage.yaml"
            lr = YAML(typ="safe", pure=True).load(tokenizer.read_text())["config"]["training"]["lr"]
            measures = {"psnr": 30 - abs(math.log10(lr) + 3)}
        write_record(folder, Record(stage["kind"], stage["id"], stage["config"], stage["parents"], measures))
"""


def test_the_local_loop_asks_runs_and_prunes(tmp_path, monkeypatch):
    (tmp_path / "errand_search.py").write_text(textwrap.dedent(ERRAND))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local, "TARGET", "errand_search:work")
    text = SPEC.replace("trials: 12", "trials: 14\n  sampler: random").replace("parallel: 1", "parallel: 2")
    made = Bench(tmp_path, text + "  pruner: {on: tokenizer, warmup: 0.1}\n")
    with made.rounds() as rounds, LocalExecutor(2, grace_seconds=1) as executor:
        plan = rounds.advance({})
        watch = orchestration._GrowingWatch(plan, made.store, 2, Console(quiet=True))
        after = local.run_missing(plan, made.store, executor, watch, rounds)
        assert rounds.satisfied(after.statuses)
    states = [{after.statuses[stage.key].state for stage in trial.stages} for trial in after.trials]
    assert len(states) == 14
    assert {StageState.cancelled} in states
    assert all(state in ({StageState.done}, {StageState.cancelled}) for state in states)
    assert len((made.store.sweep("study") / "trials.jsonl").read_text().splitlines()) == 14
    told = [trial.state.name for trial in study(made.store).trials]
    assert told == ["COMPLETE" if state == {StageState.done} else "PRUNED" for state in states]

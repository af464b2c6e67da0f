"""A damaged store heals or says what is wrong; what is done counts only while it holds."""

import json
import textwrap

import pandas as pd
import pytest
from rich.console import Console

from slurm.local import LocalExecutor
from sweeps import local
from sweeps.orchestration import run_here
from sweeps.planning import make_plan
from sweeps.progress import Watch
from sweeps.store import StageState, Store
from tokscale.errors import StoreError
from tokscale.stages import run

TWO_TRIALS = """\
name: two
trial:
  data: {kind: procedural, resolution: 16, validation_images: 20}
  tokenizer: {encoder: pico, decoder: pico, patch: 8}
  training: {images: 64, batch_size: 16}
  probe: null
grid:
  tokenizer.bottleneck.channels: [2, 4]
"""


@pytest.fixture
def finished(tmp_path):
    """A sweep of two trials without a probe, done in this process; its spec and its store."""
    spec, store = tmp_path / "two.yaml", Store(tmp_path / "runs")
    spec.write_text(TWO_TRIALS)
    for stage in make_plan(spec, store).stages.values():
        run(str(store.prepare(stage).path))
    assert run_here(spec, store.root, 1, command="test")
    return spec, store


def first(spec, store, kind):
    plan = make_plan(spec, store)
    return next(stage for stage in plan.stages.values() if stage.kind == kind)


def test_a_changed_spec_of_the_same_name_is_not_answered_with_the_old_report(finished, capsys):
    spec, store = finished
    assert run_here(spec, store.root, 1, command="test")
    assert "all 2 trials are done" in capsys.readouterr().out
    spec.write_text(TWO_TRIALS.replace("[2, 4]", "[4]"))
    assert run_here(spec, store.root, 1, command="test")
    assert "1 of 1 trials done" in capsys.readouterr().out
    assert len(pd.read_parquet(store.sweep("two") / "results.parquet")) == 1
    assert store.sweep("two").joinpath("spec.yaml").read_text() == spec.read_text()


@pytest.mark.parametrize(
    ("name", "damage"),
    [("results.parquet", "empty"), ("summary.json", "gone"), ("report/report.html", "empty"), ("spec.yaml", "gone")],
)
def test_what_is_derived_is_made_again(finished, name, damage):
    spec, store = finished
    path = store.sweep("two") / name
    path.unlink()
    if damage == "empty":
        path.write_text("")
    assert run_here(spec, store.root, 1, command="test")
    assert path.stat().st_size > 0


@pytest.mark.parametrize("damage", ["cut", "null measures", "other config", "no weights"])
def test_a_stage_whose_record_does_not_hold_runs_again(finished, capsys, damage):
    spec, store = finished
    stage = first(spec, store, "tokenizer")
    folder = store.folder(stage)
    weights = (folder.artifacts / "tokenizer.safetensors").read_bytes()
    record = json.loads(folder.record.read_text())
    if damage == "cut":
        folder.record.write_text(folder.record.read_text()[:100])
    elif damage == "null measures":
        folder.record.write_text(json.dumps({**record, "measures": None}))
    elif damage == "other config":
        folder.record.write_text(json.dumps({**record, "config": {**record["config"], "seed": 5}}))
    else:
        (folder.artifacts / "tokenizer.safetensors").unlink()
    assert run_here(spec, store.root, 1, command="test")
    assert f"{stage.key} runs again" in capsys.readouterr().out
    assert (folder.artifacts / "tokenizer.safetensors").stat().st_size == len(weights)
    assert store.record(stage) is not None


@pytest.mark.parametrize("content", ["", "kind: [", "\x00", "- a\n", "kind: tokenizer\n"])
def test_a_damaged_description_is_named_and_then_written_anew(tmp_path, content):
    spec, store = tmp_path / "two.yaml", Store(tmp_path / "runs")
    spec.write_text(TWO_TRIALS)
    stage = first(spec, store, "tokenizer")
    folder = store.prepare(stage)
    folder.description.write_text(content)
    with pytest.raises(StoreError, match=r"description is damaged"):
        run(str(folder.path))
    store.prepare(stage)
    run(str(folder.path))
    assert store.record(stage) is not None


def test_a_description_that_was_edited_is_not_believed(tmp_path):
    spec, store = tmp_path / "two.yaml", Store(tmp_path / "runs")
    spec.write_text(TWO_TRIALS)
    folder = store.prepare(first(spec, store, "tokenizer"))
    folder.description.write_text(folder.description.read_text().replace("images: 64", "images: 32"))
    with pytest.raises(StoreError, match="of another stage"):
        run(str(folder.path))
    assert not folder.record.exists()


def test_leftovers_of_a_killed_attempt_are_no_artifacts(tmp_path):
    spec, store = tmp_path / "two.yaml", Store(tmp_path / "runs")
    spec.write_text(TWO_TRIALS)
    stage = first(spec, store, "tokenizer")
    folder = store.prepare(stage)
    folder.artifacts.mkdir()
    (folder.artifacts / ".tokenizer.safetensors.dead").write_text("half")
    (folder.artifacts / "train.mean.npy.partial").write_text("half")
    (folder.checkpoints / ".000000000000016.dead").mkdir(parents=True)
    run(str(folder.path))
    assert list(store.record(stage).artifacts) == ["tokenizer.safetensors"]
    assert [path.name for path in folder.artifacts.iterdir()] == ["tokenizer.safetensors"]


def run_with(errand, function, tmp_path, monkeypatch):
    """The plan after a run of two trials, in which a worker does the errand with every stage."""
    (tmp_path / "errand.py").write_text(textwrap.dedent(errand))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local, "TARGET", f"errand:{function}")
    spec, store = tmp_path / "two.yaml", Store(tmp_path / "runs")
    spec.write_text(TWO_TRIALS)
    plan = make_plan(spec, store)
    with LocalExecutor(1) as executor:
        return local.run_missing(plan, store, executor, Watch(plan, store, 1, Console(quiet=True)))


HOLD = """
from pathlib import Path
from tokscale import claim
from tokscale.errors import StoreError
kept = []
def hold_and_fail(path):
    kept.append(claim.claim(Path(path)))
    raise StoreError("cannot write claim: No space left on device")
"""


def test_a_failure_that_could_not_be_written_down_ends_the_run_all_the_same(tmp_path, monkeypatch):
    # on a full disk the claim cannot be released, and the worker that holds it lives on
    after = run_with(HOLD, "hold_and_fail", tmp_path, monkeypatch)
    tokenizers = [after.statuses[key] for key in after.stages if key.startswith("tokenizer/")]
    assert [status.state for status in tokenizers] == [StageState.failed] * 2
    assert all(status.cause == "store" for status in tokenizers)
    assert all("No space left" in (status.message or "") for status in tokenizers)


FASTER = """
from tokscale.errors import HeldError
from tokscale.stages import run
def somebody_was_faster(path):
    held = "/tokenizer/" in path
    run(path)
    if held:
        raise HeldError("the stage is held by another process")
"""


def test_what_waited_for_a_stage_that_another_process_finished_is_run(tmp_path, monkeypatch):
    # the stage was held when our worker asked for it, and done before its children were reported as blocked
    after = run_with(FASTER, "somebody_was_faster", tmp_path, monkeypatch)
    assert {status.state for status in after.statuses.values()} == {StageState.done}

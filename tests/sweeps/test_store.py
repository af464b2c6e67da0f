"""The store: states follow from files alone, and reading changes nothing."""

import json
import os
import subprocess
import sys

import pytest

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import StageState, Store
from tokscale import claim
from tokscale.errors import StoreError
from tokscale.record import Record, write_record


@pytest.fixture
def stage(small_spec):
    return expand(*load_spec(small_spec))[0].stages[0]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def finish(store, stage, **changes):
    fields = {"kind": stage.kind, "id": stage.id, "config": {}, "parents": {}, "measures": {}}
    write_record(store.folder(stage).path, Record(**{**fields, **changes}))


def state(store, stage):
    return store.statuses([stage])[stage.key]


def test_a_stage_nobody_began_is_new_and_costs_no_folder(store, stage):
    assert state(store, stage).state is StageState.new
    assert not store.root.exists()


def test_a_description_tells_all_and_is_written_once(store, stage):
    folder = store.prepare(stage)
    before = folder.description.stat().st_mtime_ns
    store.prepare(stage)
    assert folder.description.stat().st_mtime_ns == before
    assert state(store, stage).state is StageState.new


def test_a_live_claim_is_running_and_a_released_one_is_what_it_says(store, stage):
    folder = store.prepare(stage)
    held = claim.claim(folder.path)
    assert state(store, stage).state is StageState.running
    held.release({"state": "failed", "cause": "diverged", "message": "loss is nan"})
    found = state(store, stage)
    assert (found.state, found.cause, found.message) == (StageState.failed, "diverged", "loss is nan")
    again = claim.claim(folder.path)
    assert again.attempt == 2
    again.release({"state": "interrupted"})
    assert state(store, stage).state is StageState.interrupted


KILLED = """
import os, signal, sys
from pathlib import Path
from tokscale import claim
assert claim.claim(Path(sys.argv[1])) is not None
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_owner_leaves_an_interrupted_stage_until_its_crash_is_known(store, stage):
    folder = store.prepare(stage)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder.path)], check=False)
    assert done.returncode == -9
    assert state(store, stage).state is StageState.interrupted
    store.keep_crash(stage, 1, "ended by SIGKILL")
    found = state(store, stage)
    assert (found.state, found.cause, found.message) == (StageState.failed, "crash", "ended by SIGKILL")


def test_a_record_is_done_whatever_the_claim_says(store, stage):
    folder = store.prepare(stage)
    claim.claim(folder.path).release({"state": "failed", "cause": "code", "message": ""})
    finish(store, stage)
    assert state(store, stage).state is StageState.done
    assert store.record(stage).id == stage.id


def test_a_record_of_another_stage_is_refused(store, stage):
    store.prepare(stage)
    finish(store, stage, id="0" * 16)
    with pytest.raises(StoreError, match="another stage"):
        store.record(stage)


def test_a_sweep_keeps_its_spec_and_its_trials(store):
    folder = store.write_sweep("s", "name: s\n", [{"trial": "a"}, {"trial": "b"}])
    assert (folder / "spec.yaml").read_text() == "name: s\n"
    assert [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()] == [
        {"trial": "a"},
        {"trial": "b"},
    ]
    assert store.sweep_names() == ["s"]


def test_hidden_leftovers_of_killed_writers_are_not_sweeps(store):
    store.write_sweep("s", "", [])
    (store.root / "sweeps" / ".s.1234").mkdir()
    assert store.sweep_names() == ["s"]


def test_writability_is_tried_and_leaves_nothing(store):
    store.check_writable()
    assert os.listdir(store.root) == []

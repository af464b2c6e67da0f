"""Submission as far as it needs no cluster: what would be submitted, one submitter at a time, and what is refused."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from slurm.executor import JobState, JobStatus
from slurm.profiles import ClusterProfile
from slurm.states import Evidence, judge
from sweeps import submission_words
from sweeps.cluster import living, submitting_alone
from sweeps.description import describe
from sweeps.hints import DEFAULT_RUNS, typed
from sweeps.history import read_history, write_history
from sweeps.planning import make_plan
from sweeps.profiles import profile_of
from sweeps.store import Store
from sweeps.submission import Submission, submit
from tokscale import claim
from tokscale.errors import StoreError, UsageError
from tokscale.record import Record, write_record
from tokscale.stage import Stage, identity_of

PROFILE = ClusterProfile("lab", partition="main", memory_per_gpu_gb=8, max_minutes=60, tflops=1.0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def plan(small_spec, store):
    return make_plan(small_spec, store)


def finish(store, stage):
    write_record(store.folder(stage).path, Record(stage.kind, stage.id, dict(stage.config), dict(stage.parents), {}))


def fingerprint(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_dry_run_shows_every_array_and_changes_nothing(plan, store, tmp_path):
    finish(store, plan.trials[0].stages[0])
    before = fingerprint(tmp_path)
    made = submit(make_plan(plan.file.path, store), store, PROFILE, dry_run=True)
    assert fingerprint(tmp_path) == before
    assert made.submitted == {"tokenizer": 2, "reconstruction": 3, "latents": 3, "probe": 3, "generation": 3}
    assert made.left == {"done": 1}
    assert sum(preview.elements for preview in made.previews) == 14
    # of the trial whose tokenizer is done, the first stages wait for nothing: they are arrays of their own
    assert made.arrays == len(made.previews)
    assert Counter("--dependency" in preview.text for preview in made.previews)[False] >= 2
    text = submission_words.report(made)
    assert all(f"#SBATCH --job-name={preview.name}" in text for preview in made.previews)
    assert "would submit 14 stages to lab" in text
    assert "left as they are: 1 done" in text


def test_the_json_of_a_submission_holds_what_its_words_do(plan, store):
    made = submit(plan, store, PROFILE, dry_run=True)
    content = json.loads(submission_words.as_json(made))
    assert content["submitted"] == dict.fromkeys((stage.kind for stage in plan.trials[0].stages), 3)
    assert sum(one["elements"] for one in content["sbatch"]) == 15
    assert (content["sweep"], content["cluster"], content["remaining"]) == ("small", "lab", 0)


def test_every_job_asks_for_what_its_stage_needs_and_knows_its_folder(plan, store):
    made = submit(plan, store, PROFILE, dry_run=True)
    assert all("--partition=main" in preview.text for preview in made.previews)
    assert all(preview.resources.memory_gb == 8 for preview in made.previews)


def test_nothing_to_do_is_said(plan, store):
    for stage in plan.stages.values():
        finish(store, stage)
    made = submit(make_plan(plan.file.path, store), store, PROFILE, dry_run=True)
    assert made.submitted == {}
    assert "nothing to submit" in submission_words.report(made)


def test_a_stage_that_cannot_fit_is_refused_before_anything_is_written(plan, store):
    with pytest.raises(UsageError) as caught:
        submit(plan, store, ClusterProfile("tiny", gpus_per_node=1, gpu_memory_gb=0.0001))
    assert "does not fit" in str(caught.value)
    assert not (store.root / "stages").exists()
    assert not (store.root / "sweeps").exists()


class Room:
    f_frsize = 1
    f_bavail = 1 << 20


def test_a_full_disk_is_one_message_before_anything_is_submitted(plan, store, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: Room)
    with pytest.raises(StoreError) as caught:
        submit(plan, store, PROFILE)
    assert "no room" in str(caught.value)
    assert "1 MB free" in str(caught.value)
    assert list(store.root.iterdir()) == []


def test_a_runs_folder_that_cannot_be_made_is_named(plan, small_spec):
    with pytest.raises(StoreError) as caught:
        submit(plan, Store(small_spec / "runs"), PROFILE)
    assert str(small_spec) in str(caught.value)


HOLD = """
import sys, time
from pathlib import Path
from sweeps.store import Store
from sweeps.cluster import submitting_alone
with submitting_alone(Store(Path(sys.argv[1])), print):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(store, seconds):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(store.root), str(seconds)], stdout=subprocess.PIPE,
                               text=True)  # fmt: skip
    assert process.stdout.readline() == "in\n"
    return process


def test_a_second_submitter_waits_and_says_for_whom(store):
    said = []
    with holder(store, 1.0) as first:
        with submitting_alone(store, said.append):
            assert claim.holder(store.root / "submitting").pid == os.getpid()
        first.wait(10)
    assert len(said) == 1
    assert f"process {first.pid}" in said[0]


def test_a_submitter_that_was_killed_is_taken_over_at_once(store):
    with holder(store, 600) as first:
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        began = time.monotonic()
        with submitting_alone(store, print):
            assert time.monotonic() - began < 30  # not its lease of a minute


def test_clusters_are_told_apart_from_this_machine_and_from_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "clusters.yaml").write_text("a100: {partition: gpu}\n")
    assert profile_of("a100").partition == "gpu"
    for name, words in ((None, "a100"), ("local", "tokscale run"), ("a10", "did you mean 'a100'")):
        with pytest.raises(UsageError) as caught:
            profile_of(name)
        assert words in str(caught.value)


def test_what_remains_at_a_limit_is_said_and_how_to_go_on(plan):
    made = Submission(plan, "lab", {"tokenizer": 2}, 1, {}, remaining=13, limit="QOSMaxSubmitJobPerUserLimit")
    text = submission_words.report(made)
    assert "13 stages remain" in text
    assert "QOSMaxSubmitJobPerUserLimit" in text
    assert "same command" in text


def test_what_to_type_next_works_as_it_stands(plan, tmp_path, monkeypatch):
    made = Submission(plan, "lab", {"tokenizer": 2}, 1, {}, runs=tmp_path / "my runs")
    assert f"next: tokscale status small --watch --runs '{tmp_path}/my runs'" in submission_words.report(made)
    monkeypatch.setenv("TOKSCALE_RUNS", str(tmp_path / "my runs"))
    assert submission_words.report(made).endswith("next: tokscale status small --watch")
    monkeypatch.delenv("TOKSCALE_RUNS")
    assert typed("tokscale retry small", DEFAULT_RUNS) == "tokscale retry small"


def test_a_retry_counts_what_was_forgiven_and_what_that_had_blocked():
    assert submission_words.forgiven("small", 1, 3) == (
        "small: 1 stage may run again, and 3 stages that waited in vain for them"
    )
    assert submission_words.forgiven("small", 2, 0) == "small: 2 stages may run again"


def test_nothing_is_made_to_wait_for_a_job_that_left_the_queue():
    reasons = {"a": "Priority", "b": "it left the queue, and how it ended is not known yet", "c": ""}
    jobs = {key: JobStatus(key, JobState.pending, reason, worker="7_0") for key, reason in reasons.items()}
    assert living(jobs) == {"a", "c"}
    assert judge("b", Evidence(heard=time.time()), time.time()).reason.startswith("it left the queue")


def test_what_stands_on_a_job_that_the_cluster_may_not_have_waits_and_that_is_no_error(plan, store, monkeypatch):
    ledger = store.root / "sweeps" / "small" / "submissions.jsonl"
    tokenizers = [stage.key for stage in plan.stages.values() if stage.kind == "tokenizer"]
    elements = {str(index): [key, key, []] for index, key in enumerate(tokenizers[:2])}
    intent = {"event": "intent", "token": "0a1b2c3d", "name": "small.tokenizer.0a1b2c3d", "folder": "jobs/0a1b2c3d",
              "time": time.time() - 100, "user": os.getuid(), "throttle": None, "minutes": 9,
              "elements": elements}  # fmt: skip
    ledger.parent.mkdir(parents=True)
    ledger.write_text(json.dumps(intent) + "\n")
    programs = store.root.parent / "programs"
    programs.mkdir()
    for name in ("squeue", "sacct"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    made = submit(plan, store, PROFILE, dry_run=True)
    assert made.left == {"queued": 2, "waiting": 8}
    assert made.submitted == dict.fromkeys((stage.kind for stage in plan.trials[0].stages), 1)
    text = submission_words.report(made)
    assert "2 stages were handed in by a submission that was cut short" in text
    assert "the same command tells in 4 min" in text


def test_history_survives_a_line_that_was_cut_short(tmp_path):
    write_history(tmp_path, {"cluster": "lab", "again": {"probe/1": "killed"}})
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(b'{"cluster": "torn", "aga')
    write_history(tmp_path, {"again": {"probe/1": "killed", "probe/2": "host memory"}, "excluded": ["n3"]})
    history = read_history(tmp_path)
    assert history.last("cluster") == "lab"
    assert history.ends() == {"probe/1": Counter(killed=2), "probe/2": Counter({"host memory": 1})}
    assert history.excluded(time.time()) == ("n3",)
    assert history.excluded(time.time() + 7200) == ()
    write_history(tmp_path, {"retried": ["probe/1", "probe/2"]})
    assert read_history(tmp_path).ends()["probe/1"]["killed"] == 0
    assert read_history(tmp_path).ends()["probe/2"]["host memory"] == 1


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_descriptions_are_read_back_as_they_were(config):
    stage = Stage("probe/0123456789012345", "probe", "0123456789012345", config, {"latents": "12345e6789012345"})
    read = YAML(typ="safe", pure=True).load(describe(stage))
    assert read == {"kind": "probe", "id": stage.id, "config": config, "parents": stage.parents}


def test_descriptions_give_the_id_of_their_stage(plan):
    for stage in plan.stages.values():
        read = YAML(typ="safe", pure=True).load(describe(stage))
        assert identity_of(read["kind"], read["config"], read["parents"]) == stage.id

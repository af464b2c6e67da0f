"""How a stage stands when store, queue and accounting each know a part, also when they contradict each other."""

import json
import time
from dataclasses import replace

import pytest

from slurm.executor import JobState, JobStatus
from sweeps import marks
from sweeps.history import write_history
from sweeps.planning import make_plan
from sweeps.standing import standings
from sweeps.store import StageState, Store
from tokscale import claim
from tokscale.record import Record, write_record


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def plan(small_spec, store):
    return make_plan(small_spec, store)


@pytest.fixture
def stages(plan):
    """The stages of the first trial by kind."""
    return {stage.kind: stage for stage in plan.trials[0].stages}


def job(stage, state, cause="", reason="", worker="12_3", host="n2"):
    return {stage.key: JobStatus(stage.key, JobState(state), reason, host=host, worker=worker, cause=cause)}


def stand(plan, store, stage, jobs=None):
    return standings(plan, store, jobs or {})[stage.key]


def attempt(store, stage, outcome):
    """One attempt that ended by its own word."""
    held = claim.claim(store.prepare(stage).path)
    held.release(outcome)
    return held


def finish(store, stage):
    write_record(store.folder(stage).path, Record(stage.kind, stage.id, dict(stage.config), dict(stage.parents), {}))


def dead_claim(store, stage, worker):
    """A claim whose owner, a job of the cluster, is on another machine and was heard of a moment ago."""
    folder = store.prepare(stage).path
    held = claim.claim(folder)
    held._stop.set()
    path = folder / "claim" / "0001"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "host": "n2", "boot": "", "machine": "", "job": worker})
    )


def test_without_a_queue_it_is_what_the_store_says(plan, store, stages):
    assert {status.state for status in standings(plan, store, {}).values()} == {StageState.new}
    attempt(store, stages["tokenizer"], {"state": "failed", "cause": "diverged", "message": "loss is nan"})
    found = stand(plan, store, stages["tokenizer"])
    assert (found.state, found.cause, found.message) == (StageState.failed, "diverged", "loss is nan")


@pytest.mark.parametrize("state", JobState)
def test_a_record_beats_whatever_the_queue_says(plan, store, stages, state):
    finish(store, stages["tokenizer"])
    assert stand(plan, store, stages["tokenizer"], job(stages["tokenizer"], state)).state is StageState.done


@pytest.mark.parametrize("reason", ["Priority", "Resources", "starts again at 14:05"])
def test_a_job_that_waits_is_queued_and_says_why_even_after_an_attempt(plan, store, stages, reason):
    one = stages["tokenizer"]
    waiting = job(one, "pending", reason=reason, host=None)
    assert (stand(plan, store, one, waiting).state, stand(plan, store, one, waiting).attempts) == ("queued", 0)
    attempt(store, one, {"state": "interrupted", "cause": "preempted"})
    found = stand(plan, store, one, waiting)
    assert (found.state, found.reason, found.attempts, found.job) == (StageState.queued, reason, 1, "12_3")
    attempt(store, one, {"state": "failed", "cause": "code", "message": "mended since"})
    assert stand(plan, store, one, waiting).state is StageState.queued


def test_a_job_that_runs_has_its_node(plan, store, stages):
    found = stand(plan, store, stages["tokenizer"], job(stages["tokenizer"], "running"))
    assert (found.state, found.job, found.node) == (StageState.running, "12_3", "n2")


def test_a_heartbeat_does_not_outlive_its_job(plan, store, stages):
    one = stages["tokenizer"]
    dead_claim(store, one, "12_3")
    assert stand(plan, store, one).state is StageState.running
    gone = stand(plan, store, one, job(one, "failed", cause="node", reason="NODE_FAIL on n2"))
    assert (gone.state, gone.cause, gone.node) == (StageState.interrupted, "node", "n2")
    # the end of an older job says nothing about the one that has the claim now, whatever its cause was
    (older,) = job(one, "failed", cause="node", worker="7_3").values()
    older = replace(older, ended=time.time() - 3600)
    assert stand(plan, store, one, {one.key: older}).state is StageState.running


AGAIN = ["time limit", "preempted", "node", "lost", "killed"]
NOT_AGAIN = ["launch"]


@pytest.mark.parametrize("cause", AGAIN + NOT_AGAIN)
def test_what_the_cluster_says_of_an_end_that_the_stage_could_not_tell(plan, store, stages, cause):
    found = stand(plan, store, stages["tokenizer"], job(stages["tokenizer"], "failed", cause, "as seen by SLURM"))
    expected = StageState.interrupted if cause in AGAIN else StageState.failed
    assert (found.state, found.cause, found.message) == (expected, cause, "as seen by SLURM")


def test_the_stages_own_word_comes_before_the_clusters(plan, store, stages):
    one = stages["tokenizer"]
    attempt(store, one, {"state": "interrupted", "cause": "out of memory", "message": "CUDA"})
    assert stand(plan, store, one, job(one, "failed", "time limit")).cause == "out of memory"
    attempt(store, one, {"state": "failed", "cause": "diverged", "message": "loss is nan"})
    found = stand(plan, store, one, job(one, "failed", "", "exit code 1"))
    assert (found.state, found.cause, found.message) == (StageState.failed, "diverged", "loss is nan")


def test_a_stage_that_could_not_write_how_it_ended_met_a_full_disk(plan, store, stages, tmp_path):
    one, log = stages["tokenizer"], tmp_path / "12_3_0_log.out"
    (failed,) = job(one, "failed", "launch", "ended with status 1").values()
    failed = {one.key: replace(failed, log=log)}
    log.write_text("ModuleNotFoundError: No module named 'torch'")
    assert stand(plan, store, one, failed).cause == "launch"
    for words in ("", "submitit INFO - Starting with", "OSError: [Errno 28] No space left on device"):
        log.write_text(words)
        found = stand(plan, store, one, failed)
        assert (found.state, found.cause) == (StageState.interrupted, "store")
    log.write_text("srun: error: task 0 exited with status 1")
    dead_claim(store, one, "12_3")
    assert stand(plan, store, one, failed).cause == "store"


def test_killed_for_the_memory_of_the_host_is_told_apart_from_the_gpus(plan, store, stages):
    assert stand(plan, store, stages["tokenizer"], job(stages["tokenizer"], "failed", "out of memory")).cause == (
        "host memory"
    )


def test_a_job_that_ended_well_without_a_record_is_lost(plan, store, stages):
    found = stand(plan, store, stages["tokenizer"], job(stages["tokenizer"], "done"))
    assert (found.state, found.cause) == (StageState.interrupted, "lost")


def test_tried_three_times_is_failed_until_it_is_retried(plan, store, stages):
    one, folder = stages["tokenizer"], store.sweep(plan.spec.name)
    killed = job(one, "failed", "killed", "by signal 9")
    for _ in range(2):
        write_history(folder, {"again": {one.key: "killed"}})
        assert stand(plan, store, one, killed).state is StageState.interrupted
    write_history(folder, {"again": {one.key: "killed"}})
    found = stand(plan, store, one, killed)
    assert (found.state, found.cause) == (StageState.failed, "killed")
    assert "4th time" in found.message
    write_history(folder, {"retried": [one.key]})
    assert stand(plan, store, one, killed).state is StageState.interrupted


def test_a_cancelled_stage_stays_so_whatever_its_job_does(plan, store, stages):
    one = stages["tokenizer"]
    store.prepare(one)
    marks.cancel([store.folder(one)], "tokscale cancel")
    for jobs in ({}, job(one, "pending"), job(one, "running"), job(one, "cancelled"), job(one, "failed", "killed")):
        found = stand(plan, store, one, jobs)
        assert (found.state, found.cause) == (StageState.cancelled, "cancelled")
        assert "tokscale cancel" in found.message
    marks.forgive(store.folder(one), 0, "12_3")
    assert stand(plan, store, one, job(one, "cancelled")).state is StageState.new
    assert stand(plan, store, one, job(one, "cancelled", worker="13_3")).state is StageState.cancelled


def test_a_job_cancelled_behind_our_back_is_cancelled(plan, store, stages):
    found = stand(plan, store, stages["tokenizer"], job(stages["tokenizer"], "cancelled", "cancelled", "by root"))
    assert (found.state, found.message) == (StageState.cancelled, "by root")


def test_forgiven_failures_may_run_again_and_later_ones_count(plan, store, stages):
    one = stages["tokenizer"]
    attempt(store, one, {"state": "failed", "cause": "code", "message": "x"})
    marks.forgive(store.folder(one), 1, None)
    assert (stand(plan, store, one).state, stand(plan, store, one).cause) == (StageState.interrupted, None)
    attempt(store, one, {"state": "failed", "cause": "code", "message": "y"})
    assert stand(plan, store, one).message == "y"


def test_a_launch_that_failed_is_forgiven_by_its_job(plan, store, stages):
    one = stages["tokenizer"]
    failed = job(one, "failed", "launch", "no module named torch")
    status = stand(plan, store, one, failed)
    assert status.state is StageState.failed
    marks.forgive(store.folder(one), status.attempts, status.job)
    assert stand(plan, store, one, failed).state is StageState.new
    assert stand(plan, store, one, job(one, "failed", "launch", worker="13_3")).state is StageState.failed


def test_what_stands_on_a_failed_stage_is_blocked_and_names_it(plan, store, stages):
    parent = stages["tokenizer"]
    attempt(store, parent, {"state": "failed", "cause": "diverged", "message": "loss is nan"})
    found = standings(plan, store, job(stages["probe"], "pending", reason="Dependency", host=None))
    for kind in ("reconstruction", "latents", "probe", "generation"):
        status = found[stages[kind].key]
        assert status.state is StageState.blocked
        assert status.reason == f"stands on {parent.key}, which failed: diverged"
    others = [key for trial in plan.trials[1:] for key in (stage.key for stage in trial.stages)]
    assert {found[key].state for key in others} == {StageState.new}


def test_a_disk_that_was_full_is_tried_again(plan, store, stages):
    attempt(store, stages["tokenizer"], {"state": "failed", "cause": "store", "message": "No space left"})
    assert stand(plan, store, stages["tokenizer"]).state is StageState.interrupted


def test_statuses_of_a_sweep_agree_with_those_of_its_stages(plan, store):
    for stage in list(plan.stages.values())[:3]:
        store.prepare(stage)
    found = standings(plan, store, {})
    assert found == {key: store.status(stage) for key, stage in plan.stages.items()}
    assert replace(plan, statuses=found).missing() == list(plan.stages.values())

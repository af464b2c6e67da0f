"""The executor against a real SLURM: how jobs follow each other, and what it says of every end."""

import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from slurm import cluster
from slurm.executor import JobState
from tests.cluster.chore_book import eventually, finish, states

pytestmark = pytest.mark.xdist_group("slurm")


def throttles(lab):
    shown = lab.ask("scontrol", "show", "job", "--oneliner").splitlines()
    words = [dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in shown]
    waiting = [one for one in words if one["JobState"] == "PENDING" and "ArrayTaskThrottle" in one]
    return {one["ArrayJobId"]: int(one["ArrayTaskThrottle"]) for one in waiting}


def test_children_run_after_their_own_parents_and_a_failed_one_blocks_only_its_own(
    lab, open_executor, chores, tmp_path
):
    executor = open_executor()
    good = [chores.count(f"parent{number}", 2, 0.2) for number in range(3)]
    bad = replace(good[1], key="bad", name="count/bad", target="tests.cluster.chores:fail", arguments=["the weather"])
    children = [chores.need(f"child{number}", parent) for number, parent in enumerate(["parent0", "bad", "parent2"])]
    grand = [chores.need(f"grand{number}", f"child{number}") for number in range(3)]
    jobs = [*good, bad, *children, *grand]
    assert [preview.elements for preview in executor.preview(jobs)] == [4, 3, 3]
    assert not (tmp_path / "submissions.jsonl").exists()
    executor.submit(jobs)
    statuses = finish(executor, [job.key for job in jobs])
    assert chores.done() == {"parent0", "parent1", "parent2", "child0", "child2", "grand0", "grand2"}
    assert {key: (status.state.value, status.cause, status.reason) for key, status in statuses.items()
            if status.state is not JobState.done} == {
        "bad": ("failed", "code", "Unlucky: the weather"),
        "child1": ("blocked", "blocked", "bad failed"),
        "grand1": ("blocked", "blocked", "bad failed"),
    }  # fmt: skip
    again = open_executor()
    assert states(again.poll()) == states(statuses), "another process reads the same"
    again.submit([chores.need("late", "child1"), chores.need("more", "child0")])
    assert states(finish(again, ["late", "more"])) == {"late": "blocked", "more": "done"}
    assert again.poll()["late"].reason == "bad failed"


def test_cancelling_ends_what_runs_and_what_waits_and_blocks_what_follows(lab, open_executor, chores):
    executor = open_executor(max_running=4)
    long = [chores.count(f"long{number}", 600, 0.1) for number in range(4)]
    executor.submit([*long, *(chores.need(f"child{number}", f"long{number}") for number in range(4))])
    eventually(lambda: chores.step("long0") and chores.step("long1"))
    executor.cancel(["long0", "long3", "child2"])
    statuses = finish(executor, ["long0", "long3", "child2", "child0", "child3"])
    assert states(statuses) == {
        "long0": "cancelled", "long3": "cancelled", "child2": "cancelled", "child0": "blocked", "child3": "blocked",
    }  # fmt: skip
    assert statuses["child0"].reason == "long0 was cancelled"
    executor.cancel(list(executor.poll()))
    rest = {key: state for key, state in states(finish(executor, executor.poll())).items() if key not in statuses}
    assert rest == {"long1": "cancelled", "long2": "cancelled", "child1": "cancelled"}
    assert states(open_executor().poll()) == states(executor.poll())
    with pytest.raises(ValueError, match="no such jobs: nobody"):
        executor.cancel(["nobody"])
    executor.submit([chores.count("long0", 1)])
    assert states(finish(executor, ["long0"])) == {"long0": "done"}


def test_what_may_run_at_a_time_is_shared_by_all_arrays(closed, open_executor, chores):
    executor = open_executor(max_running=12)
    executor.submit([*(chores.count(f"parent{number}") for number in range(30)),
                     *(chores.need(f"child{number}", f"parent{number}") for number in range(30))])  # fmt: skip
    assert sum(throttles(closed).values()) == 12
    before = throttles(closed)
    executor.submit([chores.need(f"new{number}") for number in range(30)])
    after = throttles(closed)
    assert sum(after.values()) == 12
    assert len(after) == 3
    assert all(after[job] < part for job, part in before.items())


def test_a_job_that_was_requeued_runs_again_with_its_logs_kept(lab, open_executor, chores):
    executor = open_executor()
    executor.submit([chores.count("chore", 30, 0.2), chores.count("other", 10, 0.2)])
    eventually(lambda: chores.step("chore") > 2)
    worker = executor.poll()["chore"].worker
    lab.ask("scontrol", "requeue", worker)
    eventually(lambda: executor.poll()["chore"].state is JobState.pending)
    status = finish(executor, ["chore", "other"])["chore"]
    assert status.state is JobState.done
    assert [attempt.restart for attempt in chores.attempts("chore")] == [0, 1]
    assert len(chores.attempts("other")) == 1, "no other element began again"
    assert status.log.read_text().count("Starting with JobEnvironment") == 2


def test_a_launch_that_failed_is_released_once_and_then_given_up(lab, open_executor, chores):
    spools = [lab.folder / "spool" / node for node in ("n1", "n2", "n3", "n4")]
    executor = open_executor()
    for spool in spools:
        spool.rename(spool.with_suffix(".away"))
        spool.touch()
    try:
        executor.submit([chores.count("mended"), chores.count("hopeless")])
        held = eventually(lambda: [status for status in executor.poll().values() if status.cause == "launch"])
        assert {status.state for status in held} == {JobState.pending}
        eventually(lambda: all(status.cause == "launch" for status in executor.poll().values()))
        status = eventually(lambda: [one for one in executor.poll().values() if one.state is JobState.failed])[0]
        assert "launch failed again" in status.reason
    finally:
        for spool in spools:
            spool.unlink()
            spool.with_suffix(".away").rename(spool)
    assert states(finish(executor, ["mended", "hopeless"])) == {"mended": "failed", "hopeless": "failed"}
    assert states(open_executor().poll()) == {"mended": "failed", "hopeless": "failed"}


def test_a_controller_that_hangs_holds_a_watcher_up_for_one_question_only(lab, open_executor, chores, monkeypatch):
    executor = open_executor()
    executor.submit([chores.count("chore", 100, 0.2)])
    eventually(lambda: chores.step("chore"))
    eventually(lambda: executor.poll()["chore"].state is JobState.running)
    monkeypatch.setattr(cluster, "ASK_SECONDS", 2.0)
    keeper = lab.keepers["slurmctld"].pid
    controller = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
    os.kill(controller, signal.SIGSTOP)
    try:
        assert executor.poll()["chore"].state is JobState.running
        assert any("squeue did not answer within 2 s" in words for words in executor.trouble)
        assert states(open_executor().poll()) == {"chore": "running"}, "its folder tells that it started"
    finally:
        os.kill(controller, signal.SIGCONT)
    assert executor.poll()["chore"].state is JobState.running
    assert executor.trouble == ()


def test_one_question_tells_how_all_jobs_are(closed, open_executor, chores, monkeypatch):
    asked = []
    call = cluster._call
    monkeypatch.setattr(cluster, "_call", lambda *words, **rest: (asked.append(words[0]), call(*words, **rest))[1])
    executor = open_executor()
    executor.submit([*(chores.count(f"parent{number}") for number in range(300)),
                     *(chores.need(f"child{number}", f"parent{number}") for number in range(300))])  # fmt: skip
    assert Counter(asked) == {"scontrol": 1, "sbatch": 2}
    asked.clear()
    assert len(executor.poll()) == 600
    assert asked == ["squeue"]
    asked.clear()
    executor.cancel([f"parent{number}" for number in range(300)])
    assert Counter(asked) == {"squeue": 1, "scancel": 1}
    monkeypatch.setattr(executor._survey, "_ended", {})
    asked.clear()
    executor.poll()
    assert set(Counter(asked).values()) == {1}

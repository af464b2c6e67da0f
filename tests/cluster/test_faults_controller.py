"""slurmctld and slurmdbd away: during a submission, during a wait, while watching."""

import time

import pytest

from slurm import submitting
from slurm.cluster import ClusterError
from slurm.executor import JobState
from tests.cluster.chore_book import eventually, finish

pytestmark = pytest.mark.xdist_group("slurm")


def test_submitting_without_a_controller_says_so_and_leaves_nothing(lab, open_executor, chores, tmp_path, monkeypatch):
    monkeypatch.setattr(submitting, "PATIENCE_SECONDS", 1.0)
    executor = open_executor()
    lab.stop_controller()
    with pytest.raises(ClusterError, match=r"[Uu]nable to contact slurm controller") as caught:
        executor.submit([chores.count("chore")])
    assert "allowed:" in str(caught.value)
    assert [path for path in (tmp_path / "jobs").rglob("*") if path.is_file()] == []
    lab.start_controller()
    executor.submit([chores.count("chore")])
    assert finish(executor, ["chore"])["chore"].state is JobState.done
    assert chores.done() == {"chore"}


def test_a_controller_that_is_away_for_a_while_costs_nothing(lab, open_executor, chores):
    executor = open_executor()
    keys = ["short", "long"]
    executor.submit([chores.count("short", 20, 0.2), chores.count("long", 80, 0.25), chores.need("child", "long")])
    eventually(lambda: all(chores.step(key) for key in keys))
    lab.stop_controller()
    eventually(lambda: "short" in chores.done())
    statuses = executor.poll()
    assert any("slurmctld" in words for words in executor.trouble)
    assert statuses["short"].state is JobState.done, "its own note says so"
    assert statuses["long"].state is JobState.running, "the last thing known, not a guess"
    assert statuses["child"].state is JobState.pending
    lab.start_controller()
    statuses = finish(executor, [*keys, "child"])
    assert executor.trouble == ()
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert chores.done() == {*keys, "child"}
    assert [len(chores.attempts(key)) for key in keys] == [1, 1]


def test_jobs_that_a_crashed_controller_forgot_are_lost_and_can_be_submitted_again(lab, open_executor, chores):
    executor = open_executor()
    lab.ask("scontrol", "update", "partition=main", "state=down")
    eventually(lambda: not lab.queue())
    time.sleep(6.0)  # so that all before is saved, and what follows is not
    keys = ["a", "b", "child"]
    jobs = [chores.count("a"), chores.count("b"), chores.need("child", "a")]
    executor.submit(jobs)
    lab.kill_controller()
    lab.start_controller()
    if not lab.queue():  # it was not saved in time, as nearly always
        statuses = finish(executor, keys)
        assert {key: (str(status.state), status.cause) for key, status in statuses.items()} == {
            "a": ("failed", "lost"), "b": ("failed", "lost"), "child": ("blocked", "blocked"),
        }  # fmt: skip
        executor.submit(jobs)
    lab.ask("scontrol", "update", "partition=main", "state=up")
    while forgotten := {key: one for key, one in finish(executor, keys).items() if one.state is not JobState.done}:
        # the power went when some submissions were saved, and others were not
        assert {status.cause for status in forgotten.values()} <= {"lost", "blocked"}
        executor.submit([job for job in jobs if job.key in forgotten])
    assert chores.done() == set(keys)
    assert [len(chores.attempts(key)) for key in keys] == [1, 1, 1]


def test_a_job_asks_for_its_requeue_until_the_controller_is_back(lab, open_executor, chores):
    executor = open_executor()
    executor.submit([chores.count("chore", 5, 2.0)])
    eventually(lambda: chores.step("chore") >= 1)
    worker = executor.poll()["chore"].worker
    # the signal first: without a controller nobody could send it
    lab.ask("scancel", "--signal=USR2", worker)
    lab.stop_controller()
    eventually(lambda: "USR2" in chores.log("chore"))
    lab.start_controller()
    assert finish(executor, ["chore"])["chore"].state is JobState.done
    assert chores.done() == {"chore"}


def test_watching_without_accounting_says_so_and_misses_no_end(lab, open_executor, chores):
    executor = open_executor()
    executor.submit([chores.count("good", 4, 0.25), chores.job("bad", "fail", ["the weather"])])
    lab.stop_accounting()
    statuses = finish(executor, ["good", "bad"])
    assert statuses["good"].state is JobState.done
    assert statuses["bad"].state is JobState.failed
    assert "the weather" in statuses["bad"].reason
    executor.submit([chores.job("gone", "leave", [7])])
    assert finish(executor, ["gone"])["gone"].state is JobState.failed
    lab.start_accounting()
    assert executor.poll()["good"].state is JobState.done

"""What SLURM does to running jobs: preemption, requeues, cancellation; nothing is lost or done twice."""

import pytest

from slurm.executor import JobState
from tests.cluster.chore_book import eventually, finish

pytestmark = pytest.mark.xdist_group("slurm")


def job_of(executor, key):
    """The cluster's id of a job that runs."""
    return eventually(lambda: executor.poll()[key].state is JobState.running and executor.poll()[key].worker)


def counting(chores, *keys):
    return lambda: all(chores.step(key) >= 2 for key in keys)


def test_a_higher_partition_preempts_and_the_work_goes_on_where_it_was(lab, open_executor, chores):
    executor = open_executor()
    keys = ["a", "b", "c"]
    executor.submit([chores.count(key, 24, 0.25) for key in keys])
    eventually(counting(chores, *keys))
    lab.ask("sbatch", "--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap", "sleep 2")
    statuses = finish(executor, keys)
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert chores.done() == set(keys)
    for key in keys:
        first, second = chores.attempts(key)
        assert (first.begin, first.restart, second.restart) == (0, 0, 1)
        assert second.begin >= 2
        assert "USR2" in chores.log(key) or "TERM" in chores.log(key)


def test_requeueing_one_element_leaves_the_others_alone(lab, open_executor, chores):
    executor = open_executor()
    keys = [f"chore{number}" for number in range(4)]
    executor.submit([chores.count(key, 24, 0.25) for key in keys])
    eventually(counting(chores, *keys))
    lab.ask("scontrol", "requeue", job_of(executor, "chore2"))
    statuses = finish(executor, keys)
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert chores.done() == set(keys)
    assert [len(chores.attempts(key)) for key in keys] == [1, 1, 2, 1]
    assert chores.attempts("chore2")[1].begin >= 2


def test_an_element_that_was_cancelled_stays_so(lab, open_executor, chores):
    executor = open_executor()
    executor.submit(
        [chores.count("kept", 24, 0.25), chores.count("dropped", 400, 0.25), chores.need("child", "dropped")]
    )
    eventually(counting(chores, "kept", "dropped"))
    lab.ask("scancel", job_of(executor, "dropped"))
    statuses = finish(executor, ["kept", "dropped", "child"])
    assert {key: status.state for key, status in statuses.items()} == {
        "kept": JobState.done, "dropped": JobState.cancelled, "child": JobState.blocked,
    }  # fmt: skip
    assert statuses["dropped"].cause == "cancelled"
    assert statuses["child"].cause == "blocked"
    assert not lab.queue()
    assert chores.done() == {"kept"}
    assert len(chores.attempts("dropped")) == 1


def test_cancelling_by_key_reaches_waiting_and_running_jobs(lab, open_executor, chores):
    executor = open_executor(max_running=1)
    keys = [f"chore{number}" for number in range(3)]
    executor.submit([chores.count(key, 200, 0.25) for key in keys])
    eventually(lambda: any(chores.step(key) >= 1 for key in keys))
    assert len([key for key in keys if chores.attempts(key)]) == 1, "max_running is a promise"
    executor.cancel(keys)
    statuses = finish(executor, keys)
    assert {status.state for status in statuses.values()} == {JobState.cancelled}
    assert not lab.queue()
    assert chores.done() == set()


def test_a_failed_parent_blocks_its_children_and_nobody_else(lab, open_executor, chores):
    executor = open_executor()
    jobs = [chores.job("bad", "fail", ["the weather"]), chores.count("good")]
    jobs += [chores.need(f"{parent}-child", parent) for parent in ("bad", "good")]
    jobs.append(chores.need("bad-grandchild", "bad-child"))
    executor.submit(jobs)
    statuses = finish(executor, [job.key for job in jobs])
    assert {key: str(status.state) for key, status in statuses.items()} == {
        "bad": "failed", "good": "done", "bad-child": "blocked", "good-child": "done", "bad-grandchild": "blocked",
    }  # fmt: skip
    assert "the weather" in statuses["bad"].reason
    assert "the weather" in chores.log("bad")
    assert chores.done() == {"good", "good-child"}
    eventually(lambda: not lab.queue(), 30)  # children that can never start do not wait for ever

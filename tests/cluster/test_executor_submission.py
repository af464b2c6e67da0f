"""The executor against a real SLURM: what it submits, once, also when an answer is lost or a limit is met."""

import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from slurm.batch import AlreadySubmittedError, SlurmExecutor
from slurm.cluster import ClusterError, NoAnswerError, SubmitLimit
from slurm.profiles import ClusterProfile
from tests.cluster.chore_book import finish, states

pytestmark = pytest.mark.xdist_group("slurm")


@pytest.fixture
def intercept_sbatch(tmp_path, monkeypatch):
    """An sbatch before the real one, which it calls as $SBATCH; what the real one did is not what it says."""

    def place(script):
        program = tmp_path / "programs" / "sbatch"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\nSBATCH={cluster_program('sbatch')}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{PATH}")

    return place


PATH = os.environ["PATH"]


def cluster_program(name):
    (found,) = [path for folder in PATH.split(":") if (path := Path(folder, name)).exists()][:1]
    return found


def array_names(lab):
    return Counter(lab.ask("squeue", "-h", "-r", "-o", "%j").split())


def test_a_submission_whose_answer_was_lost_is_found_and_not_sent_twice(
    closed, open_executor, chores, intercept_sbatch
):
    intercept_sbatch(
        '$SBATCH "$@" > /dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    )
    executor = open_executor()
    executor.submit([chores.count("parent"), chores.need("child", "parent")])
    assert set(array_names(closed).values()) == {1}
    assert len(array_names(closed)) == 2
    assert {status.worker for status in executor.poll().values()} == set(closed.queue())


def test_a_submitter_that_died_before_it_wrote_the_id_is_continued_by_the_next(
    closed, open_executor, chores, monkeypatch
):
    executor = open_executor()
    append = executor.ledgers.own.append

    def die(event):
        if event["event"] == "submitted":
            raise KeyboardInterrupt
        append(event)

    monkeypatch.setattr(executor.ledgers.own, "append", die)
    with pytest.raises(KeyboardInterrupt):
        executor.submit([chores.count("parent")])
    following = open_executor()
    with pytest.raises(AlreadySubmittedError):
        following.submit([chores.count("parent")])
    following.submit([chores.need("child", "parent")])
    (parent,) = (job for job in closed.queue() if job == following.poll()["parent"].worker)
    assert f"aftercorr:{parent.partition('_')[0]}" in closed.ask("scontrol", "show", "job", "--oneliner")
    assert states(open_executor().poll()) == {"parent": "pending", "child": "pending"}
    assert set(array_names(closed).values()) == {1}


def test_a_submission_that_nobody_confirms_waits_and_then_counts_as_never_made(
    closed, open_executor, chores, intercept_sbatch, monkeypatch, tmp_path
):
    intercept_sbatch('echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1')
    monkeypatch.setattr("slurm.submitting.LOOKS", (0.1,))
    executor = open_executor()
    with pytest.raises(NoAnswerError, match="not known yet"):
        executor.submit([chores.count("chore")])
    intercept_sbatch('exec $SBATCH "$@"')
    assert states(executor.poll()) == {"chore": "pending"}
    with pytest.raises(AlreadySubmittedError):
        open_executor().submit([chores.count("chore")])
    monkeypatch.setattr("slurm.unconfirmed.UNCONFIRMED_SECONDS", 0.0)
    assert executor.poll() == {}
    executor.submit([chores.count("chore")])
    assert sum(array_names(closed).values()) == 1


def test_a_refusal_leaves_nothing_and_says_what_sbatch_said(lab, open_executor, chores, tmp_path):
    executor = open_executor(partition="nowhere")
    with pytest.raises(ClusterError, match="invalid partition specified: nowhere") as caught:
        executor.submit([chores.count("chore")])
    assert not isinstance(caught.value, SubmitLimit | NoAnswerError)
    assert list((tmp_path / "jobs").iterdir()) == []
    assert executor.poll() == {}
    open_executor().submit([chores.count("chore")])
    assert states(finish(open_executor(), ["chore"])) == {"chore": "done"}


def test_a_limit_reached_half_way_keeps_what_was_taken(closed, open_executor, chores):
    executor = open_executor()
    jobs = [chores.count(f"parent{number}") for number in range(20)]
    jobs += [chores.need(f"child{number}", f"parent{number}") for number in range(20)]
    closed.limit_submissions(32)
    try:
        with pytest.raises(SubmitLimit, match="MaxSubmitJobLimit") as caught:
            executor.submit(jobs)
        assert Counter(key.rstrip("0123456789") for key in caught.value.taken) == {"parent": 20, "child": 10}
        assert set(executor.poll()) == set(caught.value.taken)
    finally:
        closed.limit_submissions(None)
    executor.submit([job for job in jobs if job.key not in caught.value.taken])
    assert set(executor.poll()) == {job.key for job in jobs}
    assert len(closed.queue()) == 40


def test_two_at_the_same_moment_submit_a_job_once(closed, open_executor, chores):
    outcomes = []

    def submit():
        try:
            open_executor().submit([chores.count(f"chore{number}") for number in range(50)])
            outcomes.append("submitted")
        except AlreadySubmittedError as error:
            outcomes.append(len(error.keys))

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [50, "submitted"]
    assert len(closed.queue()) == 50


def test_another_sweeps_jobs_are_waited_for_and_not_submitted_again(lab, chores, tmp_path, open_executor):
    first = open_executor()
    first.submit([chores.count(f"parent{number}", 4, 0.5) for number in range(3)])
    second = SlurmExecutor(ClusterProfile("lab", partition="main"), tmp_path / "second" / "jobs", name="second",
                           ledger=tmp_path / "second" / "submissions.jsonl", python_path=[Path(__file__).parents[2]],
                           other_ledgers=[tmp_path / "submissions.jsonl"])  # fmt: skip
    with pytest.raises(AlreadySubmittedError):
        second.submit([chores.count("parent1")])
    second.submit([chores.need(f"child{number}", f"parent{number}") for number in (0, 2)])
    assert states(finish(second, ["child0", "child2"])) == {"child0": "done", "child2": "done"}
    assert states(finish(second, ["parent1"])) == {"parent1": "done"}
    assert set(first.poll()) == {"parent0", "parent1", "parent2"}

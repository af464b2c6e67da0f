"""Submitting: twice, by two, cut short, without a controller, beyond the limits; nothing is lost and nothing twice."""

import os
import random
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.batch import SlurmExecutor
from slurm.executor import JobState
from slurm.profiles import ClusterProfile
from tests.cluster.chore_book import eventually, finish
from tests.cluster.lab import Lab
from tests.cluster.sweep_desk import SPEC, Desk

pytestmark = pytest.mark.xdist_group("slurm")
ROOT = Path(__file__).parents[2]
MANY = SPEC + "  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]\n"


def once_each(desk):
    return dict.fromkeys(desk.stages(), 1)


def test_submitting_again_and_more_submits_what_is_new(closed, tmp_path):
    desk = Desk.make(tmp_path, closed)
    before = sorted(tmp_path.rglob("*"))
    assert "#SBATCH" in desk.tokscale("submit", desk.spec, "--cluster", "lab", "--dry-run")
    assert sorted(tmp_path.rglob("*")) == before, "a dry run writes nothing"
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert desk.queued(closed) == once_each(desk)
    names = set(closed.ask("squeue", "-h", "-o", "%j").split())
    assert len(names) == 2, "one array for each kind of stage"
    assert all(name.startswith("two.") for name in names)
    jobs = set(closed.queue())
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert set(closed.queue()) == jobs
    desk.spec.write_text(SPEC + "  seed: [0, 1]\n")
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert jobs < set(closed.queue())
    assert desk.queued(closed) == once_each(desk)


def test_two_who_submit_at_the_same_moment_share_one_submission(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, MANY)
    both = [desk.start("submit", desk.spec, "--cluster", "lab") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert desk.queued(closed) == once_each(desk)


def test_a_submitter_killed_at_random_points_loses_and_doubles_nothing(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, MANY)
    started = time.monotonic()
    desk.tokscale("submit", desk.spec, "--cluster", "lab", "--dry-run")
    whole = time.monotonic() - started
    chance = random.Random(11)
    for number in range(6):
        process = desk.start("submit", desk.spec, "--cluster", "lab")
        time.sleep(chance.uniform(0.5, 1.2) * whole)
        process.kill()
        process.communicate()
        assert set(desk.queued(closed).values()) <= {1}, f"doubled by attempt {number}"
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert desk.queued(closed) == once_each(desk)


def test_a_submitter_killed_right_after_sbatch_is_continued_by_the_next(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, MANY)
    for _ in range(3):
        process = desk.start("submit", desk.spec, "--cluster", "lab")
        known = len(closed.queue())
        while process.poll() is None and len(closed.queue()) == known:
            pass
        process.kill()
        process.communicate()
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert desk.queued(closed) == once_each(desk)


def test_an_sbatch_that_outlives_its_submitter_is_waited_for_and_one_that_does_not_is_done_again(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, MANY)
    slow = tmp_path / "slow" / "sbatch"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/sender\nsleep 4\nexec {shutil.which("sbatch")} "$@"\n')
    slow.chmod(0o755)
    impeded = replace(desk, environment={**desk.environment, "PATH": f"{slow.parent}:{desk.environment['PATH']}"})
    sender = tmp_path / "sender"
    for survives in (True, False):  # the second submitter finds what came of the first, and dies in its turn
        process = impeded.start("submit", desk.spec, "--cluster", "lab")
        eventually(lambda: sender.is_file() and sender.read_text())
        process.kill()
        process.communicate()
        if not survives:
            os.kill(int(sender.read_text()), signal.SIGKILL)
        sender.unlink()
    dry = desk.tokscale("submit", desk.spec, "--cluster", "lab", "--dry-run")
    assert "40 stages were handed in by a submission that was cut short" in dry
    assert "waiting for that" in desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert desk.queued(closed) == once_each(desk)


def test_a_controller_that_goes_during_submission_is_waited_for_or_named(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, MANY)
    process = desk.start("submit", desk.spec, "--cluster", "lab")
    eventually(lambda: process.poll() is not None or desk.queued(closed))
    closed.stop_controller()
    time.sleep(1.0)
    closed.start_controller()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert desk.queued(closed) == once_each(desk)


def test_a_limit_of_jobs_in_the_queue_is_filled_and_the_rest_follows(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, MANY)
    closed.limit_submissions(50)
    try:
        output = desk.tokscale("submit", desk.spec, "--cluster", "lab", expected=1)
        assert 0 < len(closed.queue()) <= 50
        assert str(80 - len(closed.queue())) in output, "how many the cluster did not take"
        assert "AssocMaxSubmitJobLimit" in output, "which limit it is"
    finally:
        closed.limit_submissions(None)
    assert [path for path in (desk.runs / "sweeps/two/jobs").iterdir() if not list(path.glob("elements.json"))] == []
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert desk.queued(closed) == once_each(desk)


def test_arrays_stay_below_the_largest_index_that_the_cluster_takes(chores, tmp_path, monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    small = Lab.start(folder, accounting=False, max_array=11)
    try:
        for name, value in small.environment.items():
            monkeypatch.setenv(name, value)
        executor = SlurmExecutor(ClusterProfile("small", partition="main"), tmp_path / "jobs", name="many",
                                 ledger=tmp_path / "submissions.jsonl", python_path=[ROOT])  # fmt: skip
        parents = [f"chore{number}" for number in range(25)]
        children = [f"child{number}" for number in range(25)]
        pairs = zip(children, parents, strict=True)
        executor.submit([*map(chores.count, parents), *(chores.need(child, parent) for child, parent in pairs)])
        indices = [int(job.partition("_")[2]) for job in small.queue()]
        assert max(indices) <= 10
        statuses = finish(executor, [*parents, *children])
        assert {status.state for status in statuses.values()} == {JobState.done}, "without accounting too"
        assert chores.done() == {*parents, *children}
    finally:
        small.stop()
        shutil.rmtree(folder)

"""How jobs of the local executor end: cancelled, with the block, or with a parent that is killed or interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm import JobState, LocalExecutor
from tests.slurm.waiting import PATIENCE, eventually, finish, lines, runs

HERE = Path(__file__).parent


def test_cancelling_a_running_job_lets_it_save_and_blocks_its_children(tmp_path, job):
    started, saved, noted = tmp_path / "started", tmp_path / "saved", tmp_path / "noted"
    with LocalExecutor(1) as executor:
        executor.submit(
            [
                job("polite", "save_on_sigterm", str(started), str(saved)),
                job("plain", "wait_for", str(tmp_path / "never"), str(tmp_path / "plain")),
                job("child", "note", str(noted), "child", after=("plain",)),
                job("other", "note", str(noted), "other"),
                job("also", "note", str(noted), "also", after=("other",)),
            ]
        )
        eventually(lambda: lines(started))
        executor.cancel(["polite", "other", "also"])
        while executor.poll()["plain"].state is JobState.pending or not lines(tmp_path / "plain"):
            executor.wait(0.01)
        executor.cancel(["plain"])
        statuses = finish(executor)
    states = {key: status.state.value for key, status in statuses.items()}
    assert lines(saved) == ["saved"]
    assert states == {
        "polite": "done",  # it heard the signal and came to its own end
        "plain": "cancelled", "child": "blocked", "other": "cancelled", "also": "cancelled",
    }  # fmt: skip
    assert statuses["plain"].exit_code == -signal.SIGTERM
    assert statuses["child"].reason == "job plain was cancelled"
    assert not noted.exists()


def test_a_job_that_was_cancelled_before_it_started_never_runs(tmp_path, job):
    noted = tmp_path / "noted"
    with LocalExecutor(1) as executor:
        executor.submit([job("first", "note", str(noted), "first"), job("second", "note", str(noted), "second")])
        executor.cancel(["second"])
        with pytest.raises(ValueError, match="no such jobs: third"):
            executor.cancel(["third"])
        states = {key: status.state.value for key, status in finish(executor).items()}
        executor.cancel(["first", "second"])  # what has ended is left as it is
        assert states == {key: status.state.value for key, status in executor.poll().items()}
    assert states == {"first": "done", "second": "cancelled"}
    assert lines(noted) == ["first"]


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(tmp_path, job):
    started = tmp_path / "started"
    with LocalExecutor(1, grace_seconds=0.1) as executor:
        executor.submit([job("deaf", "ignore_sigterm", str(started))])
        (pid,) = eventually(lambda: lines(started))
        executor.cancel(["deaf"])
        status = finish(executor)["deaf"]
    assert (status.state, status.exit_code) == (JobState.cancelled, -signal.SIGKILL)
    assert not runs(pid)


def test_leaving_the_block_ends_everything(tmp_path, job):
    started = tmp_path / "started"
    with LocalExecutor(1) as executor:
        executor.submit([job("a", "start_child_and_rest", str(started)), job("b"), job("c", after=("b",))])
        (pids,) = eventually(lambda: lines(started))
    assert {status.state for status in executor.poll().values()} == {JobState.cancelled}
    eventually(lambda: not any(runs(pid) for pid in pids.split()))  # killed, and gone when the kernel comes to it
    executor.close()
    with pytest.raises(ValueError, match="closed"):
        executor.submit([job("d")])


ORCHESTRATOR = """
import sys, time
from pathlib import Path
from slurm import Job, LocalExecutor
sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
jobs = [Job(key=str(i), name=str(i), target=f"errands:{name}", arguments=[str(folder / "started")], log=folder / "log")
        for i, name in enumerate(sys.argv[3:])]
with LocalExecutor(len(jobs)) as executor:
    executor.submit(jobs)
    while True:
        executor.wait()
"""


@pytest.fixture
def orchestrator(tmp_path):
    """A process of its own that runs jobs, in a process group of its own, as a terminal would start it."""
    processes = []

    def start(*errands):
        command = [sys.executable, "-c", ORCHESTRATOR, str(HERE), str(tmp_path), *errands]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
        processes.append(process)
        eventually(lambda: len(lines(tmp_path / "started")) == len(errands) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        return process, [pid for line in lines(tmp_path / "started") for pid in line.split()]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def test_no_worker_outlives_a_killed_parent(orchestrator):
    parent, pids = orchestrator("start_child_and_rest", "ignore_sigterm", "hold_the_interpreter")
    assert all(runs(pid) for pid in pids)
    parent.kill()
    eventually(lambda: not any(runs(pid) for pid in pids))


def test_ctrl_c_reaches_only_the_parent_which_ends_its_jobs(orchestrator):
    parent, pids = orchestrator("start_child_and_rest", "start_child_and_rest")
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=PATIENCE)
    assert b"KeyboardInterrupt" in errors
    eventually(lambda: not any(runs(pid) for pid in pids))

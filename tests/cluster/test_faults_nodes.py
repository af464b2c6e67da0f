"""Time limits; nodes that die, drain, run out of memory, or have no working Python."""

import pytest

from slurm.executor import JobState, Resources
from tests.cluster.chore_book import eventually, finish

pytestmark = pytest.mark.xdist_group("slurm")


def node_of(chores, key):
    return eventually(lambda: chores.attempts(key))[-1].node


def test_a_time_limit_and_a_dead_node_end_a_piece_of_the_work_and_not_the_work(lab, open_executor, chores):
    executor = open_executor()
    whole = Resources(cpus=8, memory_gb=0.5, minutes=5)  # one element a node
    keys = ["limited", "orphaned", "calm"]
    steps = {"limited": 160, "orphaned": 100, "calm": 100}
    executor.submit([chores.count(key, steps[key], 0.25, resources=whole) for key in keys])
    eventually(lambda: all(chores.step(key) >= 2 for key in keys))
    victim = node_of(chores, "orphaned")
    # SLURM looks at time limits twice a minute, and at nodes as rarely: both at once. Limits come in whole minutes.
    limited = eventually(lambda: executor.poll()["limited"].worker)
    lab.ask("scontrol", "update", f"jobid={limited}", "EndTime=now+60seconds")
    lab.kill_node(victim)
    statuses = finish(executor, keys)
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert chores.done() == set(keys)
    assert len(chores.attempts("calm")) == 1
    first, second = chores.attempts("orphaned")
    assert (first.node, second.restart) == (victim, 1)
    assert second.node != victim
    assert second.begin >= 2
    pieces = chores.attempts("limited")
    assert len(pieces) >= 2, "the new limit holds for the starts that follow too"
    assert [piece.restart for piece in pieces] == list(range(len(pieces)))
    begins = [piece.begin for piece in pieces]
    assert begins == sorted(set(begins)), "each goes on where the one before stopped"
    for begin in begins[1:]:
        assert f"begins at {begin} after time limit" in chores.log("limited"), "told in time, and why"


def test_a_draining_node_finishes_what_it_has_and_takes_nothing_new(lab, open_executor, chores):
    executor = open_executor()
    executor.submit([chores.count("running", 30, 0.25)])
    node = node_of(chores, "running")
    lab.drain(node)
    late = [f"late{number}" for number in range(3)]
    executor.submit([chores.count(key) for key in late])
    statuses = finish(executor, ["running", *late])
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert chores.done() == {"running", *late}
    assert len(chores.attempts("running")) == 1
    assert all(node_of(chores, key) != node for key in late)


def test_a_job_over_its_memory_is_told_from_other_failures(open_executor, chores):
    executor = open_executor()
    small = Resources(cpus=1, memory_gb=0.3, minutes=5)
    executor.submit([
        chores.job("greedy", "eat", [700], resources=small),
        chores.job("modest", "eat", [20, 0.0], resources=small),
        chores.job("gone", "leave", [7], resources=small),
    ])  # fmt: skip
    statuses = finish(executor, ["greedy", "modest", "gone"])
    assert statuses["modest"].state is JobState.done
    assert statuses["greedy"].state is JobState.failed
    assert statuses["greedy"].cause == "out of memory"
    assert "memory" in statuses["greedy"].reason
    assert statuses["gone"].state is JobState.failed
    assert statuses["gone"].cause != "out of memory"


def test_a_python_that_does_not_start_is_a_failed_launch_with_a_log(open_executor, chores):
    executor = open_executor(setup=("export PYTHONHOME=/nowhere",))
    executor.submit([chores.count("never"), chores.need("child", "never")])
    statuses = finish(executor, ["never", "child"])
    assert (statuses["never"].state, statuses["never"].cause) == (JobState.failed, "launch")
    assert statuses["child"].state is JobState.blocked
    assert statuses["never"].log is not None
    assert "/nowhere" in statuses["never"].log.read_text()
    assert chores.done() == set()


def test_a_setup_that_fails_is_a_failed_launch_in_the_words_of_its_line(open_executor, chores):
    executor = open_executor(setup=("export FINE=1", "module_command load cuda"))
    executor.submit([chores.count("never")])
    status = finish(executor, ["never"])["never"]
    assert (status.state, status.cause) == (JobState.failed, "launch")
    assert "setup failed with status 127: module_command load cuda" in status.reason
    assert "module_command: command not found" in status.reason
    assert chores.done() == set()


def test_a_module_that_is_not_there_is_named(open_executor, chores):
    executor = open_executor()
    job = chores.count("never")
    executor.submit([type(job)(**{**job.__dict__, "target": "no_such_module:run"})])
    status = finish(executor, ["never"])["never"]
    assert status.state is JobState.failed
    assert "no_such_module" in status.reason

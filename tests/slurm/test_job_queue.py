"""The order of jobs, against a plain reference, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm import Job, JobState, JobStatus, Resources
from slurm.queue import JobQueue


def job(key, after=(), priority=0, **fields):
    return Job(key=key, name=f"job {key}", target="os:getpid", log=Path("log"), after=tuple(after), priority=priority,
               **fields)  # fmt: skip


@st.composite
def graphs(draw):
    """Jobs 0..n-1, each after some of a lower number, with priorities; and which of them fail."""
    count = draw(st.integers(1, 12))
    jobs = [
        job(
            str(i), [str(p) for p in sorted(draw(st.sets(st.integers(0, i - 1))))] if i else [], draw(st.integers(0, 2))
        )
        for i in range(count)
    ]
    return draw(st.permutations(jobs)), {str(i) for i in draw(st.sets(st.integers(0, count - 1)))}


@given(graphs())
@settings(max_examples=200, deadline=None)
def test_every_job_ends_as_its_ancestors_say_and_in_the_order_promised(graph):
    jobs, failing = graph
    queue = JobQueue()
    queue.add(jobs)
    states = {}
    while (first := queue.first()) is not None:
        may_start = [one for one in jobs if one.key not in states and all(states.get(p) == "done" for p in one.after)]
        assert first is max(may_start, key=lambda one: one.priority)  # the first of the highest, in order of submission
        queue.start(JobStatus(first.key, JobState.running))
        states[first.key] = "failed" if first.key in failing else "done"
        queue.settle(JobStatus(first.key, JobState[states[first.key]]))
    by_key = {one.key: one for one in jobs}

    def expected(key):
        if any(expected(parent) != "done" for parent in by_key[key].after):
            return "blocked"
        return "failed" if key in failing else "done"

    assert {key: status.state.value for key, status in queue.statuses.items()} == {key: expected(key) for key in by_key}
    assert queue.unfinished == 0
    blocked = [status for status in queue.statuses.values() if status.state is JobState.blocked]
    assert {status.reason for status in blocked} <= {f"job {key} failed" for key in failing}


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([job("a"), job("a")], "submitted twice"),
        ([job("old")], "submitted twice"),
        ([job("a", ["nobody"])], "'nobody', which was never submitted"),
        ([job("a", ["b"]), job("b", ["a"])], "wait for each other: job"),
        ([job("a", ["a"])], "wait for each other"),
    ],
)
def test_jobs_that_can_never_run_are_refused_whole(jobs, words):
    queue = JobQueue()
    queue.add([job("old")])
    with pytest.raises(ValueError, match=words):
        queue.add([job("fine"), *jobs])
    assert set(queue.statuses) == {"old"}


def test_jobs_cancelled_together_are_all_cancelled():
    queue = JobQueue()
    queue.add([job("c", ["b"]), job("b", ["a"]), job("a"), job("d", ["c"])])
    queue.cancel(["a", "b", "c"])
    assert [queue.statuses[key].state.value for key in "abcd"] == ["cancelled"] * 3 + ["blocked"]
    assert queue.first() is None


def test_a_job_submitted_again_forgets_whom_it_waited_for():
    queue = JobQueue()
    queue.add([job("bad"), job("slow"), job("child", ["bad", "slow"])])
    queue.settle(JobStatus("bad", JobState.failed))
    queue.add([job("child")])
    queue.settle(JobStatus("slow", JobState.failed))
    assert queue.statuses["child"].state is JobState.pending
    assert queue.first().key == "child"


def test_changes_are_told_once():
    queue = JobQueue()
    queue.add([job("a"), job("b", ["a"])])
    assert set(queue.take_changed()) == {"a", "b"}
    queue.settle(JobStatus("a", JobState.failed, "why"))
    assert {key: status.state.value for key, status in queue.take_changed().items()} == {"a": "failed", "b": "blocked"}
    assert queue.take_changed() == {}


def test_ten_thousand_jobs_in_a_chain_do_not_exhaust_the_stack():
    queue = JobQueue()
    queue.add([job(str(i), [str(i - 1)] if i else []) for i in range(10_000)])
    queue.settle(JobStatus("0", JobState.failed))
    assert queue.unfinished == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "module"}, {"target": ":f"}, {"target": "m:"}, {"arguments": "text"}, {"arguments": [Path("x")]},
        {"arguments": {"x": {1, 2}}},
    ],
)  # fmt: skip
def test_a_job_that_no_process_could_be_told_is_refused(fields):
    with pytest.raises(ValueError, match="of job a "):
        Job(**{"key": "a", "name": "a", "target": "m:f", "log": Path("log"), **fields})


def test_impossible_resources_are_refused():
    for name, value in {"gpus": -1, "cpus": 0, "nodes": 0, "memory_gb": 0, "minutes": -5}.items():
        with pytest.raises(ValueError, match=name):
            Resources(**{name: value})


def test_states_are_words():
    assert json.dumps([state for state in JobState if not state.final]) == '["pending", "running"]'
    assert f"{JobState.done} {JobState.failed!s}" == "done failed"

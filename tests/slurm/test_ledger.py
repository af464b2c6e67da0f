"""The ledger: whatever is cut off, whoever writes at the same time, what was written whole is read whole."""

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm.arrays import JobArray, Place
from slurm.cluster import ClusterError
from slurm.executor import Job, Resources
from slurm.ledger import Ledger, Ledgers


def array(*keys, throttle=4):
    jobs = [Job(key=key, name=f"probe/{key}", target="m:f", log=Path("log")) for key in keys]
    return JobArray("probe", Resources(minutes=30), dict(enumerate(jobs)), throttle=throttle)


def intend(ledger, token, *keys):
    ledger.intend(token, f"s.probe.{token}", ledger.path.parent / "jobs" / token, array(*keys),
                  dict.fromkeys(keys, ("parent",)))  # fmt: skip


def write_story(path):
    """Every kind of event."""
    ledger = Ledger(path)
    intend(ledger, "t1", "a", "b", "c")
    ledger.append({"event": "submitted", "token": "t1", "job": "70"})
    ledger.append({"event": "throttled", "token": "t1", "throttle": 9})
    ledger.mark("cancelled", "t1", [0, 2])
    ledger.mark("released", "t1", [1])
    intend(ledger, "t2", "b")
    ledger.append({"event": "refused", "token": "t2", "said": "Invalid qos"})
    ledger.append({"event": "blocked", "time": 5.0, "keys": {"d": "a failed"}})
    intend(ledger, "t3", "a")
    return ledger


def test_what_was_written_is_read_by_another_process_of_the_sweep(tmp_path):
    write_story(tmp_path / "submissions.jsonl")
    ledgers = Ledgers(tmp_path / "submissions.jsonl")
    ledgers.read()
    entries = ledgers.entries()
    assert {key: entry.submission.token for key, entry in entries.items()} == {"b": "t1", "c": "t1", "a": "t3"}
    first = entries["c"].submission
    assert (first.job, first.throttle, first.minutes, first.name) == ("70", 9, 30, "s.probe.t1")
    assert first.folder == tmp_path / "jobs" / "t1"
    assert [first.marked("cancelled", index) for index in range(3)] == [True, False, True]
    assert first.marked("released", 1)
    assert entries["b"].place == Place("70", 1)
    assert entries["b"].element.after == ("parent",)
    assert entries["a"].submission.job is None
    assert ledgers.blocked() == {"d": (5.0, "a failed")}


def test_every_prefix_of_a_ledger_loads_and_grows_into_the_whole(tmp_path):
    content = write_story(tmp_path / "whole").path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(content) if byte == ord("\n")]
    grown = Ledger(tmp_path / "grown")
    seen = []
    for length in range(len(content) + 1):
        (tmp_path / "grown").write_bytes(content[:length])
        grown.read()
        seen.append((len(grown.submissions), grown.submissions["t1"].job if "t1" in grown.submissions else None))
        assert grown._offset == max([0, *(end for end in ends if end <= length)])
    assert seen[0] == (0, None)
    assert seen[-1] == (3, "70")
    assert seen == sorted(seen, key=lambda one: (one[0], one[1] or ""))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2000), st.binary(max_size=50))
def test_a_torn_line_costs_itself_only(tmp_path_factory, length, garbage):
    folder = tmp_path_factory.mktemp("torn")
    content = write_story(folder / "submissions.jsonl").path.read_bytes()
    length = min(length, len(content))
    torn = content[:length] + garbage.replace(b"\n", b"")
    (folder / "submissions.jsonl").write_bytes(torn)
    before = Ledger(folder / "submissions.jsonl")
    before.read()
    whole = content[:length].rpartition(b"\n")[0].splitlines()  # garbage behind a line without its end is part of it
    tokens = {json.loads(line)["token"] for line in whole if b'"elements":{' in line}
    ledger = Ledger(folder / "submissions.jsonl")
    intend(ledger, "new", "z")
    assert {"new", *tokens} <= set(ledger.submissions)
    assert ledger.submissions["new"].elements[0].key == "z"


def append_many(path, writer):
    ledger = Ledger(path)
    for number in range(100):
        intend(ledger, f"{writer}-{number}", *(f"{writer}-{number}-{key}" for key in range(200)))


def test_writers_at_the_same_moment_lose_nothing(tmp_path):
    path = tmp_path / "submissions.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(path, writer)) for writer in "xyz"]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    ledger = Ledger(path)
    ledger.read()
    assert set(ledger.submissions) == {f"{writer}-{number}" for writer in "xyz" for number in range(100)}
    assert all(len(submission.elements) == 200 for submission in ledger.submissions.values())


def test_a_mark_on_another_sweeps_array_is_kept_in_ones_own_ledger(tmp_path):
    other = write_story(tmp_path / "other" / "submissions.jsonl")
    before = other.path.read_bytes()
    mine = Ledgers(tmp_path / "mine" / "submissions.jsonl", [other.path])
    mine.read()
    mine.own.mark("cancelled", "t1", [1])
    mine.read()
    assert mine.entries()["b"].submission.marked("cancelled", 1)
    assert other.path.read_bytes() == before


def test_the_newest_submission_of_all_ledgers_counts(tmp_path):
    first, second = Ledger(tmp_path / "a" / "l"), Ledger(tmp_path / "b" / "l")
    intend(first, "t1", "shared", "first")
    intend(second, "t2", "shared")
    for own, other in ((first, second), (second, first)):
        ledgers = Ledgers(own.path, [other.path])
        ledgers.read()
        assert ledgers.entries()["shared"].submission.token == "t2"
        assert ledgers.entries()["first"].submission.token == "t1"


def hold(path, taken, leave):
    with Ledgers(path).alone():
        taken.set()
        leave.wait()


def test_one_submits_at_a_time_and_a_dead_one_holds_nobody_up(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    taken, leave = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "mine", taken, leave))
    holder.start()
    taken.wait()
    monkeypatch.setattr("slurm.ledger.LOCK_SECONDS", 0.2)
    for ledgers in (Ledgers(tmp_path / "mine"), Ledgers(tmp_path / "another", [tmp_path / "mine"])):
        with pytest.raises(ClusterError, match="another submission is under way"), ledgers.alone():
            pass
    holder.kill()
    holder.join()
    with Ledgers(tmp_path / "another", [tmp_path / "mine"]).alone():
        pass


def test_a_ledger_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match="cannot write down a submission") as caught:
        intend(Ledger(tmp_path / "file" / "submissions.jsonl"), "t1", "a")
    assert str(tmp_path / "file" / "submissions.jsonl") in str(caught.value)

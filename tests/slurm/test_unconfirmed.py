"""Submissions that were cut short: given up soon where their sbatch would be seen, nowhere while it may live."""

import json
import os
import subprocess
import time

import pytest

from slurm import unconfirmed
from slurm.arrays import JobArray
from slurm.executor import Job, Resources
from slurm.ledger import Ledgers
from slurm.unconfirmed import GRACE_SECONDS, UNCONFIRMED_SECONDS, Unconfirmed, is_visible, sent_here

TOKEN = "0a1b2c3d"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A squeue that answers what ``queue`` holds, a sacct that knows nothing, and an sbatch that never ends."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (tmp_path / "queue").touch()
    texts = {"squeue": f"cat {tmp_path}/queue", "sacct": "true", "sbatch": "while :; do sleep 0.1; done"}
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def sbatch(programs, tmp_path):
    """An sbatch on its way."""
    with subprocess.Popen([programs / "sbatch", "--parsable", tmp_path / "jobs" / TOKEN / "submission.sh"]) as process:
        yield process
        process.kill()


def intend(path, token=TOKEN, **changes):
    """Ledgers in which a submission was begun; ``changes`` are made to what stands there, None leaves it out."""
    ledgers = Ledgers(path)
    jobs = {0: Job(key="probe/1", name="probe/1", target="m:f", log=path)}
    ledgers.own.intend(token, f"s.probe.{token}", path.parent / "jobs" / token,
                       JobArray("probe", Resources(), jobs), {"probe/1": ()})  # fmt: skip
    event = json.loads(path.read_text()) | changes
    left_out = [name for name, value in changes.items() if value is None]
    path.write_text(json.dumps({name: value for name, value in event.items() if name not in left_out}) + "\n")
    fresh = Ledgers(path)
    fresh.read()
    return fresh


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_sbatch_is_seen_by_the_folder_on_its_command_line(sbatch):
    wait_for(lambda: sent_here([TOKEN, "ffffffff"]) == {TOKEN})
    sbatch.kill()
    sbatch.wait()
    assert sent_here([TOKEN]) == set()


@pytest.mark.parametrize("changes", [{"host": "elsewhere pid:[1]"}, {"host": None}, {"user": os.getuid() + 1}])
def test_a_submission_of_another_machine_or_user_or_of_an_old_ledger_is_given_up_by_time_alone(
    tmp_path, programs, changes, monkeypatch
):
    monkeypatch.setattr(unconfirmed, "GRACE_SECONDS", 0.0)
    ledgers = intend(tmp_path / "ledger", **changes)
    look = Unconfirmed(ledgers)
    look.look()
    assert look.seconds["probe/1"] == pytest.approx(UNCONFIRMED_SECONDS, abs=20)
    assert "probe/1" in ledgers.entries()
    old = Unconfirmed(intend(tmp_path / "old", time=time.time() - UNCONFIRMED_SECONDS - 1, **changes))
    old.look()
    assert old.seconds == {}
    assert old.ledgers.entries() == {}


def test_one_of_this_machine_is_given_up_when_its_sbatch_is_gone_for_a_while(tmp_path, programs, sbatch, monkeypatch):
    ledgers = intend(tmp_path / "ledger")
    look = Unconfirmed(ledgers)
    wait_for(lambda: sent_here([TOKEN]))
    look.look()
    assert look.seconds["probe/1"] == pytest.approx(GRACE_SECONDS, abs=1)
    monkeypatch.setattr(unconfirmed, "GRACE_SECONDS", 0.0)
    sbatch.kill()
    sbatch.wait()
    look.look()
    assert look.seconds == {}
    assert ledgers.entries() == {}
    assert json.loads((tmp_path / "ledger").read_text().splitlines()[-1])["event"] == "refused"


def test_one_that_is_still_sent_is_never_given_up_before_its_time(tmp_path, programs, sbatch, monkeypatch):
    wait_for(lambda: sent_here([TOKEN]))
    look = Unconfirmed(intend(tmp_path / "ledger"))
    monkeypatch.setattr(unconfirmed, "GRACE_SECONDS", 0.05)
    for _ in range(3):
        look.look()
        assert look.seconds == {"probe/1": 0.05}
        time.sleep(0.1)


def test_one_that_the_cluster_has_is_taken_over_also_after_it_was_given_up(tmp_path, programs, monkeypatch):
    monkeypatch.setattr(unconfirmed, "GRACE_SECONDS", 0.0)
    ledgers = intend(tmp_path / "ledger")
    (tmp_path / "queue").write_text(f"71|0|PENDING|None||N/A|N/A|s.probe.{TOKEN}\n")
    Unconfirmed(ledgers).look()
    assert ledgers.entries()["probe/1"].submission.job == "71"
    late = intend(tmp_path / "late")
    late.own.append({"event": "refused", "token": TOKEN, "said": "the cluster does not know it"})
    assert late.entries() == {}
    late.own.append({"event": "submitted", "token": TOKEN, "job": "72"})  # by a submitter that had been asleep
    assert late.entries()["probe/1"].submission.job == "72"


def test_of_a_cluster_that_does_not_answer_nothing_is_concluded(tmp_path, programs, monkeypatch):
    monkeypatch.setattr(unconfirmed, "GRACE_SECONDS", 0.0)
    (programs / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    ledgers = intend(tmp_path / "ledger", time=1.0)
    with pytest.raises(ValueError, match="no answer"):
        Unconfirmed(ledgers).look()
    assert "probe/1" in ledgers.entries()


def test_another_sweeps_submission_is_not_ours_to_give_up_early(tmp_path, programs, monkeypatch):
    monkeypatch.setattr(unconfirmed, "GRACE_SECONDS", 0.0)
    intend(tmp_path / "theirs")
    ledgers = Ledgers(tmp_path / "ours", [tmp_path / "theirs"])
    ledgers.read()
    look = Unconfirmed(ledgers)
    look.look()
    assert look.seconds["probe/1"] > GRACE_SECONDS
    assert is_visible(ledgers.entries()["probe/1"].submission)

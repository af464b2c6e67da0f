"""Taking over a claim: whose owner is dead, and whose only looks so."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.tokscale.contenders import HOUR, expect_eventually, publish, race
from tokscale import claim as claims
from tokscale import owner as owners
from tokscale.claim import claim, holder, state
from tokscale.errors import StoreError
from tokscale.owner import this_process

pytestmark = pytest.mark.usefixtures("fresh_look_at_the_clock")


def test_a_killed_owner_is_followed_at_once_by_exactly_one(tmp_path, contenders):
    processes = contenders(6)
    for turn in range(5):
        folder = tmp_path / str(turn)
        (owner,) = contenders(1)
        assert race([owner], folder) == [1]
        assert race(processes, folder) == [0] * 6
        owner.kill()
        owner.wait()
        assert state(folder).kind == "dead"
        assert sorted(race(processes, folder)) == [0] * 5 + [2]


def test_a_live_owner_whom_proc_hides_is_not_dead(tmp_path, contenders, monkeypatch):
    (owner,) = contenders(1)
    race([owner], tmp_path)
    monkeypatch.setattr(owners, "_process_start", lambda pid: None)  # what hidepid=2 makes of other people's processes
    assert state(tmp_path).kind == "held"
    owner.kill()
    owner.wait()
    assert state(tmp_path).kind == "dead"


def test_an_owner_killed_but_not_yet_buried_is_dead(tmp_path, contenders):
    (owner,) = contenders(1)
    race([owner], tmp_path)
    owner.kill()
    expect_eventually(lambda: Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert claim(tmp_path).attempt == 2


def test_a_reused_process_id_is_not_the_owner(tmp_path):
    publish(tmp_path, start="1")
    assert state(tmp_path).kind == "dead"


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"host": "elsewhere", "pid": 2**30},
        {"host": "elsewhere", "boot": "another", "machine": "another"},
        {"pid_namespace": "pid:[1]", "pid": 2**30},  # a container beside this one, with the same host name
        {"boot": "another", "machine": "another"},  # another machine that was given the same name
    ],
)
def test_an_owner_that_cannot_be_seen_lives_as_long_as_its_lease(tmp_path, elsewhere):
    owner = publish(tmp_path, age=claims.LEASE - 30, **elsewhere)
    assert holder(tmp_path) == owner
    assert claim(tmp_path) is None
    publish(tmp_path, age=claims.LEASE + 30, **elsewhere)
    assert state(tmp_path).kind == "dead"
    assert claim(tmp_path).attempt == 2


def test_an_owner_of_an_earlier_boot_of_this_machine_is_dead(tmp_path, monkeypatch):
    namespace = this_process(1).pid_namespace
    monkeypatch.setattr(owners, "INITIAL_PID_NAMESPACE", namespace)
    monkeypatch.setattr(owners, "_surroundings", lambda: ("this boot", "this machine", namespace))
    publish(tmp_path, boot="an earlier boot")
    assert state(tmp_path).kind == "dead"
    monkeypatch.setattr(owners, "INITIAL_PID_NAMESPACE", "pid:[0]")  # in a container the name proves nothing
    assert state(tmp_path).kind == "held"


def test_the_lease_is_the_one_that_the_owner_promised(tmp_path):
    publish(tmp_path, age=2 * claims.LEASE, host="elsewhere", lease=10 * claims.LEASE)
    assert claim(tmp_path, lease=1.0, interval=0.1) is None


def test_a_wrong_clock_of_this_node_steals_nothing(tmp_path, monkeypatch):
    publish(tmp_path, host="elsewhere")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + HOUR)
    assert claim(tmp_path) is None
    monkeypatch.setattr(time, "time", lambda: right() - HOUR)
    publish(tmp_path, host="elsewhere", age=claims.LEASE + 30)
    assert claim(tmp_path).attempt == 2


def test_a_heartbeat_keeps_a_claim_alive_and_stops_with_it(tmp_path):
    with claim(tmp_path, lease=10, interval=0.01):
        path = tmp_path / "claim" / "0001"
        os.utime(path, (0, 0))
        expect_eventually(lambda: path.stat().st_mtime > 0)
    expect_eventually(lambda: not any(thread.name.endswith(str(path)) for thread in threading.enumerate()))


def test_a_stalled_owner_that_was_replaced_notices(tmp_path, contenders):
    mine = claim(tmp_path)
    path = tmp_path / "claim" / "0001"
    os.utime(path, (0, 0))
    (other,) = contenders(1)
    assert race([other], tmp_path) == [2]
    assert not mine.owned()
    with pytest.raises(StoreError, match=f"taken over by process {other.pid} on "):
        mine.check()
    mine.release({"state": "interrupted"})
    assert state(tmp_path).kind == "held"


def test_a_suspended_owner_keeps_its_claim_within_the_lease(tmp_path, contenders):
    (owner,) = contenders(1)
    race([owner], tmp_path)
    owner.send_signal(signal.SIGSTOP)
    assert claim(tmp_path) is None


def test_an_owner_whose_claim_was_removed_notices(tmp_path):
    mine = claim(tmp_path)
    shutil.rmtree(tmp_path / "claim")
    with pytest.raises(StoreError, match="removed"):
        mine.check()
    assert claim(tmp_path).attempt == 1
    assert not mine.owned()


def job(monkeypatch, number, restart):
    monkeypatch.setenv("SLURM_JOB_ID", number)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))


def test_a_requeued_job_takes_over_from_its_earlier_self_at_once(tmp_path, monkeypatch):
    job(monkeypatch, "5", 1)
    publish(tmp_path, host="elsewhere", job="5", restart=0)
    with claim(tmp_path) as mine:
        assert (mine.attempt, mine.owner.job, mine.owner.restart) == (2, "5", 1)


@pytest.mark.parametrize(
    ("number", "restart", "cluster"), [("5", 1, ""), ("5", 2, ""), ("6", 0, ""), ("5", 0, "other")]
)
def test_other_jobs_and_the_same_start_keep_their_lease(tmp_path, monkeypatch, number, restart, cluster):
    job(monkeypatch, "5", 1)
    publish(tmp_path, host="elsewhere", job=number, restart=restart, cluster=cluster)
    assert claim(tmp_path) is None
    assert f"job {number}" in str(holder(tmp_path))


def test_claims_from_before_jobs_were_noted_still_read(tmp_path):
    publish(tmp_path, host="elsewhere")
    path = tmp_path / "claim" / "0001"
    content = {name: value for name, value in json.loads(path.read_text()).items()
               if name not in ("job", "restart", "cluster")}  # fmt: skip
    path.write_text(json.dumps(content))
    assert (holder(tmp_path).host, holder(tmp_path).job) == ("elsewhere", "")

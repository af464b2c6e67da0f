"""The claim on a stage's folder, with real processes that race, die, sleep and lose."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tokscale import claim as claims
from tokscale import owner as owners
from tokscale.claim import claim, holder, state
from tokscale.errors import StoreError
from tokscale.owner import this_process

PATIENCE = 60.0
HOUR = 3600.0

# Says what it got, and holds it until its standard input closes.
CONTENDER = """
import sys
from pathlib import Path
from tokscale.claim import claim
for line in sys.stdin:
    got = claim(Path(line.strip()))
    print(got.attempt if got else 0, flush=True)
"""


@pytest.fixture(autouse=True)
def fresh_look_at_the_clock():
    claims._clocks.clear()


@pytest.fixture
def contenders():
    """Start processes that claim the folders that they are told."""
    processes = []

    def start(count):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", CONTENDER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for _ in range(count)
        ]
        processes.extend(started)
        return started

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def race(processes, folder):
    """All try at once; what each got."""
    for process in processes:
        process.stdin.write(f"{folder}\n")
    for process in processes:
        process.stdin.flush()
    return [int(process.stdout.readline()) for process in processes]


def expect_eventually(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def publish(folder, attempt=1, age=0.0, **fields):
    """Leave a claim as another process would have."""
    path = folder / "claim" / f"{attempt:04}"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = replace(this_process(attempt), token="another", **fields)
    path.write_text(json.dumps(asdict(owner)))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return owner


def test_a_claim_is_held_then_released_then_free_for_the_next_attempt(tmp_path):
    assert state(tmp_path).kind == "free"
    with claim(tmp_path) as mine:
        assert mine.attempt == 1
        assert mine.owned()
        mine.check()
        assert state(tmp_path).kind == "held"
        assert holder(tmp_path) == mine.owner
        assert holder(tmp_path).pid == os.getpid()
        assert claim(tmp_path) is None
        mine.release({"state": "failed", "reason": "nan"})
    after = state(tmp_path)
    assert (after.kind, after.attempt, after.outcome) == ("released", 1, {"state": "failed", "reason": "nan"})
    assert holder(tmp_path) is None
    with claim(tmp_path) as again:
        assert again.attempt == 2
    assert state(tmp_path).outcome == {"state": "done"}
    assert sorted(path.name for path in (tmp_path / "claim").iterdir()) == [
        "0001", "0001.released", "0002", "0002.released",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("bad"), {"state": "failed", "error": "ValueError: bad"}),
     (KeyboardInterrupt(), {"state": "interrupted", "error": "KeyboardInterrupt: "})],
)  # fmt: skip
def test_leaving_by_an_exception_says_so(tmp_path, error, outcome):
    with pytest.raises(type(error)), claim(tmp_path):
        raise error
    assert state(tmp_path).outcome == outcome


def test_another_thread_of_the_owner_is_refused(tmp_path):
    got = []
    with claim(tmp_path):
        thread = threading.Thread(target=lambda: got.append(claim(tmp_path)))
        thread.start()
        thread.join()
    assert got == [None]


def test_of_eight_processes_that_race_one_wins(tmp_path, contenders):
    processes = contenders(8)
    for turn in range(25):
        assert sorted(race(processes, tmp_path / str(turn))) == [0] * 7 + [1]


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


@pytest.fixture
def no_hard_links(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def test_without_hard_links_a_claim_is_still_exclusive(tmp_path, no_hard_links):
    got = []
    for turn in range(20):
        start = threading.Barrier(4)

        def contend(folder=tmp_path / str(turn), start=start):
            start.wait()
            got.append(claim(folder))

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len([one for one in got if one]) == 20
    assert [path.name for path in (tmp_path / "0" / "claim").iterdir()] == ["0001"]


def test_a_claim_that_is_still_being_written_has_its_lease(tmp_path):
    (tmp_path / "claim").mkdir()
    path = tmp_path / "claim" / "0001"
    path.touch()
    assert claim(tmp_path) is None
    assert "unknown process" in str(holder(tmp_path))
    os.utime(path, (0, 0))
    assert claim(tmp_path).attempt == 2


def test_our_own_link_that_a_server_reports_as_there_already_is_ours(tmp_path, monkeypatch):
    link = os.link

    def answered_twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", answered_twice)
    assert claim(tmp_path).attempt == 1


def test_files_left_by_killed_contenders_harm_nobody(tmp_path):
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / ".0001.abc").write_text("half")
    (tmp_path / "claim" / ".clock.abc").touch()
    assert state(tmp_path).kind == "free"
    assert claim(tmp_path).attempt == 1


ATTEMPT = """
import os, resource, sys
from pathlib import Path
from tokscale.claim import claim, state
from tokscale.errors import StoreError
folder = Path(sys.argv[1])
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
elif os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(state(folder).kind)
try:
    claim(folder)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("trouble", "kind", "words"),
    [
        ("read-only", "dead", "cannot write 0002: Permission denied"),
        ("full", "free", "cannot write 0001: File too large"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_message_and_can_still_be_read(trouble, kind, words):
    # Not in pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if trouble == "read-only":
            publish(folder, host="elsewhere", age=2 * claims.LEASE)
            (folder / "claim").chmod(0o555)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", ATTEMPT, name, trouble]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert said.startswith(f"{kind}\n{words}\n  where:   {folder}/claim\n  allowed: a folder with")
        assert len(list((folder / "claim").iterdir())) == (1 if trouble == "read-only" else 0)
        (folder / "claim").chmod(0o755)
        assert claim(folder) is not None


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


def test_outcomes_are_those_of_all_attempts_that_are_over(tmp_path):
    assert claims.outcomes(tmp_path) == []
    with claim(tmp_path) as first:
        assert claims.outcomes(tmp_path) == []
        first.release({"state": "failed", "cause": "code"})
    publish(tmp_path, attempt=2, age=HOUR, host="elsewhere")
    with claim(tmp_path):
        over = claims.outcomes(tmp_path)
        assert [(each.kind, each.attempt, each.outcome) for each in over] == [
            ("released", 1, {"state": "failed", "cause": "code"}), ("dead", 2, None),
        ]  # fmt: skip
    assert len(claims.outcomes(tmp_path)) == 3

"""The claim on a stage's folder, with real processes that race, die, sleep and lose."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.tokscale.contenders import HOUR, publish, race
from tokscale import claim as claims
from tokscale.claim import claim, holder, state

pytestmark = pytest.mark.usefixtures("fresh_look_at_the_clock")


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

"""A snapshot is the code as it was, whatever happens to the source or to the snapshot's disk afterwards."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tokscale
from slurm.snapshot import take_snapshot


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own, found by import, with code, data, a cache and a link."""
    root = tmp_path / "checkout"
    package = root / "parcel"
    (package / "inside" / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("ANSWER = 1\n")
    (package / "py.typed").touch()
    (package / "inside" / "table.csv").write_text("a,b\n")
    (package / "inside" / "__pycache__" / "x.cpython-311.pyc").write_text("")
    (package / ".hidden").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.py").write_text("LINKED = True\n")
    (package / "linked.py").symlink_to(tmp_path / "elsewhere" / "linked.py")
    (package / "away").symlink_to(tmp_path / "elsewhere")
    (package / "inside" / "loop").symlink_to(package)
    monkeypatch.syspath_prepend(str(root))
    return package


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def answer(snapshot: Path) -> str:
    code = "import parcel, parcel.linked; print(parcel.ANSWER, parcel.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(snapshot)},
                          cwd="/", capture_output=True, text=True, check=True)  # fmt: skip
    return done.stdout.strip()


def test_everything_a_package_ships_and_nothing_else(source: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(["parcel"], tmp_path / "code")
    assert files(snapshot) == {
        "parcel/__init__.py", "parcel/py.typed", "parcel/inside/table.csv", "parcel/linked.py",
        "parcel/away/linked.py", "snapshot.json", "changes.diff",
    }  # fmt: skip
    assert not (snapshot / "parcel/linked.py").is_symlink()
    assert (snapshot / "parcel/linked.py").stat().st_mode & 0o222 == 0
    assert [path.name for path in (tmp_path / "code").iterdir()] == [snapshot.name]


def test_later_edits_have_no_effect(source: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(["parcel"], tmp_path / "code")
    (source / "__init__.py").write_text("ANSWER = 2\n")
    assert answer(snapshot) == f"1 {snapshot}/parcel/__init__.py"
    second = take_snapshot(["parcel"], tmp_path / "code")
    assert second != snapshot
    assert answer(second).startswith("2 ")


def test_same_code_is_taken_once(source: Path, tmp_path: Path) -> None:
    first = take_snapshot(["parcel"], tmp_path / "code")
    written = (first / "snapshot.json").stat().st_mtime_ns
    (source / "inside" / "__pycache__" / "y.pyc").write_text("another cache")
    assert take_snapshot(["parcel"], tmp_path / "code") == first
    assert (first / "snapshot.json").stat().st_mtime_ns == written


def test_moved_content_is_other_code(source: Path, tmp_path: Path) -> None:
    first = take_snapshot(["parcel"], tmp_path / "code")
    (source / "inside" / "table.csv").rename(source / "inside" / "other.csv")
    assert take_snapshot(["parcel"], tmp_path / "code") != first


def test_many_takers_at_once(source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        taken = set(pool.map(lambda _: take_snapshot(["parcel"], tmp_path / "code"), range(16)))
    assert len(taken) == 1
    assert [path.name for path in (tmp_path / "code").iterdir()] == [taken.pop().name]


def test_what_a_cleaned_disk_lost_is_put_back(source: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(["parcel"], tmp_path / "code")
    (snapshot / "parcel" / "__init__.py").unlink()
    (snapshot / "parcel" / "linked.py").chmod(0o644)
    (snapshot / "parcel" / "linked.py").write_text("")
    assert take_snapshot(["parcel"], tmp_path / "code") == snapshot
    assert answer(snapshot).startswith("1 ")
    assert (snapshot / "parcel" / "linked.py").read_text() == "LINKED = True\n"


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout


def test_commit_and_changes_are_told(source: Path, tmp_path: Path) -> None:
    root = source.parent
    assert json.loads((take_snapshot(["parcel"], tmp_path / "code") / "snapshot.json").read_text())["git"] is None
    git(root, "init", "-q")
    (root / ".gitignore").write_text("__pycache__\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    clean = json.loads((take_snapshot(["parcel"], tmp_path / "two") / "snapshot.json").read_text())["git"]
    assert clean == {"commit": git(root, "rev-parse", "HEAD").strip(), "dirty": False, "changes_sha256": None,
                     "untracked": []}  # fmt: skip
    (source / "__init__.py").write_text("ANSWER = 3\n")
    (source / "new.py").write_text("")
    before = (root / ".git" / "index").read_bytes()
    snapshot = take_snapshot(["parcel"], tmp_path / "code")
    changed = json.loads((snapshot / "snapshot.json").read_text())["git"]
    assert (changed["commit"], changed["dirty"], changed["untracked"]) == (clean["commit"], True, ["parcel/new.py"])
    assert "+ANSWER = 3" in (snapshot / "changes.diff").read_text()
    assert (root / ".git" / "index").read_bytes() == before


def test_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no_such_package"):
        take_snapshot(["no_such_package"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_jobs_run_from_a_snapshot_of_this_project(tmp_path: Path) -> None:
    snapshot = take_snapshot(["tokscale", "slurm"], tmp_path)
    assert {path.name for path in snapshot.iterdir()} == {"tokscale", "slurm", "snapshot.json", "changes.diff"}
    code = "import tokscale, slurm.element, tokscale.config; print(tokscale.__file__, tokscale.__version__)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(snapshot)}, cwd="/",
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.strip() == f"{snapshot}/tokscale/__init__.py {tokscale.__version__}"

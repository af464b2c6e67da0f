"""The code as it is now, kept for jobs that start later: what runs is what was submitted, whatever is edited since.

<into>/<hash>/<package>/...    the files, read-only
<into>/<hash>/snapshot.json    where they come from: git commit, whether it was changed since, hash of the changes
<into>/<hash>/changes.diff     the changes
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DESCRIPTION_NAME = "snapshot.json"
CHANGES_NAME = "changes.diff"
_NOT_CODE = (".pyc", ".pyo", "~", ".swp", ".egg-info", ".dist-info")
GIT_SECONDS = 60.0


def take_snapshot(packages: Sequence[str], into: Path) -> Path:
    """Copy import packages into a folder below ``into`` named by their content, and return it: a PYTHONPATH entry.

    The same code gives the same folder, copied once, whoever else takes it at the same moment; files that were lost
    from it since, as on a scratch disk that is cleaned, are put back. Everything that lies in a package is taken but
    caches and hidden files; links are followed. ``ValueError`` names a package that cannot be found.
    """
    sources = {name: _place(name) for name in packages}
    # Read once: what is written is what was hashed, even while somebody edits.
    files = {path: content for name, source in sources.items() for path, content in _read(name, source)}
    summary = hashlib.sha256()
    for path in sorted(files):
        summary.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode())
    name = summary.hexdigest()[:16]
    folder = into.absolute() / name
    if not folder.exists():
        _create(folder, files, {"sha256": summary.hexdigest(), "packages": list(packages)}, sources)
    _mend(folder, files)
    return folder


def _create(folder: Path, files: dict[str, bytes], about: dict[str, Any], sources: dict[str, Path]) -> None:
    """Write a snapshot under a temporary name and rename it; whoever comes second throws his away."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        for path, content in files.items():
            _write(temporary / path, content)
        git, changes = describe_checkout(list(sources.values()))
        description = {**about, "files": len(files), "taken": time.time(), "git": git,
                       "from": {name: str(source) for name, source in sources.items()}}  # fmt: skip
        _write(temporary / CHANGES_NAME, changes)
        _write(temporary / DESCRIPTION_NAME, json.dumps(description, indent=1).encode())
        os.rename(temporary, folder)
    except OSError:
        if not folder.exists():  # otherwise somebody else's is there, and a folder that is not empty is not replaced
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _mend(folder: Path, files: dict[str, bytes]) -> None:
    """Put back what is missing or was changed; the name of the folder says what belongs there."""
    for path, content in files.items():
        place = folder / path
        try:
            whole = place.read_bytes() == content
        except OSError:
            whole = False
        if not whole:
            temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
            _write(temporary, content)
            os.replace(temporary, place)


def _place(package: str) -> Path:
    """The folder of a package, or the file of a single module, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
        return Path(spec.origin)
    raise ValueError(f"package {package!r} cannot be found, so no snapshot of it can be taken")


def _read(package: str, source: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a package: path below the snapshot, content."""
    if source.is_file():
        yield source.name, source.read_bytes()
        return
    visited = set()
    for folder, below, names in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above it
            below.clear()
            continue
        visited.add(real)
        below[:] = [name for name in below if name != "__pycache__" and not _is_left_out(name)]
        for name in names:
            path = Path(folder, name)
            if not _is_left_out(name) and path.is_file():
                with contextlib.suppress(FileNotFoundError):  # an editor's own file, gone again
                    yield (Path(package) / path.relative_to(source)).as_posix(), path.read_bytes()


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.endswith(_NOT_CODE)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)


def describe_checkout(sources: Sequence[Path]) -> tuple[dict[str, Any] | None, bytes]:
    """Commit, changes and untracked files of the git checkout that the sources lie in; None and nothing outside one."""
    top = _git(sources[0].parent, "rev-parse", "--show-toplevel")
    commit = _git(sources[0].parent, "rev-parse", "HEAD")
    if top is None or commit is None:
        return None, b""
    root = Path(os.fsdecode(top).rstrip("\n"))
    inside = [str(source) for source in sources if source.resolve().is_relative_to(root)]
    if not inside or not _git(root, "ls-files", "--", *inside):
        return None, b""  # an installed package in an environment that happens to lie in a checkout
    changes = _git(root, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "--", *inside)
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *inside)
    new = sorted(os.fsdecode(path) for path in (untracked or b"").split(b"\0") if path)
    changes = changes or b""
    return {
        "commit": commit.decode().strip(), "dirty": bool(changes or new),
        "changes_sha256": hashlib.sha256(changes).hexdigest() if changes else None, "untracked": new,
    }, changes  # fmt: skip


def _git(folder: Path, *words: str) -> bytes | None:
    """What git prints, or None when there is no git, no checkout, or no answer."""
    try:
        # Without locks: nothing of the checkout may change, not even its index.
        command = ["git", "-C", str(folder), "--no-optional-locks", *words]
        return subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None

"""Fetching weights: to a temporary name, resumed where the server can, checked, and only then given their name."""

from __future__ import annotations

import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tokscale.errors import StoreError, WeightsError
from tokscale.record import digest, write_atomically
from tokscale.weights import SIDECAR, Weights, fault_of

_BLOCK = 1 << 20
_SECONDS = 60.0  # without a byte
Told = Callable[[int, int | None], None]
"""hears how many bytes are there, and of how many where the server says so"""


def fetch(entry: Weights, folder: Path, told: Told = lambda done, total: None) -> Path:
    """The file of these weights in that folder, fetched unless it is there and right.

    What an earlier attempt left is taken up again. Raises ``WeightsError`` when it cannot be fetched, or is not what
    its published hash says, and ``StoreError`` when the folder refuses.
    """
    final = folder / entry.file
    if final.is_file():
        fault = fault_of(entry, final)
        if fault is None:
            return final
        raise WeightsError("a file of this name is there, and it is damaged", where=str(final), given=fault,
                           allowed="remove it, then fetch again")  # fmt: skip
    temporary = folder / f".{entry.file}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(temporary) as file:
            _receive(entry, file, final, told)
            _settle(entry, temporary, final)
    except OSError as error:
        raise StoreError(
            f"cannot write {entry.file}: {error.strerror or error}", where=str(folder),
            allowed="a folder with free space and write permission (--to chooses another)",
        ) from error  # fmt: skip
    return final


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """The temporary file, for this process alone."""
    with open(path, "ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WeightsError("another process is fetching this file", where=str(path),
                               allowed="wait until it is done") from None  # fmt: skip
        yield file


def _receive(entry: Weights, file: BinaryIO, final: Path, told: Told) -> None:
    """Append what is missing; begin anew where the server does not go on from there."""
    try:
        with _opened(entry, file.seek(0, os.SEEK_END)) as answer:
            if answer.status != http.client.PARTIAL_CONTENT:
                file.truncate(0)
            done = file.seek(0, os.SEEK_END)
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length is not None else None
            while block := _read(answer):
                file.write(block)
                done += len(block)
                told(done, total)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        status = isinstance(error, urllib.error.HTTPError)
        raise _unreachable(entry, final, str(error if status else getattr(error, "reason", error))) from error
    file.flush()
    os.fsync(file.fileno())
    if total is not None and done < total:
        raise _unreachable(entry, final, f"the connection ended after {done} of {total} bytes")


def _opened(entry: Weights, have: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(entry.url, headers={"User-Agent": "tokscale"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return _opened(entry, 0)
        raise
    return answer


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial


def _settle(entry: Weights, temporary: Path, final: Path) -> None:
    """Check the file and give it its name; a wrong one is removed."""
    found = str(digest(temporary)["sha256"])
    if entry.published is not None and not found.startswith(entry.published):
        temporary.unlink()
        raise WeightsError(
            "what was fetched is not what its name promises, and was removed", where=entry.url,
            given=f"SHA-256 {found[:12]}...", allowed=f"a file whose SHA-256 begins with {entry.published}",
        )  # fmt: skip
    if entry.published is None:
        write_atomically(final.with_name(final.name + SIDECAR), f"{found}  {final.name}\n".encode())
    os.replace(temporary, final)


def _unreachable(entry: Weights, final: Path, why: str) -> WeightsError:
    return WeightsError(
        f"cannot fetch the weights {entry.name}", where=entry.url, given=why,
        allowed=f"run it again to go on from there; or, without internet, put the file at {final}",
    )  # fmt: skip

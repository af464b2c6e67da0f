"""Pixels that were decoded before, in a folder that ``TOKSCALE_DECODED`` names: each file is decoded once.

Of a centre crop the crop is kept, of a random crop the image that it is cut from: what comes out is the same, bit by
bit, with the folder and without. That pays where the folder is on a fast disk, or in memory (/dev/shm), and decoding
keeps the processors busy: an image of 500 x 375 pixels takes 560 kB, a crop of 256 a third of it. The folder may be
shared by any number of processes, and be emptied at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

DECODED_VARIABLE = "TOKSCALE_DECODED"

_WORD, _FIXED = 8, 2  # bytes of a number, and how many numbers there are whatever the dimensions
_VERSION = 1  # of what decoding and cropping make of a file
_log = logging.getLogger(__name__)


class KeptPixels:
    """Arrays of uint8 by name. What is not whole is not there; once a disk refuses one, no more are written.

    A file holds numbers of 64 bits: a sum of all that follows, by which one that a machine's end has cut short or left
    blank is told, how many dimensions there are, and these; and then the pixels.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._refused = False

    def load(self, name: str) -> Pixels | None:
        """The pixels that were kept under this name."""
        try:
            content = np.fromfile(self._path(name), np.uint8)
        except OSError:
            return None
        head = content[: _WORD * (len(content) // _WORD)].view(np.uint64)
        if len(head) < _FIXED or head[0] != _sum(content[_WORD:]) or len(head) < _FIXED + int(head[1]):
            return None
        shape = head[_FIXED : _FIXED + int(head[1])].astype(int)
        pixels: Pixels = content[_WORD * (_FIXED + len(shape)) :].reshape(shape)
        return pixels

    def keep(self, name: str, pixels: Pixels) -> None:
        """Keep pixels under a name."""
        if self._refused:
            return
        shape = np.array([pixels.ndim, *pixels.shape], np.uint64).view(np.uint8)
        content = np.concatenate([np.zeros(_WORD, np.uint8), shape, pixels.reshape(-1)])
        content[:_WORD] = np.array([_sum(content[_WORD:])], np.uint64).view(np.uint8)
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
                try:
                    file.write(content.data)
                    file.flush()
                    os.replace(file.name, path)  # not synced: the sum tells what a crash may leave
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            self._refused = True
            _log.warning("no more decoded pixels are kept in %s: %s", self.folder, error.strerror or error)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def _sum(content: Pixels) -> np.uint64:
    whole = _WORD * (len(content) // _WORD)
    words, rest = content[:whole].view(np.uint64), content[whole:]
    total: np.uint64 = words.sum(dtype=np.uint64) + rest.sum(dtype=np.uint64)
    return total


def kept_pixels() -> KeptPixels | None:
    """The folder that the environment names; None where it names none."""
    folder = os.environ.get(DECODED_VARIABLE)
    return KeptPixels(Path(folder)) if folder else None


def name_of(*facts: object) -> str:
    """A name for what these facts tell from all else, and the way in which it is made."""
    return hashlib.sha256(repr((_VERSION, *facts)).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def stamp(path: str) -> tuple[str, int, int]:
    """What tells a file, as it is now, from others: where it is, its size, and when it was last changed, in ns."""
    status = os.stat(path)
    return os.path.realpath(path), status.st_size, status.st_mtime_ns

"""Writing latents: one file per array, grown batch by batch, and taken up again where an attempt was cut short."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from tokscale.data.latents import DESCRIPTION, SPLITS, Array, LatentSpec
from tokscale.errors import DivergedError
from tokscale.record import cannot_write, sync_folder, write_atomically


class LatentWriter:
    """Writes one split; as a context manager, it completes the files on leaving and removes them on an error.

    At most ``count`` images are kept, and fewer are fine: a data set may turn out to hold unreadable files. Files grow
    by ordinary writes: on a full disk a mapped file kills the process, a write raises ``StoreError``.

    With a folder to ``keep`` them in, on the same file system, unfinished files stay there on an error, unless it says
    that the latents diverged. The next writer of the same split goes on from the last ``note``: ``written`` rows are
    there, ``noted`` says what was noted of them, and a split that is ``done`` takes no more.
    """

    def __init__(
        self, folder: Path, split: str, spec: LatentSpec, count: int, dtype: str = "float32", keep: Path | None = None
    ):
        assert split in SPLITS, split
        self.folder, self.spec, self.count, self.written = folder, spec, count, 0
        self.noted: dict[str, Any] = {}
        self.done = False
        self._layout = spec.arrays(count, dtype)
        self._paths = {name: folder / f"{split}.{name}.npy" for name in self._layout}
        self._keep, self._note = keep, None if keep is None else keep / f"{split}.json"
        self._partial = {name: (keep or folder) / f"{path.name}.partial" for name, path in self._paths.items()}
        self._files: dict[str, BinaryIO] = {}
        self._starts: dict[str, int] = {}
        self._open = ExitStack()

    def __enter__(self) -> LatentWriter:
        try:
            for folder in (self.folder, *([self._keep] if self._keep else [])):
                folder.mkdir(parents=True, exist_ok=True)
            (self.folder / DESCRIPTION).unlink(missing_ok=True)
            noted = self._read_note()
            self.done = bool(noted.get("done")) and all(_rows(path) == noted["rows"] for path in self._paths.values())
            if self.done:
                self.noted, self.written = noted, noted["rows"]
            else:
                for name, path in self._partial.items():
                    path.touch()
                    self._files[name] = self._open.enter_context(open(path, "r+b"))
                self._begin(noted)
        except OSError as error:
            self._leave(kept=self._keep is not None)
            raise cannot_write(self.folder / "latents", error) from error
        return self

    def write(self, **arrays: Tensor) -> None:
        """Append a batch: ``indices`` (b, n), or ``mean`` and ``logvar`` (b, n, d), and ``labels`` (b,).

        Images beyond ``count`` are dropped. Numbers that are not finite raise ``DivergedError``.
        """
        assert arrays.keys() == self._layout.keys(), f"{sorted(arrays)} are not {sorted(self._layout)}"
        rows = min(len(arrays["labels"]), self.count - self.written)
        assert len({len(tensor) for tensor in arrays.values()}) == 1, "one row for each image in every array"
        for name, tensor in arrays.items():
            shape, dtype = self._layout[name]
            assert tensor.shape[1:] == shape[1:], f"{name}: {tuple(tensor.shape)} does not fit {shape}"
            block = tensor[:rows].detach().cpu()
            with np.errstate(over="ignore"):
                stored = (block.float() if dtype.kind == "f" else block).numpy().astype(dtype, copy=False)
            self._check(name, stored)
            try:
                self._files[name].write(np.ascontiguousarray(stored).data)
            except OSError as error:
                raise cannot_write(self._paths[name], error) from error
        self.written += rows

    def note(self, **noted: Any) -> None:
        """Make what was written so far last, with what is to be known of it, for a later writer to go on from."""
        if self._note is None:
            return
        try:
            self._flush()
        except OSError as error:
            raise cannot_write(self.folder / "latents", error) from error
        self._write_note(noted)

    def _write_note(self, noted: dict[str, Any]) -> None:
        if self._note is not None:
            self.noted = {**noted, "rows": self.written, "count": self.count}
            write_atomically(self._note, json.dumps(self.noted).encode())

    def _read_note(self) -> dict[str, Any]:
        """What an earlier writer of as many images noted."""
        noted: dict[str, Any] = {}
        if self._note is not None:
            with suppress(OSError, ValueError):
                noted = json.loads(self._note.read_bytes())
        return noted if noted.get("count") == self.count else {}

    def _begin(self, noted: dict[str, Any]) -> None:
        """Go to the rows of which there is a note where the files hold so many, else to the beginning."""
        for name in self._files:
            self._starts[name] = self._write_header(name, self.count)
        if noted and all(path.stat().st_size >= self._end(name, noted["rows"]) for name, path in self._partial.items()):
            self.noted, self.written = noted, noted["rows"]
        for name, file in self._files.items():
            file.truncate(self._end(name, self.written))
            file.seek(0, os.SEEK_END)

    def _end(self, name: str, rows: int) -> int:
        shape, dtype = self._layout[name]
        return self._starts[name] + rows * int(np.prod(shape[1:], dtype=int)) * dtype.itemsize

    def _check(self, name: str, stored: Array) -> None:
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise DivergedError(
                f"latents ({name}) are not finite numbers in {stored.dtype}", where=str(self.folder),
                allowed="latents.dtype float32 reaches further than float16; else the tokenizer has diverged",
            )  # fmt: skip

    def _write_header(self, name: str, count: int) -> int:
        shape, dtype = self._layout[name]
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count, *shape[1:])}
        np.lib.format.write_array_header_1_0(self._files[name], header)
        return self._files[name].tell()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What diverged once would only diverge again.
        kept = kind is not None and not issubclass(kind, DivergedError) and self._keep is not None
        try:
            if kind is None and not self.done:
                self._complete()
        except OSError as error:
            kept = self._keep is not None
            raise cannot_write(self.folder / "latents", error) from error
        finally:
            self._leave(kept)

    def _leave(self, kept: bool) -> None:
        with suppress(OSError):  # closing flushes again what a full disk refused before
            self._open.close()
        if not kept:
            for path in self._partial.values():
                path.unlink(missing_ok=True)

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def _complete(self) -> None:
        for name, file in self._files.items():
            file.seek(0)
            start = self._write_header(name, self.written)
            assert start == self._starts[name], "numpy pads its header so that a smaller count takes the same room"
        self._flush()
        for name, path in self._paths.items():
            os.replace(self._partial[name], path)
        sync_folder(self.folder)
        self._write_note({**self.noted, "done": True})


def _rows(path: Path) -> int | None:
    """Rows of a finished file; None where it is not there, or not whole."""
    try:
        return len(np.load(path, mmap_mode="r"))
    except (OSError, ValueError):
        return None

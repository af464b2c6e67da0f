"""Features that a stage keeps while it works: rows of numbers on disk, memory-mapped, gone when the stage is done.

One file for each split and name, float32 (n, d) without a header, and the labels, whose file appears last: a split
without it is unfinished, and is taken anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tokscale.errors import DataError
from tokscale.record import cannot_write

LABELS = "labels"
Rows = npt.NDArray[Any]


def write_features(
    folder: Path, split: str, widths: Mapping[str, int], batches: Iterable[Mapping[str, Tensor]]
) -> None:
    """Write one split: batches of features (b, d) by the names of ``widths``, and of ``labels`` (b,).

    Ordinary writes: on a full disk a mapped file would end the process, a write raises ``StoreError``.
    """
    paths = {name: folder / f"{split}.{name}" for name in (*widths, LABELS)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = {name: stack.enter_context(open(_partial(path), "wb")) for name, path in paths.items()}
            for batch in batches:
                for name, file in files.items():
                    array = batch[name].detach().cpu().numpy()
                    file.write(np.ascontiguousarray(array, np.int64 if name == LABELS else np.float32).data)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        for path in paths.values():
            os.replace(_partial(path), path)
    except OSError as error:
        raise cannot_write(folder / "features", error) from error


def read_features(folder: Path, split: str, widths: Mapping[str, int]) -> dict[str, Rows] | None:
    """Features (n, d) by name and ``labels`` (n,), memory-mapped; None while the split is not whole."""
    if not (folder / f"{split}.{LABELS}").exists():
        return None
    labels = _map(folder / f"{split}.{LABELS}", np.int64)
    rows = {name: _map(folder / f"{split}.{name}", np.float32) for name in widths}
    if any(array.size != len(labels) * widths[name] for name, array in rows.items()):
        return None
    return {LABELS: labels, **{name: array.reshape(-1, widths[name]) for name, array in rows.items()}}


def _map(path: Path, dtype: type) -> Rows:
    if path.stat().st_size == 0:
        raise DataError("no image to take features of", where=str(path), allowed="at least one that can be read")
    return np.memmap(path, dtype=dtype, mode="r")


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}")

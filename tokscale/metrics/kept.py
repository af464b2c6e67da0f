"""What a network saw of reference images, kept in a file: for all stages that have the same reference."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokscale.metrics.frechet import Gaussian
from tokscale.metrics.seen import Reference, Seen
from tokscale.record import write_atomically

_BROKEN = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile)
_TOLD_BY = 16  # hex digits of a name: a collision is found out, as the file holds what it is of

Identity = Mapping[str, object]
"""everything on which the numbers depend, down to their last bit"""


def kept_file(folder: Path, identity: Identity, *, rows: bool) -> Path:
    """The file of an identity, with or without rows of features, whether it is there or not."""
    told = hashlib.sha256(_text(identity).encode()).hexdigest()[:_TOLD_BY]
    return folder / f"{told}{'-rows' if rows else ''}.npz"


def read_kept(folder: Path, identity: Identity, name: str, *, rows: bool) -> Reference | None:
    """The reference of that name as it was kept; None where it was not, or the file is damaged.

    Without need of ``rows`` a file that has them serves too.
    """
    for with_rows in (True,) if rows else (False, True):
        found = _read(kept_file(folder, identity, rows=with_rows), identity, name, rows)
        if found is not None:
            return found
    return None


def keep(folder: Path, identity: Identity, seen: Seen, *, rows: bool) -> None:
    """Write what was seen, atomically: two processes at once write the same, and either may win."""
    gaussian = seen.features.statistics.gaussian()
    arrays: dict[str, NDArray[Any]] = {
        "mu": gaussian.mean,
        "sigma": gaussian.covariance,
        "count": np.asarray(seen.count, np.int64),
    }
    if rows:
        arrays["rows"] = seen.features.rows.numpy()
    buffer, text = io.BytesIO(), _text(identity)
    sealed: dict[str, Any] = {**arrays, "identity": np.asarray(text), "sha256": np.asarray(_hash(text, arrays))}
    np.savez(buffer, **sealed)
    write_atomically(kept_file(folder, identity, rows=rows), buffer.getvalue())


def _read(path: Path, identity: Identity, name: str, rows: bool) -> Reference | None:
    text = _text(identity)
    try:
        # Of a damaged file ``np.load`` by its path would leave the file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("mu", "sigma", "count", "rows") if key in file}
            if str(file["identity"]) != text or str(file["sha256"]) != _hash(text, arrays):
                return None
        gaussian = Gaussian(arrays["mu"], arrays["sigma"], int(arrays["count"]))
        return Reference(name, gaussian, torch.from_numpy(arrays["rows"]) if rows else None)
    except _BROKEN:
        return None


def _text(identity: Identity) -> str:
    return json.dumps(dict(identity), sort_keys=True)


def _hash(text: str, arrays: Mapping[str, NDArray[np.generic]]) -> str:
    hasher = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        hasher.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        hasher.update(np.ascontiguousarray(arrays[name]).tobytes())
    return hasher.hexdigest()

"""Reference files in the form of ADM's evaluator: statistics of features, images, or both, in one ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from tokscale.errors import DataError
from tokscale.metrics import inception
from tokscale.metrics.features import FeatureNetwork
from tokscale.metrics.frechet import Gaussian
from tokscale.metrics.kept import keep, read_kept
from tokscale.metrics.seen import Reference, Seen
from tokscale.record import digest

_IMAGES, _STATISTICS, _FEATURES = "arr_0", {"mu", "sigma"}, "features"
_ALLOWED = "an .npz with mu (d,) and sigma (d, d), or with images arr_0 (n, h, w, 3) of uint8, or with both"
_BROKEN = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile)


def open_reference(
    path: Path, network: FeatureNetwork, device: torch.device | str, cache: Path,
    seen_by: Mapping[str, object] | None = None, *, at_once: int = 64, between: Callable[[], None] = lambda: None,
) -> Reference:  # fmt: skip
    """The reference of a file, as a network sees it; anything that is none raises ``DataError``.

    Statistics of the file are taken where they are of the network's features (``_are_of``), as ADM's evaluator does; if
    not, those of its images. What the network sees of images is kept in ``cache``, under the file's hash and all that
    the network's numbers depend on (``seen_by``, by default its name alone), so the next stage does not look again.
    ``between`` is called before every batch.
    """
    path = path.expanduser()
    names = _names(path)
    sha256 = str(digest(path)["sha256"])
    name = f"{path.name}-{sha256[:8]}"
    stated = Gaussian.load(path) if names >= _STATISTICS else None
    if stated is not None and not _are_of(network, stated, _said(path, names)):
        if _IMAGES not in names:
            raise DataError(f"the reference's statistics are not of the features {network.name}", where=str(path),
                            given=f"{len(stated.mean)} dimensions{_whose(path, names)}",
                            allowed=f"{network.dim} dimensions of {network.name}")  # fmt: skip
        stated = None
    if _IMAGES not in names:
        assert stated is not None, "a file of neither was refused"
        return Reference(name, stated)
    identity = {"images": sha256, **(seen_by or {"network": network.name, "weights": network.weights})}
    found = read_kept(cache, identity, name, rows=True)
    if found is None:
        seen = Seen(network)
        for images in npz_images(path, at_once):
            between()
            seen.update(images.to(device))
        keep(cache, identity, seen, rows=True)
        found = seen.as_reference(name)
    return Reference(name, stated or found.gaussian, found.rows)


def _are_of(network: FeatureNetwork, stated: Gaussian, said: str) -> bool:
    """Whether statistics are of a network: by the name in the file's array ``features``; without one, by their width.

    ADM's files say nothing and are of the 2015 Inception: torchvision's, which is as wide, must not take them.
    """
    if len(stated.mean) != network.dim:
        return False
    return said == network.name if said else network.name != inception.LATER_NAME


def _said(path: Path, names: set[str]) -> str:
    """The network that the file's array ``features`` names, or nothing."""
    if _FEATURES not in names:
        return ""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return str(arrays[_FEATURES])
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _whose(path: Path, names: set[str]) -> str:
    said = _said(path, names)
    return f" of {said}" if said else ", of a network that the file does not name"


def npz_images(path: Path, at_once: int) -> Iterator[Tensor]:
    """The images of an ``.npz`` as uint8 (b, 3, h, w), read in order and never all at once; ``DataError`` on others."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{_IMAGES}.npy") as file:
            (count, height, width, colours), fortran, dtype = _header(file)
            if fortran or dtype != np.uint8 or colours != 3 or count < 2:
                raise ValueError(f"arr_0 of {dtype} with shape ({count}, {height}, {width}, {colours})")
            size = height * width * colours
            for start in range(0, count, at_once):
                wanted = min(at_once, count - start)
                pixels = np.frombuffer(bytearray(file.read(wanted * size)), np.uint8)
                yield torch.from_numpy(pixels.reshape(wanted, height, width, colours)).permute(0, 3, 1, 2).contiguous()
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if len(shape) != 4:
        raise ValueError(f"arr_0 with shape {shape}")
    return shape, fortran, dtype


def _names(path: Path) -> set[str]:
    """The arrays of the file; raises ``DataError`` unless they can serve."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if not (names >= _STATISTICS or _IMAGES in names):
        raise DataError("this file is no reference", where=str(path), given=f"arrays {', '.join(sorted(names))}",
                        allowed=_ALLOWED)  # fmt: skip
    return names


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError("a reference file cannot be read", where=str(path), given=str(error), allowed=_ALLOWED)

"""Cached latents: what a tokenizer makes of its data, encoded once, so that probes never run the encoder.

A folder holds one ``.npy`` file per split and array (``train.indices.npy`` for codes, ``train.mean.npy`` and
``train.logvar.npy`` for Gaussian posteriors, ``train.labels.npy`` for both; the same for ``validation``) and
``latents.json``, which is written last and says what they are. A folder without it is unfinished.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokscale.errors import StoreError
from tokscale.record import digest, write_atomically

SCHEMA = 1
DESCRIPTION = "latents.json"
SPLITS = ("train", "validation")
_ROWS_AT_ONCE = 1024

Array = npt.NDArray[Any]
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class LatentSpec:
    """What one image or clip is to a probe: n tokens in raster order on a grid, each a code or a point of R^d.

    ``dim`` is d, the channels of a continuous latent or the dimension of a code; ``codebook_size`` is k, and None for
    continuous latents. A sequence without rows and columns is a grid of one row, a clip's grid has times before rows.
    """

    kind: Literal["discrete", "continuous"]
    grid: tuple[int, ...]
    tokens: int
    dim: int
    codebook_size: int | None = None

    def __post_init__(self) -> None:
        assert len(self.grid) in (2, 3), "rows and columns, or times, rows and columns"
        assert math.prod(self.grid) == self.tokens, f"a grid of {self._sides} does not hold {self.tokens} tokens"
        assert (self.kind == "discrete") == (self.codebook_size is not None), "codes, and only codes, have a codebook"

    @property
    def _sides(self) -> str:
        return " x ".join(map(str, self.grid))

    @property
    def words(self) -> str:
        """In words, for messages: "64 tokens (8 x 8) of 1024 codes of 4 channels"."""
        what = "" if self.codebook_size is None else f"{self.codebook_size} codes of "
        return f"{self.tokens} tokens ({self._sides}) of {what}{self.dim} channels"

    def arrays(self, count: int, dtype: str = "float32") -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Name -> (shape, dtype) of the arrays that hold ``count`` images; ``dtype`` is that of continuous latents."""
        labels = {"labels": ((count,), np.dtype(np.int32))}
        if self.codebook_size is not None:
            code = np.dtype(np.uint16 if self.codebook_size <= 1 << 16 else np.int32)
            return {"indices": ((count, self.tokens), code), **labels}
        latent = (count, self.tokens, self.dim), np.dtype(dtype)
        return {"mean": latent, "logvar": latent, **labels}


class LatentSplit:
    """One split, memory-mapped: reading a batch copies that batch and nothing else.

    An image has one row, or ``variants`` rows one after another. Raises ``StoreError`` when a file is missing, cut
    short, or not of the shape that the description says.
    """

    def __init__(
        self, folder: Path, name: str, spec: LatentSpec, count: int, dtype: str = "float32", variants: int = 1
    ) -> None:
        self._arguments = folder, name, spec, count, dtype, variants
        self.spec, self._count, self.variants = spec, count // variants, variants
        assert self._count * variants == count, f"{count} rows are no whole number of images in {variants} variants"
        layout = spec.arrays(count, dtype)
        self._maps = {key: _map(folder / f"{name}.{key}.npy", *expected) for key, expected in layout.items()}

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapped array pickles as its whole content; a worker process maps the files again instead.
        return LatentSplit, self._arguments

    def batch(self, indices: Sequence[int] | Array | Tensor, variants: Array | int = 0) -> Batch:
        """These images, each in one of its variants: ``indices`` (b, n) int64, or ``mean`` and ``logvar`` (b, n, d)
        float32; ``labels`` (b,)."""
        rows = np.asarray(indices, dtype=np.int64) * self.variants + variants
        taken = {name: np.asarray(array[rows]) for name, array in self._maps.items()}
        wide = {name: np.float32 if array.dtype.kind == "f" else np.int64 for name, array in taken.items()}
        return {name: torch.from_numpy(array.astype(wide[name], copy=False)) for name, array in taken.items()}

    def check_codes(self) -> None:
        """``Latents.check_codes`` of this split."""
        size, codes = self.spec.codebook_size, self._maps.get("indices")
        if size is None or codes is None:
            return
        for start in range(0, len(codes), _ROWS_AT_ONCE):
            block = codes[start : start + _ROWS_AT_ONCE]
            if block.min() < 0 or block.max() >= size:
                worst = block.max() if block.max() >= size else block.min()
                folder, name = self._arguments[:2]
                path = folder / f"{name}.indices.npy"
                raise _damaged("cached codes are of another vocabulary", path, f"code {worst} of {size} (from 0 on)")


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        array: Array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise _damaged("cached latents cannot be read", path, str(error)) from error
    if array.shape != shape or array.dtype != dtype:
        raise _damaged("cached latents are not as described", path, f"{array.dtype} {array.shape}, not {dtype} {shape}")
    return array


def _damaged(what: str, path: Path, given: str) -> StoreError:
    return StoreError(what, where=str(path), given=given, allowed="remove the stage's folder to encode again")


@dataclass(frozen=True)
class Latents:
    """A complete folder of latents; ``mean`` and ``std`` (d,) are over training latents, None for codes."""

    folder: Path
    spec: LatentSpec
    num_classes: int
    mean: Tensor | None
    std: Tensor | None
    train: LatentSplit
    validation: LatentSplit
    digests: dict[str, dict[str, Any]]

    def verify(self) -> None:
        """Read everything and compare with the hashes taken when it was written; a difference raises ``StoreError``."""
        for name, expected in self.digests.items():
            if digest(self.folder / name) != expected:
                raise _damaged("cached latents have changed since they were written", self.folder / name, "other hash")

    def check_codes(self) -> None:
        """Read all codes and raise ``StoreError`` for one that the vocabulary does not have.

        An embedding would answer with an index error, on a GPU with one that ends the process.
        """
        for split in (self.train, self.validation):
            split.check_codes()


def finish_latents(folder: Path, spec: LatentSpec, num_classes: int, variants: int = 1) -> Path:
    """Describe two written splits in ``latents.json``: sizes, hashes, and moments of continuous training latents.

    Sizes count rows; in the training split, ``variants`` of them are one image.
    """
    description: dict[str, Any] = {"schema": SCHEMA, "spec": asdict(spec), "num_classes": num_classes}
    description["counts"] = {split: len(np.load(folder / f"{split}.labels.npy", mmap_mode="r")) for split in SPLITS}
    if variants > 1:
        description["variants"] = variants
    if spec.kind == "continuous":
        means, logvars = (np.load(folder / f"train.{name}.npy", mmap_mode="r") for name in ("mean", "logvar"))
        mean, std = _moments(means, logvars)
        description |= {"dtype": str(means.dtype), "mean": mean.tolist(), "std": std.tolist()}
    names = [f"{split}.{name}.npy" for split in SPLITS for name in spec.arrays(0)]
    description["files"] = {name: digest(folder / name) for name in names}
    write_atomically(folder / DESCRIPTION, json.dumps(description, indent=1, allow_nan=False).encode())
    return folder / DESCRIPTION


def _moments(means: Array, logvars: Array) -> tuple[Array, Array]:
    """Mean and standard deviation (d,) of z ~ q(z|x) over images and tokens: var z = var E[z|x] + E var[z|x]."""
    blocks = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(means), _ROWS_AT_ONCE)]
    total = means.shape[0] * means.shape[1]
    mean = sum(means[rows].sum(axis=(0, 1), dtype=np.float64) for rows in blocks) / total
    spread = np.zeros_like(mean)
    for rows in blocks:
        spread += ((means[rows] - mean) ** 2 + np.exp(logvars[rows].astype(np.float64))).sum(axis=(0, 1))
    return mean, np.sqrt(spread / total)


def open_latents(folder: Path) -> Latents:
    """Open a complete folder, check every file's length, shape and type; ``StoreError`` names what is not right."""
    path = folder / DESCRIPTION
    try:
        text = json.loads(path.read_bytes())
        spec = LatentSpec(**{**text["spec"], "grid": tuple(text["spec"]["grid"])})
        dtype, counts = text.get("dtype", "float32"), text["counts"]
        train = LatentSplit(folder, "train", spec, counts["train"], dtype, text.get("variants", 1))
        validation = LatentSplit(folder, "validation", spec, counts["validation"], dtype)
        mean, std = (torch.tensor(text[key]) if key in text else None for key in ("mean", "std"))
        return Latents(folder, spec, text["num_classes"], mean, std, train, validation, text["files"])
    except OSError as error:
        raise _damaged("no complete latents here", path, str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise _damaged("the description of cached latents is damaged", path, repr(error)) from error

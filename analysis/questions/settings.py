"""Which columns of a table are settings, which of them one comparison holds equal, and which change along with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.table import column
from tokscale.record import COLUMNS

_RUN = ("sweep", "trial", "status", "seed", "pictures", "originals", "samples")
_TALK = ("label", "model", "name", "note", "notes", "provenance", "source")
_KNOWN = ("dataset", "features", "reference", "encoder", "decoder", "bottleneck", "bottleneck_tokens",
          "bottleneck_channels", "codebook_size")  # fmt: skip
# Settings that belong to a size: what scales an encoder is not held equal when encoders of several sizes are compared.
_PARTS = {
    "encoder_params": ("encoder", "tokenizer.encoder"),
    "decoder_params": ("decoder", "tokenizer.decoder"),
    "probe_params": ("probe.size",),
    "train_images": ("training.images", "training.epochs"),
    "finetune_images": ("decoder_finetune.training.images",),
}
_BOTTLENECK = ("bottleneck_tokens", "bottleneck_channels", "codebook_size", "tokenizer.bottleneck", "tokenizer.patch")
_PARTS |= dict.fromkeys(("bottleneck_floats", "bottleneck_bits", "bottleneck_tokens", "bottleneck_channels",
                         "codebook_size", "pixels_per_float", "floats_per_pixel"), _BOTTLENECK)  # fmt: skip
_PARTS["tokenizer_params"] = (
    "tokenizer.kind",
    "tokenizer.convolution",
    *_PARTS["encoder_params"],
    *_PARTS["decoder_params"],
)
_PARTS["train_flops"] = (*_PARTS["tokenizer_params"], *_PARTS["train_images"])

SPAN = 1.05  # sizes nearer than this are one size: a bottleneck's channels alone move an encoder's parameters

Places = npt.NDArray[np.int64]


def settings(table: pd.DataFrame, taken: Sequence[str]) -> list[str]:
    """The columns that tell one configuration from another and hold more than one value, but for those ``taken``.

    In a results table these are the names of its parts and the dotted config columns. In any other table they are all
    columns but the seed, descriptions and plain outcomes: measures, budgets, and floats that are not whole numbers.
    Whoever knows better names the columns.
    """
    names = [str(name) for name in table.columns]
    dotted = [name for name in names if "." in name and all(part.isidentifier() for part in name.split("."))]
    if "trial" in names or dotted:
        chosen = [name for name in _KNOWN if name in names] + dotted
    else:
        chosen = [name for name in names if name not in (*_RUN, *_TALK) and not _outcome(name, table[name])]
    return [name for name in chosen if name not in taken and varies(table[name])]


def equal_for(table: pd.DataFrame, size: str, taken: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings that an effect of ``size`` holds equal, and those that go along with it and cannot be.

    A setting of which every value comes with one size only (within 5 %) goes along: held equal, it would leave nothing.
    """
    own = [name for name in settings(table, (size, *taken)) if not _part_of(name, size)]
    sizes = pd.to_numeric(table[size], errors="coerce")
    held: list[str] = []
    along: list[str] = []
    for name in needed(table, own):
        ends = sizes.groupby(table[name].astype("string").fillna("")).agg(["min", "max"])
        (along if (ends["max"] <= SPAN * ends["min"]).all() else held).append(name)
    return held, along


def varied(table: pd.DataFrame, size: str) -> bool:
    """Whether what a size is of was varied itself, as far as the table tells.

    A patch or a number of channels moves the parameters of an encoder too, and all the more of a small one; that is no
    scaling of encoders.
    """
    parts = [str(name) for name in table.columns if _part_of(str(name), size)]
    return not parts or any(varies(table[name]) for name in parts)


def _part_of(name: str, size: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in _PARTS.get(size, ()))


def needed(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those of the columns that split the rows further than the ones before them do."""
    kept: list[str] = []
    place = np.zeros(len(table), dtype=np.int64)
    for name in names:
        cells = pd.factorize(table[name].astype("string").fillna(""))[0].astype(np.int64)
        finer = np.unique(place * (cells.max(initial=0) + 1) + cells, return_inverse=True)[1].astype(np.int64)
        if finer.max(initial=0) > place.max(initial=0):
            kept, place = [*kept, name], finer
    return kept


def strata(table: pd.DataFrame, names: Sequence[str]) -> Places:
    """For each row (n,) the number of its stratum: rows equal in all of these columns, where absence is a value."""
    if not names:
        return np.zeros(len(table), dtype=np.int64)
    keys = pd.DataFrame({place: column(table, name).astype("string").to_numpy(dtype=object, na_value="")
                         for place, name in enumerate(names)})  # fmt: skip
    return np.asarray(keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup(), dtype=np.int64)


def varies(values: pd.Series[Any]) -> bool:
    """Whether a column holds more than one value, absence being one."""
    return int(values.astype("string").fillna("").nunique()) > 1


def same(values: pd.Series[Any], wanted: Any) -> npt.NDArray[np.bool_]:
    """Which cells (n,) equal a value: as numbers where both are, as text else; None stands for absent."""
    if wanted is None:
        return np.asarray(values.isna(), dtype=bool)
    numbers, number = pd.to_numeric(values, errors="coerce"), pd.to_numeric(pd.Series([wanted]), errors="coerce")[0]
    if pd.notna(number) and numbers.notna().any() and not isinstance(wanted, bool):
        return np.asarray((numbers == number).fillna(False), dtype=bool)
    return np.asarray((values.astype("string") == str(wanted)).fillna(False), dtype=bool)


def _outcome(name: str, values: pd.Series[Any]) -> bool:
    """Whether a column of a foreign table plainly was measured rather than chosen."""
    if name in COLUMNS and COLUMNS[name].kind in ("measure", "budget"):
        return True
    return pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 != 0).any())

"""What is known of a measure by its name: which way is better, on which scale it varies, and with what it is mixed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from analysis.points import check_mixture
from analysis.questions.answers import Better
from tokscale.errors import UsageError
from tokscale.record import COLUMNS

# Foreign tables write gFID_cfg1.5 or ar_probe_gFID: the words of a name, not the whole of it, tell what it is.
_FRECHET = {"fid": "gfid", "rfid": "rfid", "gfid": "gfid", "rfd": "rfd", "gfd": "gfd", "rfdd": "rfdd", "gfdd": "gfdd",
            "fvd": "gfvd", "rfvd": "rfvd", "gfvd": "gfvd", "rfcd": "rfcd", "gfcd": "gfcd"}  # fmt: skip
_LOWER = {"mse", "lpips", "loss", "bits", "nll", "perplexity", "error"}
_HIGHER = {"psnr", "ssim", "is", "ris", "gis", "acc", "accuracy", "precision", "recall", "usage"}
# Errors and rates are a share of the measure; decibels, similarities and accuracies are not.
_RELATIVE = {"mse", "lpips", "bits", "perplexity"}


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word]


def frechet(name: str) -> str | None:
    """The column of the results table that a measure's name is a Fréchet distance like; None for other measures."""
    return next((_FRECHET[word] for word in _words(name) if word in _FRECHET), None)


def better_of(name: str, given: str | None = None) -> Better:
    """Which way a measure is better, as given or by its name (sizes and budgets lower); ``UsageError`` if unknown."""
    if given is not None:
        if given not in ("lower", "higher"):
            raise UsageError("a measure is better lower or higher", where=name, given=given, allowed="lower or higher")
        return "lower" if given == "lower" else "higher"
    known = COLUMNS[name].better if name in COLUMNS else None
    if name in COLUMNS and COLUMNS[name].kind in ("size", "budget"):
        return "lower"
    words = set(_words(name))
    if known == "lower" or (known is None and (frechet(name) or words & _LOWER)):
        return "lower"
    if known == "higher" or words & _HIGHER:
        return "higher"
    raise UsageError("which way is this measure better?", given=name, allowed="better='lower' or better='higher'")


def on_log_scale(name: str, given: bool | None = None) -> bool:
    """Whether effects on a measure are told as shares of it, as given or by its name."""
    return bool(frechet(name) or set(_words(name)) & _RELATIVE) if given is None else given


def unit_of(name: str) -> str:
    """The unit of a measure of the results table."""
    return COLUMNS[name].unit if name in COLUMNS else ""


def comparable(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Warnings about what is mixed behind these columns; ``TableError`` for Fréchet distances of different kinds."""
    return check_mixture(table, list(dict.fromkeys(frechet(name) or name for name in columns)))

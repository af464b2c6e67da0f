"""What every answer is: a frozen dataclass that says itself in JSON and in one sentence; and the numbers in it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from tokscale.errors import UsageError, one_of

Better = Literal["lower", "higher"]
Alternative = Literal["two-sided", "better", "worse"]
Verdict = Literal["better", "worse", "unresolved"]
_ALTERNATIVES = ("two-sided", "better", "worse")


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, p value and degrees of freedom; None where the rows leave no degree of freedom."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    freedom: float

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class Answer(ABC):
    """What the answers share; each of them is a frozen dataclass."""

    @abstractmethod
    def sentence(self) -> str:
        """The answer in one sentence, with its interval and what it stands on."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain numbers, lists and texts, None for what does not exist, and the sentence."""
        assert is_dataclass(self), type(self).__name__
        shown = {one.name: plain(getattr(self, one.name)) for one in fields(self) if one.repr}
        return {**shown, "sentence": self.sentence()}


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are not finite become None."""
    if isinstance(value, Answer):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, pd.DataFrame):
        return [{str(key): plain(entry) for key, entry in row.items()} for row in value.to_dict("records")]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def verdict(effect: Estimate, better: Better, level: float) -> Verdict:
    """Which way an effect goes for sure: unresolved unless its p value is below 1 - level."""
    if effect.p is None or not effect.p < 1 - level or effect.value == 0:
        return "unresolved"
    return "better" if (effect.value < 0) == (better == "lower") else "worse"


def check_level(level: float) -> None:
    """``UsageError`` unless a level lies between 0 and 1."""
    if not 0 < level < 1:
        raise UsageError("an interval's level is a share", given=level, allowed="a number between 0 and 1, as 0.95")


def direction(alternative: str, better: Better) -> int:
    """The sign that the alternative hypothesis gives an effect: 0 for two-sided."""
    if alternative not in _ALTERNATIVES:
        raise UsageError("no such alternative", given=alternative, allowed=one_of(_ALTERNATIVES, alternative))
    if alternative == "two-sided":
        return 0
    return 1 if (alternative == "worse") == (better == "lower") else -1

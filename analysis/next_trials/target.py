"""What is to be known better: a measure at a size, the best size, or a parameter of a law."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.laws import Law
from analysis.solver import Problem
from tokscale.errors import UsageError

Array = npt.NDArray[np.float64]

_NAME = r"[A-Za-z_][A-Za-z0-9_.]*"
_VALUE = re.compile(rf"\s*({_NAME})\s+at\s+(.+)")
_OPTIMUM = re.compile(rf"\s*optimum\s+of\s+({_NAME})\s+over\s+({_NAME})\s*")
_PARAMETER = re.compile(rf"\s*([A-Za-z_][A-Za-z0-9_\[\]]*)\s+of\s+({_NAME})\s+over\s+(.+)")
_SIZE = re.compile(rf"\s*({_NAME})\s*=\s*([0-9][0-9_.]*(?:[eE][-+]?[0-9]+)?)\s*([kKMGT]?)\s*")
_SUFFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_ALLOWED = (
    '"Y at X=VALUE", "optimum of Y over X", or "PARAMETER of Y over X", as "exponent of rfid over decoder_params"'
)


@dataclass(frozen=True)
class Target:
    """A number that a fit gives with an interval; ``at`` are a value's sizes, in the order of the columns ``x``."""

    kind: Literal["value", "optimum", "parameter"]
    y: str
    x: tuple[str, ...]
    at: tuple[float, ...] = ()
    parameter: str = ""

    def __str__(self) -> str:
        if self.kind == "value":
            sizes = ", ".join(f"{name}={size:g}" for name, size in zip(self.x, self.at, strict=True))
            return f"{self.y} at {sizes}"
        return f"{self.parameter or 'optimum'} of {self.y} over {', '.join(self.x)}"

    def suits(self, law: Law) -> bool:
        """Whether a law has what is asked for."""
        if self.kind == "optimum":
            return law.turning_point is not None
        return self.kind == "value" or self.parameter in law.parameters

    def is_log(self, law: Law) -> bool:
        """Whether ``values`` are logarithms of the number that is asked for."""
        return {"value": law.log_residuals, "optimum": True, "parameter": self.parameter in law.positive}[self.kind]

    def sizes(self, task: Problem) -> Array:
        """ln x of a value in the coordinates of a problem (k, 1)."""
        return np.asarray(np.log(np.array(self.at))[:, None] - task.center)

    def values(self, task: Problem, coordinates: Array) -> Array:
        """The number for each row of coordinates (s, p), on the scale of its interval (s,); NaN where there is none."""
        if self.kind == "value":
            return task.model(coordinates, self.sizes(task)[:, None, :])[0][:, 0]
        if self.kind == "parameter":
            return np.asarray(coordinates @ self._row(task))
        assert task.law.turning_point is not None
        with np.errstate(all="ignore"):  # a curve that does not turn
            turn = task.law.turning_point(coordinates) + float(np.ravel(task.center)[0])
        return np.where(np.isfinite(turn), turn, np.nan)

    def slopes(self, task: Problem, coordinates: Array) -> Array:
        """Derivatives of ``values`` by the coordinates (s, p); NaN where there is no value."""
        if self.kind == "value":
            return task.model(coordinates, self.sizes(task)[:, None, :])[1][:, 0]
        if self.kind == "parameter":
            return np.broadcast_to(self._row(task), coordinates.shape)
        p = coordinates.shape[1]
        steps = 1e-5 * np.maximum(1e-3, np.abs(coordinates))
        slopes = np.empty_like(coordinates)
        for place in range(p):
            step = steps * np.eye(p)[place]
            rise = self.values(task, coordinates + step) - self.values(task, coordinates - step)
            slopes[:, place] = rise / (2 * steps[:, place])
        return slopes

    def _row(self, task: Problem) -> Array:
        return np.asarray(task.law.from_unit(task.center)[task.law.parameters.index(self.parameter)])


def read_target(text: str, x: Sequence[str] = ()) -> Target:
    """The target of some words; ``x`` names the law's columns, where they are not those of the target.

    Raises ``UsageError`` for words that are none of the three kinds, and for a size without a value.
    """
    if found := _VALUE.fullmatch(text):
        sizes = _sizes(found[2], text)
        columns = tuple(x) or tuple(sizes)
        if set(columns) != set(sizes):
            raise UsageError("a prediction needs a value of every column of the law, and of no other", given=text,
                             allowed=", ".join(f"{name}=..." for name in columns))  # fmt: skip
        return Target("value", found[1], columns, tuple(sizes[name] for name in columns))
    if found := _OPTIMUM.fullmatch(text):
        return Target("optimum", found[1], _same(text, x, (found[2],)))
    if found := _PARAMETER.fullmatch(text):
        columns = tuple(name.strip() for name in found[3].split(","))
        if all(re.fullmatch(_NAME, name) for name in columns):
            return Target("parameter", found[2], _same(text, x, columns), parameter=found[1])
    raise UsageError("a target that says nothing that a fit could give", where="--target", given=text, allowed=_ALLOWED)


def _sizes(text: str, target: str) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for part in text.split(","):
        found = _SIZE.fullmatch(part)
        if found is None or found[1] in sizes:
            raise UsageError("a size is a column and its value, each once", where="--target", given=target,
                             allowed=_ALLOWED)  # fmt: skip
        try:
            size = float(found[2].replace("_", "")) * _SUFFIXES[found[3]]
        except ValueError:
            size = 0.0
        if not 0 < size < np.inf:
            raise UsageError("a size is a positive number", where="--target", given=part.strip())
        sizes[found[1]] = size
    return sizes


def _same(text: str, x: Sequence[str], columns: tuple[str, ...]) -> tuple[str, ...]:
    if x and set(x) != set(columns):
        raise UsageError("--x and the target name different columns", given=text, allowed=", ".join(x))
    return columns

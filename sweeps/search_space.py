"""The space of a search on its spec: which values a setting may take, which trials a point stands for."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.grid import Trial, expand, grid_axes, grid_points
from sweeps.search_config import MOST_VALUES, Parameter
from sweeps.spec import SpecFile, SweepSpec
from tokscale.config import TrialSections
from tokscale.errors import ConfigError, one_of
from tokscale.stage import canonical

_DIGITS = 6  # of a drawn number: enough for any setting, and short enough to be typed again


@dataclass(frozen=True)
class Dimension:
    """One setting of the space: ``choices``, or numbers from ``low`` to ``high``, whole ones or not."""

    path: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def size(self) -> float:
        """How many values there are; infinite for a range without steps."""
        if self.choices:
            return len(self.choices)
        step = self.step or (1 if self.whole else None)
        return math.inf if step is None else round((self.high - self.low) / step) + 1

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and the last of its values."""
        return (self.choices[0], self.choices[-1]) if self.choices else (self.tidy(self.low), self.tidy(self.high))

    def value(self, index: int) -> Any:
        """The value of an index below ``size``, in rising order."""
        if self.choices:
            return self.choices[index]
        return self.tidy(self.low + index * (self.step or 1))

    def tidy(self, value: Any) -> Any:
        """A drawn value as it is kept: whole where it must be, else with six digits, and within its bounds."""
        if self.choices:
            return value
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of this setting's."""
        if self.choices:
            return any(canonical(choice) == canonical(value) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return not self.whole or float(value).is_integer()
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), rel_tol=1e-6, abs_tol=1e-6)


class Space:
    """The dimensions of a search, the points of the grid that each have one, and the seeds that judge a point.

    Raises ``ConfigError`` with file and line for a path or a value that no trial can take.
    """

    def __init__(self, spec: SweepSpec, file: SpecFile) -> None:
        assert spec.search is not None
        self.spec, self.config = spec, spec.search
        self.file = _Places(file, self.config.space)
        self._check_paths()
        repeated = "seed" in spec.grid and not any("seed" in group for group in spec.zip)
        self.seeds = self._seeds(repeated)
        grid = {path: values for path, values in spec.grid.items() if path != "seed" or not repeated}
        self.cells = list(grid_points(grid_axes(spec.model_copy(update={"grid": grid}))))
        self._base = {path: self._first(path) for path in self.config.space}
        self._check_cells()
        self.dimensions = {path: self._dimension(path, given) for path, given in self.config.space.items()}
        if self.config.sampler == "grid":
            self._check_finite()

    @property
    def size(self) -> float:
        """How many points there are; infinite when a range has no steps."""
        return math.prod(dimension.size for dimension in self.dimensions.values())

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether a point, perhaps of an earlier spec, lies in this space."""
        return params.keys() == self.dimensions.keys() and all(
            self.dimensions[path].holds(value) for path, value in params.items()
        )

    def in_order(self, trials: int | None) -> Iterator[dict[str, Any]]:
        """The points of a finite space: all of them in the order of the file, or fewer in a random order."""
        size = int(self.size)
        order: Sequence[int] = range(size)
        if trials is not None and trials < size:
            order = random.Random(self.config.seed).sample(order, size)
        for index in order:
            point = {}
            for dimension in reversed(self.dimensions.values()):
                index, digit = divmod(index, int(dimension.size))
                point[dimension.path] = dimension.value(digit)
            yield {path: point[path] for path in self.dimensions}

    def rows(self, cell: Mapping[str, Any], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The settings of a point's trials, one for each seed."""
        values = {**cell, **params}
        return [{**values, "seed": seed} for seed in self.seeds] if self.seeds else [values]

    def trials(self, rows: Sequence[Mapping[str, Any]], *, where: bool = True) -> list[Trial]:
        """The different trials of some rows, in their order, without those that break a condition of ``where``.

        Raises ``ConfigError`` for settings that do not go together, and when no trial is left.
        """
        if not rows:
            return []
        paths = list(rows[0])
        update: dict[str, Any] = {"grid": {path: [row[path] for row in rows] for path in paths}, "zip": [paths]}
        if not where:
            update["where"] = []
        return expand(self.spec.model_copy(update=update), self.file)

    def _seeds(self, repeated: bool) -> list[int]:
        repeats = self.config.repeats
        if repeated and repeats > 1:
            raise ConfigError("a seed in the grid repeats each point, and so does `repeats`",
                              where=self.file.place("search.repeats"), allowed="one of the two")  # fmt: skip
        if repeated:
            return list(self.spec.grid["seed"])
        first = self.spec.trial.get("seed", 0)
        return [first + number for number in range(repeats)] if repeats > 1 else []

    def _check_paths(self) -> None:
        sections = list(TrialSections.model_fields)
        for path in self.config.space:
            place = self.file.place(f"search.space.{path}")
            if path.split(".")[0] not in sections:
                raise ConfigError("the space names no key of a trial", where=place, given=path,
                                  allowed=one_of(sections, path.split(".")[0]))  # fmt: skip
            clash = [other for other in self.spec.grid if _overlap(path, other)]
            if clash:
                raise ConfigError("the space and the grid set the same thing", where=place, given=f"{path}, {clash[0]}",
                                  allowed="each setting in one of them")  # fmt: skip

    def _check_cells(self) -> None:
        rows = [{**cell, **self._base} for cell in self.cells]
        try:
            self.trials(rows, where=False)
        except ConfigError:
            for row in rows:
                self._try(row)

    def _first(self, path: str) -> Any:
        given = self.config.space[path]
        return given.low if given.choices is None else given.choices[0]

    def _dimension(self, path: str, given: Parameter) -> Dimension:
        if given.choices is not None or given.low == given.high:
            choices = given.choices if given.choices is not None else [given.low]
            for choice in choices:
                self._try_value(path, choice)
            return Dimension(path, choices=tuple(choices))
        assert given.low is not None
        assert given.high is not None
        for value in (given.low, given.high, *([given.low + given.step] if given.step else [])):
            self._try_value(path, value)
        whole = not self._takes_fractions(path, given.low, given.high)
        if not whole:
            return Dimension(path, (), float(given.low), float(given.high), given.log, given.step)
        step = None if given.step is None else round(given.step)
        return Dimension(path, (), round(given.low), round(given.high), given.log, step, whole=True)

    def _takes_fractions(self, path: str, low: float, high: float) -> bool:
        """Whether a setting takes numbers that are not whole, found out by trying one from between its bounds."""
        middle = (low + high) / 2
        if middle.is_integer():
            middle += min(0.25, (high - low) / 4)
        try:
            self._try_value(path, middle)
        except ConfigError:
            return False
        return True

    def _try_value(self, path: str, value: Any) -> None:
        self._try({**self.cells[0], **self._base, path: value})

    def _try(self, row: Mapping[str, Any]) -> None:
        """Raise ``ConfigError`` for a value that is wrong by itself; what goes together shows when points are drawn."""
        try:
            self.trials([row], where=False)
        except ConfigError as error:
            if error.where != self.file.place("trial"):
                raise

    def _check_finite(self) -> None:
        endless = [path for path, dimension in self.dimensions.items() if not math.isfinite(dimension.size)]
        if endless:
            place = self.file.place(f"search.space.{endless[0]}")
            raise ConfigError("the grid sampler needs values to go through", where=place, given=endless[0],
                              allowed="choices, or a step")  # fmt: skip
        if self.size > MOST_VALUES:
            raise ConfigError("the space has too many points for the grid sampler", given=f"{self.size:,.0f}",
                              where=self.file.place("search.space"), allowed=f"up to {MOST_VALUES:,}")  # fmt: skip


class _Places(SpecFile):
    """A spec's file for trials that a search makes: what it set is found in the search's space, not in the grid."""

    def __init__(self, file: SpecFile, space: Mapping[str, Any]) -> None:
        self.path, self.text, self.values = file.path, file.text, file.values
        self._file, self._space = file, space

    def place(self, path: str) -> str:
        return self._file.place(f"search.space.{path[5:]}" if path[5:] in self._space else path)


def _overlap(path: str, other: str) -> bool:
    """Whether setting one path sets the other too."""
    pairs = itertools.zip_longest(path.split("."), other.split("."))
    return all(one == two or one is None or two is None for one, two in pairs)

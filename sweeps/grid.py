"""From a spec to its trials: the grid's product, validated section by section so that 10,000 trials take a moment."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sweeps.spec import SpecFile, SweepSpec, located
from tokscale import cost
from tokscale.config import Config, TrialConfig, TrialSections
from tokscale.errors import ConfigError, one_of
from tokscale.expressions import Expression, compile_expression
from tokscale.parsing import parse
from tokscale.stage import Stage, TrialStages

MOST_POINTS = 1_000_000
# None in a condition where a trial has none
_SOMETIMES = ("bottleneck_bits", "codebook_size", "probe_params", "finetune_only_params", "finetune_images",
              "finetune_flops")  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One point of a sweep: its complete config, its stages, the grid values that make it, and its sizes."""

    id: str
    config: TrialConfig
    stages: tuple[Stage, ...]
    values: Mapping[str, Any]
    sizes: Mapping[str, int | float]


def expand(spec: SweepSpec, file: SpecFile) -> list[Trial]:
    """All trials of a spec, in the order of its grid, each once; raises ``ConfigError`` with file and line."""
    axes = grid_axes(spec)
    points = math.prod(len(axis) for axis in axes)
    if points > MOST_POINTS:
        raise ConfigError("the grid has too many points", where=file.place("grid"), given=f"{points:,}",
                          allowed=f"up to {MOST_POINTS:,}")  # fmt: skip
    sections = _Sections(spec, file)
    conditions = [compiled_condition(text, number, file) for number, text in enumerate(spec.where)]
    builder = TrialStages()
    sizes = _Sizes()
    trials: dict[str, Trial] = {}
    for values in grid_points(axes):
        config = sections.trial(values)
        measured = sizes.of(config)
        if all(holds(condition, number, config, measured, file) for number, condition in enumerate(conditions)):
            identity, stages = builder.identify(config)
            trials.setdefault(identity, Trial(identity, config, tuple(stages), values, measured))
    if not trials:
        raise ConfigError(
            "no trial is left of the grid", where=file.place("where"), given="; ".join(spec.where),
            allowed="conditions that at least one point of the grid fulfils",
        )  # fmt: skip
    return list(trials.values())


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """A config as dotted paths to plain values, as the results table has them; lists are written with commas."""
    flat: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, tuple):
            flat[prefix + name] = ", ".join(str(item) for item in value)
        else:
            flat[prefix + name] = value
    return flat


def grid_axes(spec: SweepSpec) -> list[list[dict[str, Any]]]:
    """The grid's axes in the order of the file: each a list of points, each point the values of one or more paths."""
    grouped = {path: group for group in spec.zip for path in group}
    axes, done = [], set()
    for path in spec.grid:
        if path in done:
            continue
        paths = grouped.get(path, [path])
        done |= set(paths)
        rows = zip(*(spec.grid[name] for name in paths), strict=True)
        axes.append([dict(zip(paths, row, strict=True)) for row in rows])
    return axes


def grid_points(axes: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The product of axes, the last one fastest: the values of each point by path."""
    for parts in itertools.product(*axes):
        yield {path: value for part in parts for path, value in part.items()}


class _Sections:
    """Validated sections of the trial, one for each different combination of grid values that touch it."""

    def __init__(self, spec: SweepSpec, file: SpecFile) -> None:
        self.spec, self.file = spec, file
        self._paths = {name: [path for path in spec.grid if path.split(".")[0] == name] for name in _names()}
        self._cache: dict[tuple[Any, ...], Any] = {}
        for path in spec.grid:
            if path.split(".")[0] not in self._paths:
                raise ConfigError("the grid names no key of a trial", where=file.place(f"grid.{path}"), given=path,
                                  allowed=one_of(_names(), path.split(".")[0]))  # fmt: skip
        for name in spec.trial:
            if name not in self._paths:
                raise ConfigError(f"unknown key {name!r}", where=file.place(f"trial.{name}"),
                                  allowed=one_of(_names(), name))  # fmt: skip

    def trial(self, values: Mapping[str, Any]) -> TrialConfig:
        """The trial at one point of the grid."""
        sections = {name: self._section(name, values) for name in self._paths}
        trial = TrialConfig.model_construct(set(sections), **sections)
        try:
            trial.check()
        except ValueError as error:
            given = ", ".join(f"{path} = {value}" for path, value in values.items())
            raise ConfigError(str(error), where=self.file.place("trial"), given=given or None) from None
        return trial

    def _section(self, name: str, values: Mapping[str, Any]) -> Any:
        touched = self._paths[name]
        key = (name, *(id(values[path]) for path in touched))  # the spec keeps its values alive
        if key not in self._cache:
            self._cache[key] = self._validated(name, {path: values[path] for path in touched})
        return self._cache[key]

    def _validated(self, name: str, values: Mapping[str, Any]) -> Any:
        section = {name: copy.deepcopy(self.spec.trial[name])} if name in self.spec.trial else {}
        for path in sorted(values, key=lambda path: path.count(".")):
            self._set(section, path, copy.deepcopy(values[path]))
        try:
            return getattr(TrialSections.model_validate(section), name)
        except ValidationError:
            pass
        try:
            return getattr(parse(TrialSections, section, where="trial"), name)
        except ConfigError as error:
            raise self._named(error, values) from None

    def _named(self, error: ConfigError, values: Mapping[str, Any]) -> ConfigError:
        """Point at the grid's line when the grid's value is what is wrong, else at the base trial's."""
        path = (error.where or "").removeprefix("trial.")
        guilty = [name for name in values if path == name or path.startswith(f"{name}.") or name.startswith(f"{path}.")]
        if guilty:
            return ConfigError(error.what, where=self.file.place(f"grid.{guilty[0]}"),
                               given=error.given if error.given is not None else repr(values[guilty[0]]),
                               allowed=error.allowed)  # fmt: skip
        return located(error, self.file)

    def _set(self, section: dict[str, Any], path: str, value: Any) -> None:
        node: Any = section
        *parents, last = path.split(".")
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigError(f"the grid goes into {key!r}, which the trial gives as a single value",
                                  where=self.file.place(f"grid.{path}"), given=repr(node))  # fmt: skip
        node[last] = value


class _Sizes:
    """Sizes of trials, computed once for each different combination of sections (seeds share theirs)."""

    def __init__(self) -> None:
        self._cache: dict[tuple[int, ...], tuple[list[Any], dict[str, int | float]]] = {}

    def of(self, config: TrialConfig) -> dict[str, int | float]:
        sections = [getattr(config, name) for name in _names() if name != "seed"]
        key = tuple(id(section) for section in sections)
        if key not in self._cache:
            self._cache[key] = (sections, cost.trial_sizes(config))
        return self._cache[key][1]


def compiled_condition(text: str, number: int, file: SpecFile) -> Expression:
    """The condition ``where[number]`` of a spec; raises ``ConfigError`` with its line."""
    try:
        return compile_expression(text)
    except ConfigError as error:
        raise ConfigError(error.what, where=file.place(f"where.{number}"), given=error.given,
                          allowed=error.allowed) from None  # fmt: skip


def holds(
    condition: Expression, number: int, config: TrialConfig, sizes: Mapping[str, int | float], file: SpecFile
) -> bool:
    """Whether a condition is true of a trial; raises ``ConfigError`` where it names what the trial does not have."""

    def lookup(name: str) -> Any:
        if name in sizes or name in _SOMETIMES:
            return sizes.get(name)
        node: Any = config
        for key in name.split("."):
            if not isinstance(node, Config) or key not in type(node).model_fields:
                words = [*sizes, *flatten(config)]
                raise ConfigError(f"a condition names {name!r}, which this trial does not have",
                                  where=file.place(f"where.{number}"), given=condition.text,
                                  allowed=one_of(words, name))  # fmt: skip
            node = getattr(node, key)
        return node

    try:
        truth = condition.evaluate(lookup)
    except ConfigError as error:
        where = error.where if error.where and str(file.path) in error.where else file.place(f"where.{number}")
        raise ConfigError(error.what, where=where, given=error.given, allowed=error.allowed) from None
    if not isinstance(truth, bool):
        raise ConfigError(
            "a condition is neither true nor false", where=file.place(f"where.{number}"),
            given=f"{condition.text} is {truth!r}", allowed="for example bottleneck_floats <= 4096",
        )  # fmt: skip
    return truth


def _names() -> list[str]:
    return list(TrialSections.model_fields)

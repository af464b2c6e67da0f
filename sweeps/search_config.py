"""The ``search:`` section of a spec: a space, a sampler that asks for points of it, and what is sought.

    search:
      sampler: tpe                 # grid, random, tpe (Bergstra et al. 2011), nsga2 (Deb et al. 2002) or information
      trials: 40                   # different points that are tried, at each point of the grid
      parallel: 4                  # points that are open at a time
      space:
        training.lr: {low: 1.0e-5, high: 1.0e-3, log: true}
        tokenizer.patch: [8, 16, 32]
      objectives: [psnr, ar_bits_per_image]
      constraints: ["tokenizer_params <= 200M", "gpu_hours <= 10"]

Beside a ``grid``, every point of the grid has a search of its own; a ``seed`` in the grid repeats each point instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tokscale.config import Config, Count, Seed, parse_count
from tokscale.errors import ConfigError, one_of
from tokscale.expressions import Expression, compile_expression
from tokscale.record import COLUMNS
from tokscale.stage import canonical

MOST_VALUES = 1_000_000
"""values of one parameter, and points of a grid sampler, that are ever listed"""
PARALLEL = 4
STARTUP, POPULATION = 10, 50  # Optuna's own defaults, for budgets that are large enough for them
_LIMIT = re.compile(r"(?P<expression>.+?)\s*(?P<order><=|>=)\s*(?P<limit>[-+]?[0-9][0-9._]*(?:[eE][-+]?[0-9]+)?)"
                    r"(?P<suffix>[kKMGT]?)\s*")  # fmt: skip
_SUFFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number is needed")
    return parse_count(value) if isinstance(value, str) else value


Number = Annotated[int | float, BeforeValidator(_number)]


class Parameter(Config):
    """What one setting may be: one of ``choices``, or a number from ``low`` to ``high``.

    Numbers are whole where the setting takes whole numbers only. A bare list means ``choices``.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    """draw evenly over the logarithm"""
    step: Number | None = None
    """only ``low``, ``low + step``, ... up to ``high``"""
    choices: list[Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, list):
            return {"choices": value}
        if not isinstance(value, Mapping):
            raise ValueError("a mapping with low and high, or a list of choices")
        unknown = [str(key) for key in value if key not in cls.model_fields]
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; {one_of(cls.model_fields, unknown[0])}")
        return value

    @model_validator(mode="after")
    def _checked(self) -> Parameter:
        if self.choices is not None:
            if {"low", "high", "log", "step"} & self.model_fields_set:
                raise ValueError("either choices, or low and high")
            if not self.choices:
                raise ValueError("no choices: the space would be empty")
            if len({canonical(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("the same choice twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("low and high are needed, or choices")
        self._check_range(self.low, self.high)
        return self

    def _check_range(self, low: float, high: float) -> None:
        if low > high:
            raise ValueError(f"low {low:g} is above high {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a logarithm needs low above 0, not {low:g}")
        if self.step is None:
            return
        if self.log:
            raise ValueError("step and log exclude each other")
        if self.step <= 0:
            raise ValueError(f"a step is more than 0, not {self.step:g}")
        steps = (high - low) / self.step
        if not math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9):
            raise ValueError(f"from {low:g} to {high:g} is no whole number of steps of {self.step:g}")


class Objective(Config):
    """A column of the results table that is sought to be small or large; a bare word means its own direction."""

    measure: str
    direction: Literal["minimize", "maximize"] = "minimize"

    @model_validator(mode="before")
    @classmethod
    def _directed(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"measure": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("measure"), str):
            raise ValueError("an objective is a column's name, or {measure: ..., direction: minimize or maximize}")
        allowed = [name for name, column in COLUMNS.items() if column.kind != "identity"]
        if value["measure"] not in COLUMNS or COLUMNS[value["measure"]].kind == "identity":
            raise ValueError(f"no measure {value['measure']!r}; {one_of(allowed, value['measure'])}")
        if "direction" in value:
            return value
        better = COLUMNS[value["measure"]].better
        if better is None:
            hint = f"{{measure: {value['measure']}, direction: minimize}}"
            raise ValueError(f"neither small nor large {value['measure']} is better by itself: say {hint}, or maximize")
        return {**value, "direction": "minimize" if better == "lower" else "maximize"}


class Pruner(Config):
    """Ends a point early when its training does worse than that of others at the same share of the budget.

    ``median`` (of finished points, after five of them) as in Google Vizier (Golovin et al. 2017); ``hyperband`` (Li et
    al. 2018). A point with repeats is judged by its first seed.
    """

    on: Literal["tokenizer", "probe"] = "tokenizer"
    measure: Literal["loss", "reconstruction", "ar_loss", "diffusion_loss", "probe_loss", "probe_bits"] = "loss"
    """of the training batches: all losses together, a tokenizer's reconstruction, a probe's nats per token,
    or a diffusion probe's error; of a tokenizer's intermediate probes (``training.probe_every``): nats per token, which
    compare at equal vocabulary and length, or bits per image, which always compare; a collapsed codebook is easy to
    predict and looks good in both"""
    kind: Literal["median", "hyperband"] = "median"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """share of the stage's budget that no point is denied"""

    @model_validator(mode="after")
    def _measured(self) -> Pruner:
        of_tokenizer, of_probe = ("reconstruction", "probe_loss", "probe_bits"), ("ar_loss", "diffusion_loss")
        told = {"tokenizer": of_tokenizer, "probe": of_probe}[self.on]
        if self.measure not in ("loss", *told):
            raise ValueError(f"the training of a {self.on} has no {self.measure}")
        return self


class Limit:
    """A constraint, ``expression <= number`` or ``>=``; the number may carry k, M, G or T."""

    def __init__(self, text: str) -> None:
        match = _LIMIT.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"a constraint is an expression, <= or >=, and a number (tokenizer_params <= 200M): {text!r}"
            )
        self.text = text
        self.expression: Expression = compile_expression(match["expression"])
        self.limit = float(match["limit"].replace("_", "")) * _SUFFIXES[match["suffix"]]
        self.upper = match["order"] == "<="

    def violation(self, value: float) -> float:
        """How far beyond the limit a value is, in parts of the limit; 0 or less where the constraint holds."""
        beyond = value - self.limit if self.upper else self.limit - value
        return beyond / (abs(self.limit) or 1.0)


def _readable(text: str) -> str:
    try:
        Limit(text)
    except ConfigError as error:
        raise ValueError(error.what) from None
    return text


class SearchConfig(Config):
    """A search instead of a grid, or at every point of one."""

    sampler: Literal["grid", "random", "tpe", "nsga2", "information"] = "tpe"
    """``information`` seeks no best value: it asks for what narrows the ``target`` the most for its cost"""
    space: dict[str, Parameter]
    """dotted path of the trial -> what it may be"""
    objectives: list[Objective]
    """one, or two and more for a front between them"""
    constraints: list[Annotated[str, AfterValidator(_readable)]] = []
    """over sizes, settings, ``train_flops`` and ``gpu_hours``; a point that breaks one costs nothing"""
    trials: Count | None = None
    """different points that are tried; the grid sampler's default is all"""
    parallel: Count | None = None
    """points that are open at a time; by default 4 (tpe, nsga2) or all (grid, random)"""
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    """seeds of each point, from the trial's on; its objective is the mean over them"""
    seed: Seed = 0
    """of the sampler"""
    startup: Count | None = None
    """random points before tpe learns; by default a quarter of the trials, 10 at most"""
    population: Annotated[int, Field(ge=2)] | None = None
    """points of a generation of nsga2; by default a fifth of the trials, 50 at most"""
    pruner: Pruner | None = None
    target: str | None = None
    """of the information sampler, as "gfd at bottleneck_floats=8192"; its measure is the objective"""
    law: str | None = None
    """of the information sampler; the best by AICc if not said"""

    @field_validator("space")
    @classmethod
    def _some_space(cls, space: dict[str, Parameter]) -> dict[str, Parameter]:
        if not space:
            raise ValueError("an empty space: there is nothing to search")
        if "seed" in space:
            raise ValueError("a seed is not searched for; `repeats` judges each point on several")
        return space

    @field_validator("objectives")
    @classmethod
    def _some_objective(cls, objectives: list[Objective]) -> list[Objective]:
        names = [objective.measure for objective in objectives]
        if not names or len(set(names)) < len(names):
            raise ValueError("one objective is needed, or several different ones")
        return objectives

    @field_validator("startup", "population")
    @classmethod
    def _of_this_sampler(cls, value: int | None, info: ValidationInfo) -> int | None:
        sampler = "tpe" if info.field_name == "startup" else "nsga2"
        if value is not None and info.data.get("sampler") != sampler:
            raise ValueError(f"only {sampler} has it, not {info.data.get('sampler')}")
        return value

    @field_validator("target", "law")
    @classmethod
    def _of_information(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("sampler") != "information":
            raise ValueError(f"only information has it, not {info.data.get('sampler')}")
        return value

    @field_validator("pruner")
    @classmethod
    def _prunable(cls, pruner: Pruner | None, info: ValidationInfo) -> Pruner | None:
        objectives = info.data.get("objectives", [])
        if pruner is not None and len(objectives) > 1:
            names = ", ".join(objective.measure for objective in objectives)
            raise ValueError(f"pruning needs one objective, not {len(objectives)} ({names}): on a front none is worse")
        return pruner

    @model_validator(mode="after")
    def _ends(self) -> SearchConfig:
        if self.sampler == "information" and (self.target is None or len(self.objectives) != 1):
            raise ValueError('the information sampler needs a target, as "psnr at bottleneck_floats=8192", and its '
                             "measure as the one objective")  # fmt: skip
        if self.target is not None and not re.search(rf"\b{self.objectives[0].measure}\b", self.target):
            raise ValueError(f"the target is not about the objective {self.objectives[0].measure}: {self.target}")
        if self.trials is None and self.sampler != "grid":
            raise ValueError(f"how many trials? Only the grid sampler ends by itself, not {self.sampler}")
        return self

    @property
    def at_once(self) -> int | None:
        """Points that are open at a time; None for all."""
        return self.parallel if self.parallel is not None or self.sampler in ("grid", "random") else PARALLEL

    @property
    def startup_points(self) -> int:
        """Random points before the tree-structured Parzen estimator learns."""
        return self.startup or min(STARTUP, max(2, (self.trials or 0) // 4))

    @property
    def population_size(self) -> int:
        """Points of one generation."""
        return self.population or min(POPULATION, max(4, (self.trials or 0) // 5))

    def limits(self) -> list[Limit]:
        """The constraints, read."""
        return [Limit(text) for text in self.constraints]

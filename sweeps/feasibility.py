"""Whether a point of a search may be tried: its constraints, the spec's conditions and the cluster, before it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sweeps.grid import Trial, compiled_condition, holds
from sweeps.search_config import Limit
from sweeps.spec import SpecFile, SweepSpec
from tokscale.config import Config
from tokscale.errors import ConfigError, UsageError, one_of

BROKEN = 1.0  # the value of a condition that does not hold: there is no telling by how much
INVALID = "settings go together"
TOO_LARGE = "fits the cluster"
_ABSENT = ("bottleneck_bits", "codebook_size", "probe_params")  # sizes that only some trials have
_OF_THE_PLAN = ("flops", "gpu_hours")


class Cost(Protocol):
    """What a trial takes in all its stages."""

    def flops(self, trial: Trial) -> float: ...

    def gpu_hours(self, trial: Trial) -> float | None:
        """None where no rate is known; raises ``UsageError`` for a trial that does not fit the cluster."""


class Feasibility:
    """The constraints of a search. A point is feasible when the value of each is 0 or less."""

    def __init__(self, spec: SweepSpec, file: SpecFile, cost: Cost) -> None:
        assert spec.search is not None
        self.spec, self.file, self.cost = spec, file, cost
        self.limits: list[Limit] = spec.search.limits()
        self.conditions = [compiled_condition(text, number, file) for number, text in enumerate(spec.where)]

    @property
    def names(self) -> frozenset[str]:
        """Names of all constraints that a point can break."""
        return frozenset([limit.text for limit in self.limits] + [*self.spec.where, INVALID, TOO_LARGE])

    def values(self, trials: Sequence[Trial]) -> dict[str, float]:
        """The value of each constraint for a point: the worst of its trials, in parts of the limit.

        Raises ``ConfigError`` with file and line for a constraint that cannot be computed.
        """
        found: dict[str, float] = {}
        for trial in trials:
            for name, value in self._of_trial(trial).items():
                found[name] = max(value, found.get(name, value))
        return found

    def _of_trial(self, trial: Trial) -> dict[str, float]:
        values = {
            condition.text: 0.0 if holds(condition, number, trial.config, trial.sizes, self.file) else BROKEN
            for number, condition in enumerate(self.conditions)
        }
        if any(values.values()):
            return values
        try:
            hours = self.cost.gpu_hours(trial)
        except UsageError:
            return {**values, TOO_LARGE: BROKEN}
        for number, limit in enumerate(self.limits):
            values[limit.text] = self._violation(limit, number, trial, hours)
        return values

    def _violation(self, limit: Limit, number: int, trial: Trial, hours: float | None) -> float:
        place = self.file.place(f"search.constraints.{number}")

        def lookup(name: str) -> Any:
            if name == "gpu_hours":
                if hours is None:
                    raise ConfigError("GPU hours are not known: no stage has finished yet, and no `tflops` is given",
                                      where=place, given=limit.text,
                                      allowed="a cluster whose profile has `tflops`, or a limit on flops")  # fmt: skip
                return hours
            return self.cost.flops(trial) if name == "flops" else _setting(trial, name, limit.text, place)

        if any(lookup(name) is None for name in limit.expression.names):
            return 0.0  # it limits a size that this trial does not have
        try:
            value = limit.expression.evaluate(lookup)
        except ConfigError as error:
            where = error.where if error.where == place else place
            raise ConfigError(error.what, where=where, given=error.given, allowed=error.allowed) from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError("a constraint limits a number", where=place, given=f"{limit.text}, of {value!r}",
                              allowed="for example tokenizer_params <= 200M")  # fmt: skip
        return limit.violation(value)


def _setting(trial: Trial, name: str, text: str, place: str) -> Any:
    """A size of a trial or a value of its config by dotted path; None for a size that it does not have."""
    if name in trial.sizes or name in _ABSENT:
        return trial.sizes.get(name)
    node: Any = trial.config
    for key in name.split("."):
        if not isinstance(node, Config) or key not in type(node).model_fields:
            words = [*_OF_THE_PLAN, *trial.sizes]
            raise ConfigError(f"a constraint names {name!r}, which is no size and no setting of a trial", where=place,
                              given=text, allowed=one_of(words, name))  # fmt: skip
        node = getattr(node, key)
    return node

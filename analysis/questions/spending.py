"""Where the next parameters go: the gain of so many more in one part of the tokenizer against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.questions import wording
from analysis.questions.answers import Answer, Better, Estimate, check_level
from analysis.questions.configurations import Configurations, chosen, configurations
from analysis.questions.measures import better_of, on_log_scale, unit_of
from analysis.questions.settings import equal_for, strata
from analysis.questions.surfaces import Surface, surfaces
from tokscale.errors import UsageError

Array = npt.NDArray[np.float64]
_SUPPORTED = 0.1  # a law with less of the Akaike weight has no say
_FARTHEST = 4.0  # times the largest size measured: what no law of a few sizes is asked for


@dataclass(frozen=True)
class Spending(Answer):
    """The gain in y of so many more ``parameters`` in each part, from sizes ``at``; positive is better.

    Gains and ``difference`` (the first part's less the second's) are of ``law``, in natural logarithms of the measure
    if ``relative``. ``verdict`` names the better part, or is "unresolved"; every law with a tenth of the Akaike
    ``weights`` must agree, and no part may be asked beyond four times its largest size.
    """

    y: str
    parameters: float
    parts: tuple[str, str]
    at: Mapping[str, float]
    gains: Mapping[str, Estimate]
    difference: Estimate
    verdict: str
    law: str
    weights: Mapping[str, float]
    n: int
    strata: int
    relative: bool
    better: Better
    level: float
    held: tuple[str, ...]
    warnings: tuple[str, ...]

    def sentence(self) -> str:
        first, second = self.parts
        places = wording.listed(f"{wording.label(part)} {wording.count(self.at[part])}" for part in self.parts)
        gains = " and ".join(f"{self._shown(self.gains[part])} in {wording.label(part)}" for part in self.parts)
        said = (
            f"From {places}, the gain in {wording.label(self.y)} (above zero is better) of the next "
            f"{wording.count(self.parameters)} is {gains} ({self.law} law, n = {self.n})"
        )
        change = self._shown(self.difference)
        far = [warning for warning in self.warnings if "times beyond" in warning]
        said += f"; {wording.listed(far)}" if far else ""
        if self.verdict == "unresolved":
            return f"{said}: where they go better is not resolved (difference {change})."
        other = second if self.verdict == first else first
        return f"{said}: they go better into {wording.label(self.verdict)} than {wording.label(other)} ({change})."

    def _shown(self, gain: Estimate) -> str:
        """A gain as a person says it: of a relative measure that is better lower, the share that it falls by."""
        if not self.relative or self.better == "higher":
            return wording.effect(gain, self.relative, unit_of(self.y))
        value, low, high = (
            None if one is None else -wording.percent(-one) for one in (gain.value, gain.low, gain.high)
        )
        assert value is not None
        return wording.bracket(value, low, high, "%")


def where_to_spend(
    table: pd.DataFrame, y: str, parameters: float = 100e6,
    parts: tuple[str, str] = ("encoder_params", "decoder_params"), *, at: Mapping[str, float] | None = None,
    within: Sequence[str] | None = None, where: str | None = None, level: float = 0.95, better: str | None = None,
    relative: bool | None = None,
) -> Spending:  # fmt: skip
    """Whether the next ``parameters`` (in the unit of the columns) improve y more in the first part or in the second.

    Two laws are fitted to the configurations, seeds averaged: a product of powers of both sizes (for measures that are
    told in their unit, a plane in their logarithms), with a level for each stratum of equal other settings (``within``
    names them instead); and, where there is but one stratum and points enough, the additive law with a floor, whose
    gains diminish. ``at`` are the sizes to start from: if not given, those of the best configuration. Raises
    ``TableError`` where the sizes of the two parts cannot be told apart.
    """
    check_level(level)
    if not parameters > 0:
        raise UsageError("the parameters to spend are a positive number", given=parameters)
    way, relative = better_of(y, better), on_log_scale(y, relative)
    found = configurations(chosen(table, where, (*parts, y)), parts, y, relative=relative)
    held = list(within) if within is not None else _held(found, parts, y)
    best = found.y.argmin() if way == "lower" else found.y.argmax()
    place = {part: float((at or {}).get(part, found.x[i, best])) for i, part in enumerate(parts)}
    before = np.array([place[part] for part in parts])
    after = before + parameters * np.eye(2)
    fitted, weights = surfaces(found, parts, strata(found.table, held), way)
    sign = 1.0 if way == "lower" else -1.0
    answers = {one.law: _gains(one, before, after, sign, level) for one in fitted}
    first = answers[next(iter(weights))]
    word, notes = _agreed({name: gains[2] for name, gains in answers.items() if weights[name] >= _SUPPORTED}, parts)
    beyond = {part: after[i, i] / found.x[i].max() for i, part in enumerate(parts)}
    notes += [f"{part} is asked {wording.number(share)} times beyond the largest measured"
              for part, share in beyond.items() if share > 1]  # fmt: skip
    if max(beyond.values()) > _FARTHEST:
        word = "unresolved"
    return Spending(
        y, parameters, parts, place, dict(zip(parts, first[:2], strict=True)), first[2],
        word, next(iter(weights)), weights, fitted[0].n, fitted[0].strata,
        relative, way, level, tuple(held), (*found.warnings, *notes),
    )  # fmt: skip


def _held(found: Configurations, parts: tuple[str, str], y: str) -> list[str]:
    """The settings that both parts' effects hold equal; the parts themselves are in the law."""
    sides = [equal_for(found.table, part, (y, *parts))[0] for part in parts]
    return [name for name in sides[0] if name in sides[1]]


def _gains(surface: Surface, before: Array, after: Array, sign: float, level: float) -> tuple[Estimate, ...]:
    """Gain in the first part, in the second, and their difference; sizes before (2,) and after (2, 2), a row a part."""
    one = [surface.difference(before, sizes, sign, level) for sizes in after]
    return (*one, surface.difference(after[0], after[1], -sign, level))


def _agreed(differences: Mapping[str, Estimate], parts: tuple[str, str]) -> tuple[str, list[str]]:
    """The part that is better by every law, or "unresolved", and a note where laws differ."""
    words = {name: (parts[0] if one.value > 0 else parts[1]) if one.resolved else "unresolved"
             for name, one in differences.items()}  # fmt: skip
    if len(set(words.values())) == 1:
        return next(iter(words.values())), []
    return "unresolved", [f"the laws disagree: {', '.join(f'{name} {word}' for name, word in words.items())}"]

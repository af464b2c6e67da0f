"""One law for several groups at once, with some of its parameters shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.laws.law import Array, Law, Terms
from analysis.laws.starts import KEPT
from tokscale.errors import UsageError, one_of

Places = npt.NDArray[np.int64]


def group_law(law: Law, groups: int, shared: Sequence[str]) -> Law:
    """The law for several groups: shared parameters once, the others once a group, named ``scale[0]``, ``scale[1]``.

    Its z has one more row, the number of each point's group. ``UsageError`` for a shared name that is no parameter.
    """
    for name in shared:
        if name not in law.parameters:
            raise UsageError(f"{law.name} has no such parameter to share", given=name,
                             allowed=one_of(law.parameters, name))  # fmt: skip
    layout = _Layout.of(law, groups, shared)
    copies = {name: [name] if name in shared else [f"{name}[{group}]" for group in range(groups)]
              for name in law.parameters}  # fmt: skip
    powers = tuple(
        power._replace(scale=scale, exponent=copies[power.exponent][group if len(copies[power.exponent]) > 1 else 0])
        for power in law.powers
        for group, scale in enumerate(copies[power.scale])
    )
    # A scale that groups share has one unit of x only if they share its exponent; else z is not centred.
    divided = any(power.scale in shared and power.exponent not in shared for power in law.powers)
    return replace(
        law,
        name=law.name,
        parameters=tuple(name for names in copies.values() for name in names),
        curve=layout.curve,
        bend=layout.bend,
        positive=tuple(name for base in law.positive for name in copies[base]),
        bounds={name: limits for base, limits in law.bounds.items() for name in copies[base]},
        separable=tuple(name for base in law.separable for name in copies[base]),
        powers=() if divided else powers,
        starts=layout.starts if law.starts is not None else None,
        moves=None,
        turning_point=None,
        terms=layout.terms if law.terms is not None else None,
        groups=groups,
    )


@dataclass(frozen=True)
class _Layout:
    """Where each group finds the parameters of the law among those of all: ``places`` (groups, p)."""

    law: Law
    places: Places
    count: int

    @classmethod
    def of(cls, law: Law, groups: int, shared: Sequence[str]) -> _Layout:
        places, count = [], 0
        for name in law.parameters:
            places.append(np.full(groups, count) if name in shared else count + np.arange(groups))
            count += 1 if name in shared else groups
        return cls(law, np.stack(places, axis=1), count)

    def curve(self, coordinates: Array, z: Array) -> tuple[Array, Array]:
        shape = (len(coordinates), z.shape[-1])
        value, slope = np.zeros(shape), np.zeros((*shape, self.count))
        for place, inside in self._members(z):
            if len(inside) == 1:  # the same points for all: each group is asked at its own only
                rows = np.flatnonzero(inside[0])
                value[:, rows], slope[:, rows[:, None], place] = self.law.curve(coordinates[:, place], z[:-1, :, rows])
            else:
                part, part_slope = self.law.curve(coordinates[:, place], z[:-1])
                value = np.where(inside, part, value)
                slope[..., place] = np.where(inside[..., None], part_slope, slope[..., place])
        return value, slope

    def bend(self, coordinates: Array, z: Array) -> Array:
        found = np.zeros((len(coordinates), z.shape[-1], self.count, self.count))
        for place, inside in self._members(z):
            where = (..., place[:, None], place)
            found[where] = np.where(inside[..., None, None], self.law.bend(coordinates[:, place], z[:-1]), found[where])
        return found

    def terms(self, z: Array) -> Terms:
        assert self.law.terms is not None
        base = self.law.terms(z[:-1])
        linear = np.zeros((*z.shape[1:], self.count))
        exponents = np.zeros((len(base.signs), *linear.shape))
        for place, inside in self._members(z):
            linear[..., place] += np.where(inside[..., None], base.linear, 0.0)
            exponents[..., place] += np.where(inside[..., None], base.exponents, 0.0)
        return Terms(linear, exponents, base.signs)

    def starts(self, z: Array, y: Array) -> Array:
        """The best starts of each group by itself; a shared parameter begins with one group's or with the mean."""
        assert self.law.starts is not None
        alone = [self._ranked(z[:-1, :, inside], y[:, inside]) for _, inside in self._points(z)]  # each (b, s, p)
        together = self._ranked(z[:-1], y)
        kept = min(KEPT, *(one.shape[1] for one in (*alone, together)))
        found = []
        for lender in (None, *range(len(alone))):
            start = np.zeros((len(y), kept, self.count))
            start[..., self.places] = np.stack([one[:, :kept] for one in alone], axis=2)
            for place in np.flatnonzero((self.places == self.places[0]).all(axis=0)):
                values = np.stack([one[:, :kept, place] for one in alone])
                start[..., self.places[0, place]] = values.mean(axis=0) if lender is None else values[lender]
            found.append(start)
        pooled = np.zeros((len(y), kept, self.count))
        pooled[..., self.places] = together[:, :kept, None, :]
        return np.concatenate([*found, pooled], axis=1)

    def _ranked(self, z: Array, y: Array) -> Array:
        """The law's own starts on these points, least cost first."""
        assert self.law.starts is not None
        starts = np.clip(self.law.starts(z, y), *self.law.limits())
        costs = np.empty(starts.shape[:2])
        for place in range(starts.shape[1]):
            with np.errstate(all="ignore"):
                value = self.law.curve(starts[:, place], z)[0]
                error = np.log(value / y) if self.law.log_residuals else value - y
            costs[:, place] = np.nan_to_num((error**2).sum(axis=1), nan=np.inf)
        return np.take_along_axis(starts, costs.argsort(axis=1)[:, :, None], axis=1)

    def _members(self, z: Array) -> list[tuple[Places, npt.NDArray[np.bool_]]]:
        return [(place, z[-1] == group) for group, place in enumerate(self.places)]

    def _points(self, z: Array) -> list[tuple[Places, npt.NDArray[np.bool_]]]:
        return [(place, inside[0]) for place, inside in self._members(z)]

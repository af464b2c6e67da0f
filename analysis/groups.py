"""Groups of rows: each fitted apart, or all at once with some of the law's parameters shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.estimation import Request, check_carried, doubts, fit_of, open_ends, solved
from analysis.fitted import Fit, named_parameters
from analysis.laws import Law, group_law
from analysis.table import Array, Points
from tokscale.errors import TableError


def groups_of(table: pd.DataFrame, by: str | None) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Each value of a column with its rows, in order; the whole table, named None, without a column."""
    if by is None:
        yield None, table
        return
    if table[by].isna().all():
        raise TableError("a column to group by has no value", given=by)
    for value, rows in table.groupby(by, sort=True, observed=True):
        yield getattr(value, "item", lambda value=value: value)(), rows


def estimate_together(
    groups: Mapping[Any, Points], law: Law, shared: Sequence[str], asked: Request, by: str
) -> list[Fit]:
    """The fits of all groups by one least-squares problem, in which some parameters are the same for all.

    Every group shows its own parameters and the shared ones with the joint interval. R2, AICc and hold-out error are of
    the joint fit. ``TableError`` if the points cannot carry the law.
    """
    joint = group_law(law, len(groups), shared)
    points = _together(list(groups.values()))
    check_carried(joint, points.x, asked, None)
    found = solved(joint, points, asked)
    names = {f"[{place}]": f" of group {group}" for place, group in enumerate(groups)}

    def called(name: str) -> str:
        base, bracket, rest = name.partition("[")
        return base + names[bracket + rest] if bracket else name

    every = named_parameters(found.task, found.solution, found.limits, joint.parameters, None)
    warnings = [
        f"{', '.join(shared)} shared by {len(groups)} groups of {by}: R2, AICc and hold-out error are those of the "
        f"joint fit of {len(points.y)} points",
        *doubts(found, points, asked, called),
        *(open_ends(joint, every, called) if found.task.freedom > 0 else []),
    ]
    return [
        fit_of(
            law, own, asked, group, found,
            named_parameters(found.task, found.solution, found.limits, law.parameters, place),
            (*own.warnings, *warnings), place,
        )
        for place, (group, own) in enumerate(groups.items())
    ]  # fmt: skip


def _together(groups: Sequence[Points]) -> Points:
    """The points of all groups, with the number of its group below the sizes of each."""
    sizes = [np.append(points.x, np.full((1, len(points.y)), float(place)), axis=0)
             for place, points in enumerate(groups)]  # fmt: skip
    freedom = sum(points.seed_freedom for points in groups)
    spread = sum((points.seed_variance or 0.0) * points.seed_freedom for points in groups)
    weight: Array | None = None
    if groups[0].weight is not None:
        weight = np.concatenate([points.weight for points in groups if points.weight is not None])
        weight = weight / weight.mean()
    return Points(
        np.concatenate(sizes, axis=1),
        np.concatenate([points.y for points in groups]),
        np.concatenate([points.rows for points in groups]),
        (),
        seeds=np.concatenate([points.seeds for points in groups]),
        seed_variance=spread / freedom if freedom else None,
        seed_freedom=freedom,
        weight=weight,
        runs=_runs_of_all(groups),
    )


def _runs_of_all(groups: Sequence[Points]) -> npt.NDArray[np.int64] | None:
    """The runs of all groups, numbered on; None where every point is a run of its own."""
    if all(points.runs is None for points in groups):
        return None
    runs: list[npt.NDArray[np.int64]] = []
    first = 0
    for points in groups:
        own = np.arange(len(points.y)) if points.runs is None else points.runs
        runs.append(own + first)
        first += int(own.max()) + 1
    return np.concatenate(runs)

"""Very many points of nearly equal sizes as fewer points of more weight, for laws of several columns or groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.solver import Problem
from analysis.table import Array

Codes = npt.NDArray[np.int64]

_MANY = 20_000  # points; fewer are fitted as they are
_CELLS = 10_000


def gathered(task: Problem) -> Problem:
    """The problem with the points of each small cell of ln x replaced by their weighted mean, if it has very many.

    Exact where sizes repeat, as those of a grid do; else a cell is 1/100 of the span of each of two columns wide, and
    the law nearly straight within it. The scatter within cells stays in the cost. For squares and a single data set:
    linear laws need no such help, Huber's loss allows none, and laws of one column are gathered by ``problem``.
    """
    n = task.target.shape[1]
    if n <= _MANY or task.law.linear or task.delta is not None or n < task.rows:
        return task
    place = _cells(task.z[:, 0], task.law.x_columns)
    weight: Array = np.asarray(np.bincount(place, weights=task.weight), dtype=np.float64)
    if 4 * len(weight) > n:
        return task

    def mean(values: Array) -> Array:
        return np.asarray(np.bincount(place, weights=task.weight * values) / weight)

    target = mean(task.target[0])
    scatter = (task.weight * (task.target[0] - target[place]) ** 2).sum()
    z = np.stack([mean(row) for row in task.z[:, 0]])
    if task.law.groups:
        z[-1] = np.round(z[-1])  # a mean of equal numbers need not be that number to the last digit
    return replace(task, z=z[:, None], target=target[None], weight=weight, scatter=task.scatter + scatter)


def ungathered(task: Problem, x: Array, y: Array, weight: Array | None) -> Problem:
    """The problem with every point by itself, for whoever resamples points."""
    z = (task.law.z(x) - task.center)[:, None, :]
    target = (np.log(y) if task.law.log_residuals else y)[None]
    return replace(task, z=z, target=target, weight=np.ones(len(y)) if weight is None else weight, scatter=np.zeros(1))


def _cells(z: Array, columns: int) -> Codes:
    """The number of the cell (n,) of each place z (k, n); sizes that repeat enough keep a cell of their own."""
    groups = int(z[-1].max()) + 1 if len(z) > columns else 1
    bins = max(8, int((_CELLS / groups) ** (1 / columns)))
    codes = []
    for row in z[:columns]:
        code, sizes = pd.factorize(row)
        if len(sizes) > bins:
            code = np.minimum(((row - row.min()) / np.ptp(row) * bins).astype(np.int64), bins - 1)
        codes.append(code)
    if len(z) > columns:
        codes.append(z[-1].astype(np.int64))
    joined = np.ravel_multi_index(codes, [int(code.max()) + 1 for code in codes])
    return np.asarray(pd.factorize(joined)[0], dtype=np.int64)

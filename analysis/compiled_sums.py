"""Sums over the points of one problem, compiled by numba: the arithmetic of ``curves`` without arrays of all problems.

``features`` (f, n) are the entries of a law's terms that are not zero: what part ``owner`` of the law (0: the linear
one, then the exponentials) takes from coordinate ``place``. Loops run along points, where they become vector code.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.vector_math import exponentials, logarithms, machine_code

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@machine_code
def evaluate(
    at: Array, features: Array, owner: Places, place: Places, signs: Array, log: bool, target: Array,
    parts: Array, residual: Array,
) -> None:  # fmt: skip
    """The parts of the law (1 + t, n), divided by its value for a log law, and the residuals (n,)."""
    m = len(target)
    value, powers = np.zeros(m), np.empty(m, np.int64)
    parts[:] = 0.0
    for f in range(len(features)):
        row, feature, factor = parts[owner[f]], features[f], at[place[f]]
        for k in range(m):
            row[k] += factor * feature[k]
    for a in range(1, len(parts)):
        row, sign = parts[a], signs[a]
        exponentials(row, powers)
        for k in range(m):
            row[k] *= sign
            value[k] += row[k]
    row = parts[0]
    for k in range(m):
        value[k] += row[k]
        row[k] = 1.0
    if log:
        row = parts[0]
        for k in range(m):
            row[k] = 1 / value[k]
        for a in range(1, len(parts)):
            other = parts[a]
            for k in range(m):
                other[k] *= row[k]
        logarithms(value, powers)
    for k in range(m):
        residual[k] = target[k] - value[k]


@machine_code
def loss(residual: Array, weight: Array, threshold: float) -> float:
    total = 0.0
    for k in range(len(residual)):
        size = abs(residual[k])
        inner = min(size, threshold)
        total += weight[k] * inner * (2 * size - inner)
    return total if np.isfinite(total) else np.inf


@machine_code
def weigh(
    residual: Array, weight: Array, threshold: float, damping: float, exact: bool, before: Flags, inside: Flags,
    pull: Array, square: Array,
) -> None:  # fmt: skip
    """What each point pulls with, its weight in the curvature, damping included, and whether it counts as inside."""
    for k in range(len(residual)):
        size = abs(residual[k])
        inner = min(size, threshold)
        inside[k] = size <= threshold or before[k]
        pull[k] = weight[k] * (inner if residual[k] > 0 else -inner)
        share = inner / size if size > 0 else 1.0
        if exact:
            square[k] = weight[k] * (damping * share + (1.0 if inside[k] else 0.0))
        else:
            square[k] = weight[k] * (1 + damping) * share


@machine_code
def way_back(
    slopes: Array, weight: Array, before: Array, after: Array, inside: Flags, move: Array, pull: Array
) -> None:  # fmt: skip
    """The pull (p,) of the inner points to where a step meant their residuals to be, for a second-order correction."""
    p, m = slopes.shape
    excess = after - before
    for i in range(p):
        row = slopes[i]
        for k in range(m):
            excess[k] += row[k] * move[i]
    for k in range(m):
        excess[k] *= weight[k] if inside[k] else 0.0
    for i in range(p):
        pull[i] = dot(excess, slopes[i])


@machine_code
def normal(
    features: Array, owner: Places, place: Places, log: bool, parts: Array, pull: Array, square: Array, exact: bool,
    slopes: Array, gradient: Array, matrix: Array,
) -> None:  # fmt: skip
    """Gradient (p,) and curvature (p, p), lower triangle, of half the cost."""
    p, m = slopes.shape
    slopes[:] = 0.0
    for f in range(len(features)):
        row, feature, part = slopes[place[f]], features[f], parts[owner[f]]
        for k in range(m):
            row[k] += part[k] * feature[k]
    if log and exact:
        for k in range(m):
            square[k] += pull[k]
    weighted = np.empty(m)
    for i in range(p):
        one = slopes[i]
        total = 0.0
        for k in range(m):
            total += pull[k] * one[k]
            weighted[k] = square[k] * one[k]
        gradient[i] = total
        for j in range(i + 1):
            matrix[i, j] = dot(weighted, slopes[j])
    if exact:
        _bend(features, owner, place, parts, pull, matrix)


@machine_code
def _bend(features: Array, owner: Places, place: Places, parts: Array, pull: Array, matrix: Array) -> None:
    """Take off the second derivatives of the exponentials: pull times part times the products of their features."""
    weighted = np.empty(len(pull))
    for f in range(len(features)):
        if owner[f] == 0:
            continue
        part, one = parts[owner[f]], features[f]
        for k in range(len(pull)):
            weighted[k] = pull[k] * part[k] * one[k]
        for g in range(len(features)):
            if owner[g] == owner[f] and place[g] <= place[f]:
                matrix[place[f], place[g]] -= dot(weighted, features[g])


@machine_code
def dot(one: Array, other: Array) -> float:
    total = 0.0
    for k in range(len(one)):
        total += one[k] * other[k]
    return total

"""Where nonlinear fits start: a grid over the few coordinates that are not linear, the others in closed form.

Given its exponents, a level and scales are linear parameters and follow by non-negative least squares; given its
breaks, a broken power law is linear in ln y (variable projection, Golub and Pereyra 1973). Of the profile so found the
local minima are kept, each the bottom of a valley of its own, and then the best of the rest.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from analysis.laws.law import Array, Power, Starts

KEPT = 16
_KEPT_OF_ONE = 6  # a single exponent has few valleys
_PASSES = 3
_RIDGE = 1e-13
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
_CELLS = 2_000_000  # entries of the profile that are worked on at once
# Decay of a power over the whole span of ln x, from a straight line to gone after the first points; as many as pay for
# one, two, ... powers at once.
_DECAYS = {1: 40, 2: 16, 3: 9, 4: 6}
_MOVES = 16
_LEAST_DECAY, _MOST_DECAY, _STEEPEST = 1e-2, 60.0, 30.0
_NONE = 1e-12  # of the mean of y: the logarithm of a part that is absent must be some number


def profile_starts(powers: tuple[Power, ...], log_residuals: bool, least_exponent: float) -> Starts:
    """Starts of a level and powers: one a choice of exponents, level and scales by non-negative least squares.

    A law of log residuals is fitted to relative errors, and its level is at least zero as well.
    """

    def starts(z: Array, y: Array) -> Array:
        count = _DECAYS.get(len(powers), max(3, int(1500 ** (1 / len(powers)))))
        rates = _rates(powers, z, least_exponent, count)  # (k, m)
        middle = z.mean(axis=(1, 2))
        exponents = np.stack([
            power.direction * rates[place][:, None] * (z[power.column] - middle[power.column])
            for place, power in enumerate(powers)
        ])  # (k, m, n)  # fmt: skip
        peaks = exponents.max(axis=2)  # over ten decades a steep power leaves the range of floats
        basis = np.array([float(power.sign) for power in powers])[:, None, None] * np.exp(exponents - peaks[..., None])
        size = np.abs(y).max(axis=1, keepdims=True) + 1e-300
        y = y / size
        kept = KEPT if len(powers) > 1 else _KEPT_OF_ONE
        if log_residuals:
            linear, places = _of_logarithms(basis, y, kept)
        else:
            linear, places = _with_level(basis, y, np.ones_like(y), False, kept)
        coordinates = np.empty((*linear.shape[:2], 1 + 2 * len(powers)))
        coordinates[..., 0] = linear[..., 0] * size
        for place, power in enumerate(powers):
            rate = rates[place][places[..., place]]
            part = np.abs(basis[place]).mean(axis=1)[places[..., place]]
            least = _NONE * np.abs(y).mean(axis=1)[:, None] / part + 1e-300
            scale = np.log(np.maximum(linear[..., 1 + place], least)) + np.log(size) - peaks[place][places[..., place]]
            coordinates[..., 1 + 2 * place] = scale - power.direction * rate * middle[power.column]
            coordinates[..., 2 + 2 * place] = rate
        return coordinates

    return starts


def _of_logarithms(basis: Array, y: Array, kept: int) -> tuple[Array, Places]:
    """Level and scales (b, s, 1 + k) and places in the basis (b, s, k) for errors of ln y.

    First of relative errors; then twice of ln y to first order around the best curve so far, so that errors of a share
    of y weigh alike on both of its sides; and without a level, which is a minimum of its own where exponents are small.
    """
    target, weight, found = y, 1 / y**2, []
    for _ in range(_PASSES):
        found.append(_with_level(basis, target, weight, True, kept))
        linear, places = (part[:, 0] for part in found[-1])
        parts = (linear[:, 1 + i, None] * basis[i][places[:, i]] for i in range(len(basis)))
        value = np.maximum(linear[:, :1] + sum(parts), 1e-6 * y)
        target, weight = value * (1 + np.log(y / value)), 1 / value**2
    linear, places = profile(np.ones((0, y.shape[1])), basis, target, weight, (True,) * len(basis), kept // 2)
    found.append((np.insert(linear, 0, 0.0, axis=2), places))
    before, last, without = found[-3:]
    half = [part[:, : kept // 2] for part in before]
    return np.concatenate([last[0], half[0], without[0]], axis=1), np.concatenate(
        [last[1], half[1], without[1]], axis=1
    )


def _with_level(basis: Array, y: Array, weight: Array, bounded: bool, kept: int) -> tuple[Array, Places]:
    return profile(np.ones((1, y.shape[1])), basis, y, weight, (bounded, *(True for _ in basis)), kept)


def profile_moves(powers: tuple[Power, ...], least_exponent: float) -> Starts:
    """One power after another with any other exponent, and its own among them; its scale is left to be settled."""

    def moves(z: Array, best: Array) -> Array:
        rates = _rates(powers, z, least_exponent, _MOVES)
        found = np.tile(best[:, None, None], (1, len(powers), 1 + _MOVES, 1))
        for place, rate in enumerate(rates):
            found[:, place, 1:, 2 + 2 * place] = rate
            found[:, place, :, 2 + 2 * place].sort(axis=-1)
        return found

    return moves


def _rates(powers: tuple[Power, ...], z: Array, least: float, count: int) -> Array:
    """Exponents to try (k, m): decays over the span of each column, and the steepest."""
    spans = np.array([max(float(np.ptp(z[power.column])), 1e-9) for power in powers])
    decays = np.geomspace(_LEAST_DECAY, _MOST_DECAY, count - 1)
    rates = np.clip(decays / spans[:, None], least, _STEEPEST)
    return np.append(rates, np.full((len(powers), 1), _STEEPEST), axis=1)


def profile(
    fixed: Array, parts: Array, y: Array, weight: Array, bounded: tuple[bool, ...], kept: int = KEPT, *,
    shape: tuple[int, ...] | None = None, allowed: Mask | None = None, apart: tuple[int, ...] = (),
) -> tuple[Array, Places]:  # fmt: skip
    """Least squares of y (b, n) on fixed columns (f, n) and one of m columns of each part (k, m, n), for all choices.

    The sum of weight (b or 1, n) x squared residual, with coefficients of at least zero where ``bounded`` (f + k).
    Gives the coefficients (b, s, f + k) of the best choices and their places in the parts (b, s, k). The m columns lie
    on a grid of a ``shape``, whose neighbours tell local minima, and ``apart`` are axes of the grid of all choices as
    in ``best_first``; only choices ``allowed`` (m^k,) are made.
    """
    k, m, n = parts.shape
    choices = np.indices((m,) * k).reshape(k, -1).T  # (m^k, k)
    wanted = np.append(np.tile(np.arange(len(fixed)), (len(choices), 1)),
                       len(fixed) + choices + m * np.arange(k), axis=1)  # fmt: skip
    columns = np.concatenate([fixed, parts.reshape(k * m, n)])
    columns = columns / (norm := np.sqrt((columns**2).mean(axis=1)) + 1e-300)[:, None]
    weight = weight / weight.mean(axis=1, keepdims=True)
    size = np.sqrt((weight * y**2).mean(axis=1, keepdims=True)) + 1e-300
    pairs = k == 2 and not any(bounded)
    rows = max(1, _CELLS // (len(choices) * (2 if pairs else wanted.shape[1] ** 2)))
    linear, places = [], []
    for begin in range(0, len(y), rows):
        part = slice(begin, begin + rows)
        w, target = weight[part] if len(weight) > 1 else weight, y[part] / size[part]
        gram, product = (columns * w[:, None, :]) @ columns.T, (w * target) @ columns.T
        if pairs:
            explained = _pairs_explain(gram[0], product, len(fixed)).reshape(len(target), -1)
        else:
            explained = _bounded_solutions(gram, product, wanted[None], bounded)[1]
        cost = -explained if allowed is None else np.where(allowed, -explained, np.inf)
        order = best_first(cost.reshape(len(cost), *(shape or (m,)) * k), kept, apart)
        linear.append(_bounded_solutions(gram, product, wanted[order], bounded)[0] / norm[wanted[order]])
        places.append(choices[order])
    return np.concatenate(linear) * size[:, :, None], np.concatenate(places)


def _pairs_explain(gram: Array, product: Array, fixed: int) -> Array:
    """Squares (b, m, m) that a column of the first and one of the second part explain beside the fixed ones."""
    m = (len(gram) - fixed) // 2
    known = np.linalg.solve(gram[:fixed, :fixed], gram[:fixed, fixed : fixed + m])
    gram_left = gram[fixed : fixed + m, fixed : fixed + m] - gram[fixed : fixed + m, :fixed] @ known
    left = product[:, fixed : fixed + m] - product[:, :fixed] @ known
    size = np.diag(gram_left)
    unit = np.where(size > 1e-9, 1 / np.sqrt(np.maximum(size, 1e-9)), 0.0)  # a line outside of the points says nothing
    cosine, along = gram_left * unit[:, None] * unit, left * unit
    both = along[:, :, None] ** 2 + along[:, None, :] ** 2 - 2 * cosine * along[:, :, None] * along[:, None, :]
    return np.asarray(both / np.maximum(1 - cosine**2, 1e-6))


def _bounded_solutions(gram: Array, product: Array, wanted: Places, bounded: tuple[bool, ...]) -> tuple[Array, Array]:
    """Least squares with bounded coefficients of at least zero, by trying every set of them that are not zero.

    From the normal equations of all columns, (b or 1, c, c) and (b, c), for each choice ``wanted`` (b or 1, s, q) of
    them: solutions (b, s, q) and the squares they explain (b, s).
    """
    b = np.arange(len(product))[:, None, None]
    right = product[b, wanted]
    matrix = gram[(b if len(gram) > 1 else 0 * b[: len(wanted)])[..., None], wanted[..., :, None], wanted[..., None, :]]
    best, explained, signed = np.zeros(right.shape), np.full(right.shape[:-1], -1.0), np.array(bounded)
    for present in itertools.product(*((True, False) if bound else (True,) for bound in bounded)):
        used = np.flatnonzero(present)
        if not len(used):
            continue
        part = matrix[..., used[:, None], used] + _RIDGE * len(used) * np.eye(len(used))
        found = _solved(part, right[..., used])
        gain = (found * right[..., used]).sum(axis=-1)
        better = ((found >= 0) | ~signed[used]).all(axis=-1) & (gain > explained)
        full = np.zeros(right.shape)
        full[..., used] = found
        best, explained = np.where(better[..., None], full, best), np.where(better, gain, explained)
    return best, explained


def _solved(matrix: Array, right: Array) -> Array:
    """Solutions (b, s, q) of positive definite systems (b or 1, s, q, q): of one or two unknowns in closed form."""
    q = right.shape[-1]
    if q > 2:
        return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])
    first = matrix[..., 0, 0]
    if q == 1:
        return np.asarray(right / first[..., None])
    across = matrix[..., 0, 1]
    ratio = across / first
    second = (right[..., 1] - ratio * right[..., 0]) / (matrix[..., 1, 1] - ratio * across)
    return np.stack([right[..., 0] / first - ratio * second, second], axis=-1)


def best_first(cost: Array, kept: int = KEPT, apart: tuple[int, ...] = ()) -> Places:
    """Places (b, kept) in the flattened grid of costs (b, m_1, m_2, ...): local minima first, then the best others.

    Along the axes ``apart`` nobody is a neighbour, and each of their cells sends its best before any its second best.
    """
    around = cost
    for axis in set(range(1, cost.ndim)) - set(apart):  # of the whole block of neighbours: valleys run across the grid
        inner, outer = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1)))
        lowest = around.copy()
        lowest[inner] = np.minimum(lowest[inner], around[outer])
        lowest[outer] = np.minimum(lowest[outer], around[inner])
        around = lowest
    numbers = np.broadcast_to(np.arange(cost[0].size).reshape(cost.shape[1:]), cost.shape)
    last = range(cost.ndim - len(apart), cost.ndim)
    cells = int(np.prod([cost.shape[axis] for axis in apart]))
    flat, higher, numbers = (np.moveaxis(part, apart, last).reshape(len(cost), -1, cells)
                             for part in (cost, cost > around, numbers))  # fmt: skip
    order = np.lexsort((flat, higher), axis=1)[:, : -(-kept // cells)]
    sent = [np.take_along_axis(part, order, axis=1).reshape(len(cost), -1) for part in (flat, numbers)]
    places: Places = np.take_along_axis(sent[1], sent[0].argsort(axis=1, kind="stable")[:, :kept], axis=1)
    return places

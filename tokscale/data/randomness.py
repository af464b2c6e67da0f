"""Random numbers without state: every number is a pure function of the words that name it.

The generator is SplitMix64's output function (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
generators") used as a keyed hash. No order of calls, batch size, worker, resume point, library version or machine can
change what a name stands for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_GOLDEN, _FIRST, _SECOND = (
    np.array([value], np.uint64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_ROUNDS = 6  # four make a Feistel network a pseudo-random permutation (Luby & Rackoff 1988); two more cost nothing here


def hash64(*words: int | Words | NDArray[np.int64]) -> Words:
    """64 random bits for each position of the words, which are broadcast against one another; never a scalar."""
    state = np.zeros(1, np.uint64)
    for word in words:
        bits = np.array([word % 2**64], np.uint64) if isinstance(word, int) else word.astype(np.uint64)
        state = _mix(state ^ bits)
    return state


def uniforms(bits: Words) -> tuple[NDArray[np.float32], ...]:
    """Four independent numbers in (0, 1), with 16 bits each, from every word."""
    quarter = np.uint64(0xFFFF)
    return tuple(
        ((bits >> np.uint64(shift)) & quarter).astype(np.float32) * np.float32(2.0**-16) + np.float32(2.0**-17)
        for shift in (0, 16, 32, 48)
    )


def shuffled(positions: NDArray[np.int64], size: int, *, seed: int) -> NDArray[np.int64]:
    """The element at each position of an endless stream that goes through ``range(size)`` in a new order every epoch.

    Positions ``[e * size, (e + 1) * size)`` hold every element exactly once. The order is a Feistel network on the
    smallest even number of bits that holds ``size``, walked along its cycles until it lands inside (Black & Rogaway
    2002), so it costs no memory and any position is found directly.
    """
    epochs, values = positions // size, (positions % size).astype(np.uint64)
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = hash64(seed, epochs)
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _feistel(values[outside], keys[outside], half)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(values: Words, keys: Words, half: int) -> Words:
    mask = np.uint64(2**half - 1)
    left, right = values >> np.uint64(half), values & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (hash64(keys, turn, right) & mask)
    joined: Words = (left << np.uint64(half)) | right
    return joined


def _mix(state: Words) -> Words:
    state = state + _GOLDEN  # wraps around, silently for arrays
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    mixed: Words = state ^ (state >> np.uint64(31))
    return mixed

"""The counter-based generator and the permutation of an epoch."""

import numpy as np
import pytest

from tokscale.data.randomness import hash64, shuffled, uniforms


def splitmix64(state: int) -> int:
    """The published generator's next output, in Python's own integers."""
    mask = 2**64 - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_hash_is_splitmix64_applied_word_by_word():
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # first output of the reference implementation for seed 0
    for words in [(0,), (1, 2), (2**63, -5, 17)]:
        state = 0
        for word in words:
            state = splitmix64(state ^ (word % 2**64))
        assert int(hash64(*words)[0]) == state


def test_hash_broadcasts_and_every_word_counts():
    rows, columns = np.arange(50)[:, None], np.arange(40)[None]
    table = hash64(3, rows, columns)
    assert table.shape == (50, 40)
    assert len(np.unique(table)) == 2000
    assert table[7, 9] == hash64(3, 7, 9)[0]
    assert not (table == hash64(4, rows, columns)).any()


def test_uniforms_are_uniform_and_independent():
    numbers = np.stack(uniforms(hash64(0, np.arange(20000))))
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert np.abs(numbers.mean(1) - 0.5).max() < 5 / np.sqrt(12 * 20000)
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 5 / np.sqrt(20000)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097])
def test_every_epoch_holds_every_element_once(size):
    stream = shuffled(np.arange(3 * size), size, seed=5).reshape(3, size)
    assert (np.sort(stream, 1) == np.arange(size)).all()
    if size >= 100:
        assert (stream[0] != stream[1]).mean() > 0.9
        assert (stream[0] != shuffled(np.arange(size), size, seed=6)).mean() > 0.9


def test_positions_are_found_directly():
    whole = shuffled(np.arange(500), 77, seed=1)
    picked = np.array([499, 0, 76, 77, 153, 154])
    assert (shuffled(picked, 77, seed=1) == whole[picked]).all()


def test_order_looks_random():
    order = shuffled(np.arange(10000), 10000, seed=0)
    assert abs(np.corrcoef(order, np.arange(10000))[0, 1]) < 0.05
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05

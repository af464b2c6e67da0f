"""Layouts on devices: what costs least comes first, and each saving is taken only where nothing cheaper fits."""

import pytest

from sweeps.layouts import RECOMPUTED_WORK, layout_on, layouts
from tokscale.stage_cost import StageCost

TRAINED = StageCost(1e15, 1000, 100, 8, 0, blocks_bytes=800, block_bytes=10, recomputed_bytes=40)


@pytest.mark.parametrize(
    ("budget", "devices", "expected"),
    [
        (None, 4, (False, False)),
        (1100, 4, (False, False)),
        (1099, 4, (True, False)),
        (530, 4, (True, False)),
        (529, 4, (True, True)),
        (470, 4, (True, True)),
        (469, 4, None),
        (1099, 1, (False, True)),
        (1040, 1, (False, True)),
        (1039, 1, None),
    ],
)
def test_the_first_that_fits_is_taken(budget, devices, expected):
    found = layout_on(TRAINED, devices, budget)
    assert (None if found is None else (found.shard, found.recompute)) == expected


def test_recomputing_is_paid_in_work_and_sharing_is_not():
    assert [one.work for one in layouts(TRAINED, 2)] == [1, 1, RECOMPUTED_WORK, RECOMPUTED_WORK]
    assert [one.least_bytes for one in layouts(TRAINED, 2)] == [1100, 730, 1040, 670]


def test_what_only_measures_has_one_layout():
    assert len(layouts(TRAINED._replace(batch=0), 4)) == 1
    assert len(layouts(TRAINED._replace(blocks_bytes=0, recomputed_bytes=0), 4)) == 1

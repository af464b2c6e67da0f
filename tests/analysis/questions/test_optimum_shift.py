"""How best sizes move: the errors of their intervals are carried into the slope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.questions import BestSize, optimum_shift
from tokscale.errors import TableError

FREEDOM = 5


def best(probe: float, log2_size: float, error: float, **group: object) -> BestSize:
    """A best size as a group's fit leaves it: a t interval of its log2 with this standard error."""
    half = stats.t.ppf(0.975, FREEDOM) * error
    return BestSize(
        "gfid", "bottleneck_floats", group, FREEDOM + 3, "quadratic", 2**log2_size, 2 ** (log2_size - half),
        2 ** (log2_size + half), 5.0, FREEDOM, 0.95, "lower", True, None, 1.0, 1.0, 1e9, {}, {"probe_params": probe},
        (), relative=True,
    )  # fmt: skip


def test_two_probes_are_welchs_t() -> None:
    found = optimum_shift([best(1e8, 11.0, 0.1), best(4e8, 12.0, 0.3)])
    assert found.slope is not None
    spare = (0.1**2 + 0.3**2) ** 2 / ((0.1**4 + 0.3**4) / FREEDOM)
    half = stats.t.ppf(0.975, spare) * np.hypot(0.1, 0.3) / 2
    assert found.slope.value == pytest.approx(0.5)
    assert found.slope.high == pytest.approx(0.5 + half)
    assert found.slope.freedom == pytest.approx(spare)


def test_decoders_have_levels_of_their_own() -> None:
    sizes = [best(p, 0.5 * np.log2(p) + level, 0.05, decoder=d, width=w)
             for d, level in (("S", 0.0), ("B", 3.0)) for w, p in ((256, 1e8), (512, 4e8))]  # fmt: skip
    found = optimum_shift(sizes)
    assert found.slope is not None
    assert found.slope.value == pytest.approx(0.5)
    assert (found.used, found.strata) == (4, 2)
    assert found.resolved


def test_unresolved_best_sizes_take_no_part() -> None:
    sizes = [best(1e8, 11.0, 0.1), replace(best(4e8, 12.0, 0.1), resolved=False, size=None, low=None, high=None)]
    found = optimum_shift(sizes)
    assert found.slope is None
    assert not found.resolved
    assert "not resolved (1 of 2 best sizes resolved" in found.sentence()
    with pytest.raises(TableError, match="do not know this size"):
        optimum_shift(sizes, "decoder_params")
    with pytest.raises(TableError, match="no best size"):
        optimum_shift([])


def test_scatter_beyond_the_intervals_is_taken_for_error() -> None:
    sizes = [best(p, level, 0.01) for p, level in ((1e8, 11.0), (2e8, 13.0), (4e8, 11.5), (8e8, 13.5))]
    found = optimum_shift(sizes)
    assert found.warnings
    assert not found.resolved


@pytest.mark.parametrize("probes", [2, 4])
def test_the_interval_covers(probes: int) -> None:
    rng = np.random.default_rng(probes)
    covered, runs = 0, 400
    for _ in range(runs):
        places = 1e8 * 2.0 ** np.arange(probes)
        errors = 0.2 * np.sqrt(rng.chisquare(FREEDOM, probes) / FREEDOM)  # as estimated
        found = optimum_shift([best(p, 0.4 * i + rng.normal(0, 0.2), e)
                               for i, (p, e) in enumerate(zip(places, errors, strict=True))])  # fmt: skip
        assert found.slope is not None
        covered += (found.slope.low or 0) <= 0.4 <= (found.slope.high or 0)
    assert 0.92 < covered / runs < 0.985

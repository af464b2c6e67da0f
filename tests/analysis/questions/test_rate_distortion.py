"""Rate and distortion: exact for parallel curves, a hull equal to SciPy's, intervals that cover."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.spatial import ConvexHull

from analysis.published_tables import published
from analysis.questions import rate_distortion
from analysis.questions.bjontegaard import decreasing, lower_hull, mean_rate_difference, monotone_area
from tokscale.errors import TableError


def test_parallel_curves_differ_by_their_shift_exactly() -> None:
    rate = np.array([1.0, 2.0, 3.5, 5.0])
    distortion = np.array([4.0, 2.5, 1.0, 0.2])
    found = mean_rate_difference((rate, distortion), (rate - 0.3, distortion))
    assert found == pytest.approx((-0.3, 0.2, 4.0))
    # Straight curves need not share their distortions.
    line = (np.array([0.0, 1.0, 2.0]), np.array([3.0, 2.0, 1.0]))
    other = (np.array([0.9, 1.4, 2.9]), np.array([2.5, 2.0, 0.5]))
    assert mean_rate_difference(line, other) == pytest.approx((0.4, 1.0, 2.5))


def test_the_area_below_a_monotone_cubic_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 4, 9):
        x, y = np.cumsum(rng.uniform(0.1, 2, n)), np.cumsum(rng.normal(0.5, 1, n))
        low, high = np.sort(rng.uniform(x[0], x[-1], 2))
        assert monotone_area(x, y, low, high) == pytest.approx(PchipInterpolator(x, y).integrate(low, high), abs=1e-12)


def test_curves_that_share_no_distortion_are_not_compared() -> None:
    rate = np.array([1.0, 2.0])
    assert mean_rate_difference((rate, np.array([4.0, 3.0])), (rate, np.array([2.0, 1.0]))) is None


def test_a_rise_is_averaged_away() -> None:
    rate, distortion = decreasing(np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 3.0, 3.5, 1.0]))
    np.testing.assert_allclose(rate, [1.0, 2.5, 4.0])
    np.testing.assert_allclose(distortion, [5.0, 3.25, 1.0])


def test_the_lower_hull_is_the_lower_left_of_scipys() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2))
    found = set(lower_hull(points[:, 0], points[:, 1]).tolist())
    hull = ConvexHull(points)
    down_left = {int(v) for simplex, plane in zip(hull.simplices, hull.equations, strict=True)
                 if plane[0] < 0 and plane[1] < 0 for v in simplex}  # fmt: skip
    assert found == down_left | {int(points[:, 0].argmin()), int(points[:, 1].argmin())}


def trials(shift: float, noise: float, seed: int, seeds: int = 3, **more: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame([
        {"trial": f"{kind}{size}{s}", "bottleneck": kind, "bottleneck_tokens": size, "seed": s,
         "ar_bits_per_image": size * np.exp(move + rng.normal(0, noise)), "mse": 0.1 * np.exp(
             -0.9 * np.log(size / 64) - 0.1 * np.log(size / 64) ** 2 + rng.normal(0, noise)), **more}
        for kind, move in (("kl", 0.0), ("fsq", shift)) for size in (64, 128, 256, 512, 1024) for s in range(seeds)
    ])  # fmt: skip


def test_fewer_bits_at_equal_distortion() -> None:
    found = rate_distortion(trials(-0.2, 0.01, 1))
    (one,) = found.differences
    assert one.difference is not None
    assert (one.first, one.second, one.curves) == ("kl", "fsq", 1)
    assert one.difference.low is not None
    assert one.difference.high is not None
    assert one.difference.low < -0.2 < one.difference.high < 0
    assert {curve.kind: sum(curve.on_hull) for curve in found.curves}["fsq"] >= 4
    assert found.curves[0].distortion[0] == pytest.approx(0.1, rel=0.05)
    assert "fewer bits for fsq than for kl" in found.sentence()


@pytest.mark.parametrize("seeds", [3, 1])
def test_the_interval_covers(seeds: int) -> None:
    covered, runs = 0, 24
    for seed in range(runs):
        one = rate_distortion(trials(-0.1, 0.05, seed, seeds), level=0.9).differences[0].difference
        assert one is not None
        covered += (one.low or 1) <= -0.1 <= (one.high or -1)
    assert covered >= 17  # binomial(24, .9): 99.7 % at least


def test_curves_are_compared_at_equal_decoder() -> None:
    small, large = trials(-0.2, 0.01, 0, decoder="S"), trials(-0.2, 0.01, 1, decoder="B")
    large["mse"] /= 2
    found = rate_distortion(pd.concat([small, large], ignore_index=True))
    assert found.within == ("decoder",)
    assert found.differences[0].curves == 2
    assert found.differences[0].difference is not None
    assert found.differences[0].difference.value == pytest.approx(-0.2, abs=0.03)


def test_decibels_count_upwards() -> None:
    table = trials(-0.2, 0.01, 0).assign(psnr=lambda t: -10 * np.log10(t["mse"]))
    by_mse, by_psnr = (rate_distortion(table, name).differences[0] for name in ("mse", "psnr"))
    assert by_mse.difference is not None
    assert by_psnr.difference is not None
    # Averaging seeds and mixing on either scale agree, as PSNR here is a logarithm of the MSE.
    assert by_psnr.difference.value == pytest.approx(by_mse.difference.value, abs=1e-9)
    assert 9 < (by_psnr.low or 0) < (by_psnr.high or 0) < 45


def test_masked_and_plain_vitok_in_one_plane() -> None:
    """Figure 20 with E as the rate: masking costs PSNR at equal E; of rFID its eleven points do not tell."""
    table = published("vitok_fig20_masking")
    by_psnr = rate_distortion(table, "PSNR", "E", "model")
    assert [one.resolved for one in by_psnr.differences] == [True, True, False]
    by_fid = rate_distortion(table, "rFID", "E", "model")
    assert not any(one.resolved for one in by_fid.differences)
    assert any("no repeated seeds" in warning for warning in by_fid.warnings)


def test_kinds_without_a_curve_are_refused() -> None:
    with pytest.raises(TableError, match="no kind has two configurations"):
        rate_distortion(trials(0.0, 0.1, 0, seeds=1).drop_duplicates("bottleneck"))
    table = trials(0.0, 0.1, 0, seeds=1)
    table.loc[table["bottleneck"] == "fsq", "mse"] /= 1e6
    found = rate_distortion(table)
    assert found.differences[0].difference is None
    assert "reach no MSE in common" in found.sentence()

"""Streamed statistics and the Fréchet distance against closed forms, SciPy and torchmetrics."""

import pickle

import numpy as np
import pytest
import scipy.linalg
import torch

from tokscale.errors import DataError, DivergedError, StoreError
from tokscale.metrics.frechet import FeatureStatistics, Gaussian, frechet_distance, frechet_distance_infinity


def streamed(rows, batch=100):
    statistics = FeatureStatistics(rows.shape[1])
    for start in range(0, len(rows), batch):
        statistics.update(torch.from_numpy(rows[start : start + batch]))
    return statistics


def correlated(count, dim, seed, scale=1.0, offset=0.0):
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(dim).standard_normal((dim, dim)) * np.logspace(0, -2, dim)
    return offset + scale * generator.standard_normal((count, dim)) @ mixing


# --- streamed statistics ---


def test_statistics_equal_numpy_for_features_far_from_zero():
    # With sums of squares, an offset of 1e6 against a spread of 1 would leave four digits of the covariance.
    rows = correlated(3000, 12, seed=0, offset=1e6)
    statistics = streamed(rows)
    exact = (rows - 1e6).astype(np.longdouble)
    exact -= exact.mean(axis=0)
    covariance = (exact.T @ exact / (len(rows) - 1)).astype(float)
    assert statistics.count == 3000
    np.testing.assert_allclose(statistics.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(statistics.covariance, covariance, rtol=0, atol=1e-9 * covariance.max())
    np.testing.assert_allclose(statistics.covariance, np.cov(rows.T), rtol=0, atol=1e-9 * covariance.max())


def test_batch_size_changes_no_bit():
    rows = correlated(4500, 8, seed=1)
    one, many, odd = streamed(rows, 4500), streamed(rows, 1), streamed(rows, 333)
    for other in (many, odd):
        assert np.array_equal(one.mean, other.mean)
        assert np.array_equal(one.covariance, other.covariance)


def test_looking_at_the_statistics_does_not_change_them():
    rows = correlated(2500, 8, seed=1)
    looked = FeatureStatistics(8)
    looked.update(torch.from_numpy(rows[:700]))
    assert looked.gaussian().count == 700
    looked.update(torch.from_numpy(rows[700:]))
    assert np.array_equal(looked.covariance, streamed(rows).covariance)


def test_order_changes_rounding_only():
    rows = correlated(4500, 8, seed=2)
    shuffled = rows[np.random.default_rng(0).permutation(4500)]
    a, b = streamed(rows), streamed(shuffled)
    np.testing.assert_allclose(a.mean, b.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=0, atol=1e-12 * np.abs(a.covariance).max())


def test_shares_of_processes_join():
    rows = correlated(4500, 8, seed=3)
    joined = FeatureStatistics(8)
    for share in (rows[:2100], rows[2100:2100], rows[2100:2101], rows[2101:]):
        joined.merge(pickle.loads(pickle.dumps(streamed(share))))
    assert joined.count == 4500
    np.testing.assert_allclose(joined.mean, rows.mean(axis=0), rtol=0, atol=1e-13)
    np.testing.assert_allclose(joined.covariance, np.cov(rows.T), rtol=1e-11, atol=1e-13)


def test_float32_and_bfloat16_features_are_taken():
    for dtype in (torch.float32, torch.bfloat16):
        statistics = FeatureStatistics(2)
        statistics.update(torch.tensor([[0, 1], [2, 5]], dtype=dtype))
        assert statistics.mean.tolist() == [1, 3]
        assert statistics.covariance.tolist() == [[2, 4], [4, 8]]


def test_too_few_or_broken_features_are_refused():
    statistics = FeatureStatistics(2)
    statistics.update(torch.zeros(1, 2))
    with pytest.raises(DataError, match=r"(?s)covariance needs images.*given: +1"):
        statistics.gaussian()
    with pytest.raises(DivergedError, match="not finite"):
        statistics.update(torch.tensor([[0.0, float("nan")]]))


# --- the distance ---


def test_distance_of_commuting_gaussians_is_the_closed_form():
    generator = np.random.default_rng(0)
    rotation = np.linalg.qr(generator.standard_normal((20, 20)))[0]
    variances_a, variances_b = generator.random(20) + 0.1, generator.random(20) * 3
    mean_a, mean_b = generator.standard_normal((2, 20))
    a = Gaussian(mean_a, rotation * variances_a @ rotation.T)
    b = Gaussian(mean_b, rotation * variances_b @ rotation.T)
    expected = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(variances_a) - np.sqrt(variances_b)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 5, 64])
def test_distance_equals_scipy_square_root(dim):
    a, b = streamed(correlated(500, dim, 1)), streamed(correlated(600, dim, 2, scale=1.3, offset=0.1))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_distance_equals_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, images):
            return images.flatten(1)

    a, b = correlated(400, 12, 1), correlated(300, 12, 2, scale=0.7, offset=0.3)
    metric = FrechetInceptionDistance(feature=Flat(), normalize=True).set_dtype(torch.float64)
    for rows, real in ((a, True), (b, False)):
        metric.update(torch.from_numpy(rows).view(-1, 3, 2, 2), real=real)
    assert frechet_distance(streamed(a), streamed(b)) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_distance_of_fewer_images_than_dimensions():
    # The nuclear norm of the Gram matrix X Y^T is the same trace without any d x d covariance.
    x, y = correlated(30, 200, 1), correlated(50, 200, 2, offset=0.05)
    x_centred, y_centred = x - x.mean(axis=0), y - y.mean(axis=0)
    overlap = np.linalg.svd(x_centred @ y_centred.T, compute_uv=False).sum() / np.sqrt(29 * 49)
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    expected += (x_centred**2).sum() / 29 + (y_centred**2).sum() / 49 - 2 * overlap
    assert frechet_distance(streamed(x), streamed(y)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("count", [2, 20, 500])
def test_distance_to_itself_is_zero(count):
    statistics = streamed(correlated(count, 100, 1, offset=3))
    distance = frechet_distance(statistics, statistics)
    assert 0 <= distance < 1e-11 * np.trace(statistics.covariance)


def test_distance_of_points_is_that_of_their_means():
    a, b = (Gaussian(np.full(3, value), np.zeros((3, 3))) for value in (0.0, 2.0))
    assert frechet_distance(a, b) == 12


def test_extrapolation_removes_the_bias_of_few_images():
    dim, count = 24, 1200
    reference = Gaussian(np.zeros(dim), np.eye(dim))
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((count, dim)) + 0.1)
    truth = dim * 0.1**2
    plain = frechet_distance(reference, streamed(rows.numpy()))
    extrapolated = frechet_distance_infinity(reference, rows)
    assert plain - truth > 0.1
    assert abs(extrapolated - truth) < 0.5 * (plain - truth)
    with pytest.raises(DataError, match="20 or more"):
        frechet_distance_infinity(reference, rows[:19])


def test_extrapolation_of_uneven_covariances_comes_nearer_to_the_closed_form():
    dim, count = 64, 20 * 64
    spread, origin = 1 / np.arange(1, dim + 1), np.zeros(dim)
    reference = Gaussian(origin, np.diag(spread))
    truth = ((np.sqrt(1.2) - 1) ** 2 * spread).sum()
    assert frechet_distance(reference, Gaussian(origin, np.diag(1.2 * spread))) == pytest.approx(truth)
    plain, extrapolated = [], []
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((count, dim)) * np.sqrt(1.2 * spread)
        plain.append(frechet_distance(reference, streamed(rows)))
        extrapolated.append(frechet_distance_infinity(reference, torch.from_numpy(rows)))
    assert abs(np.mean(extrapolated) - truth) < 0.35 * (np.mean(plain) - truth)


# --- files ---


def test_statistics_survive_a_file(tmp_path):
    statistics = streamed(correlated(50, 6, 1)).gaussian()
    path = tmp_path / "folder" / "reference.npz"
    statistics.save(path)
    read = Gaussian.load(path)
    assert np.array_equal(read.mean, statistics.mean)
    assert np.array_equal(read.covariance, statistics.covariance)
    assert read.count == 50
    assert [file.name for file in path.parent.iterdir()] == ["reference.npz"]


def test_a_file_of_the_adm_evaluator_is_read(tmp_path):
    path = tmp_path / "VIRTUAL.npz"
    np.savez(path, mu=np.ones(3, np.float32), sigma=np.eye(3), mu_s=np.ones(5), sigma_s=np.eye(5), arr_0=np.zeros(1))
    read = Gaussian.load(path)
    assert read.count is None
    assert read.mean.dtype == np.float64
    assert frechet_distance(read, Gaussian(np.zeros(3), np.eye(3))) == pytest.approx(3)


def test_files_that_are_no_statistics_are_named(tmp_path):
    np.savez(tmp_path / "keys.npz", mean=np.ones(3))
    np.savez(tmp_path / "shapes.npz", mu=np.ones(3), sigma=np.eye(2))
    np.save(tmp_path / "array.npz", np.ones(3))
    (tmp_path / "array.npz.npy").rename(tmp_path / "array.npz")
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "keys.npz").read_bytes()[:100])
    (tmp_path / "empty.npz").touch()
    for name in ("keys", "shapes", "array", "text", "cut", "empty", "missing"):
        with pytest.raises(DataError, match=rf"(?s)reference statistics.*{name}\.npz.*mu of shape"):
            Gaussian.load(tmp_path / f"{name}.npz")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "mu.npz").mkdir()
    with pytest.raises(StoreError, match=r"cannot write mu\.npz"):
        Gaussian(np.zeros(1), np.eye(1)).save(tmp_path / "mu.npz")

"""Reconstruction measures against scikit-image and by hand."""

import math
import pickle

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from tokscale.errors import ConfigError, DataError
from tokscale.metrics.images import PSNR_CEILING, ReconstructionMetrics, mse, psnr, ssim


def noisy_pair(count, height, width, strength, seed=0):
    """Smooth colour images and noisy copies: (b, 3, h, w) uint8, twice."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phase = generator.random((count, 3, 1, 1)) * 6
    images = 127.5 + 120 * np.sin(phase + 0.2 * x + 0.11 * y)
    noisy = images + strength * generator.standard_normal(images.shape)
    return tuple(torch.from_numpy(a.round().clip(0, 255).astype(np.uint8)) for a in (images, noisy))


def reference_ssim(a, b):
    return structural_similarity(
        a.permute(1, 2, 0).numpy(),
        b.permute(1, 2, 0).numpy(),
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


@pytest.mark.parametrize(("height", "width"), [(11, 11), (32, 32), (40, 23), (64, 128)])
@pytest.mark.parametrize("strength", [1, 20, 200])
def test_measures_equal_scikit_image(height, width, strength):
    original, reconstruction = noisy_pair(3, height, width, strength)
    for i in range(3):
        a, b = original[i].permute(1, 2, 0).numpy(), reconstruction[i].permute(1, 2, 0).numpy()
        assert float(mse(original, reconstruction)[i]) == pytest.approx(mean_squared_error(a / 255, b / 255), rel=1e-12)
        assert float(psnr(original, reconstruction)[i]) == pytest.approx(
            peak_signal_noise_ratio(a, b, data_range=255), rel=1e-12
        )
        assert float(ssim(original, reconstruction)[i]) == pytest.approx(
            reference_ssim(original[i], reconstruction[i]), abs=1e-9
        )


def test_ssim_of_flat_images_is_their_luminance_term():
    a, b = (torch.full((1, 3, 16, 16), value, dtype=torch.uint8) for value in (0, 255))
    assert float(ssim(a, b)) == pytest.approx(0.01**2 / (1 + 0.01**2), rel=1e-9)
    assert float(ssim(a, a)) == pytest.approx(1, abs=1e-12)


def test_one_wrong_value_is_counted_exactly():
    original = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    reconstruction = original.clone()
    reconstruction[1, 2, 5, 6] = 255
    assert mse(original, reconstruction).tolist() == [0, 1 / (3 * 16 * 16)]


def test_identical_images_reach_the_ceiling_and_nothing_passes_it():
    original = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    nearly = original.clone()
    nearly[0, 0, 0, 0] = 1
    assert float(psnr(original, original)) == PSNR_CEILING == pytest.approx(10 * math.log10(255**2 * 12))
    assert float(psnr(original, nearly)) == PSNR_CEILING


def test_psnr_is_the_mean_over_images_and_not_of_the_mean_error():
    original = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
    reconstruction = original + torch.tensor([1, 50], dtype=torch.uint8)[:, None, None, None]
    metrics = ReconstructionMetrics()
    metrics.update(original, reconstruction)
    expected = np.mean([10 * math.log10(255**2 / error**2) for error in (1, 50)])
    assert metrics.compute()["psnr"] == pytest.approx(expected, rel=1e-12)


def test_batches_and_processes_change_nothing():
    original, reconstruction = noisy_pair(40, 24, 24, 30)
    whole, parts, other = ReconstructionMetrics(), ReconstructionMetrics(), ReconstructionMetrics()
    whole.update(original, reconstruction)
    for start in range(0, 28, 7):
        parts.update(original[start : start + 7], reconstruction[start : start + 7])
    other.update(original[28:], reconstruction[28:])
    parts.merge(pickle.loads(pickle.dumps(other)))
    assert parts.count == whole.count == 40
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-13)


def test_chunks_of_a_batch_are_all_counted(monkeypatch):
    monkeypatch.setattr("tokscale.metrics.images._CHUNK_PIXELS", 2 * 40 * 30)
    original, reconstruction = noisy_pair(7, 40, 30, 20)
    metrics = ReconstructionMetrics()
    metrics.update(original, reconstruction)
    assert metrics.compute()["ssim"] == pytest.approx(float(ssim(original, reconstruction).mean()), rel=1e-12)


def test_images_below_the_window_are_refused_with_both_sizes():
    small = torch.zeros(1, 3, 8, 32, dtype=torch.uint8)
    metrics = ReconstructionMetrics()
    with pytest.raises(ConfigError, match=r"(?s)11 x 11.*data\.resolution.*8 x 32"):
        metrics.update(small, small)
    with pytest.raises(DataError, match="no image"):
        metrics.compute()

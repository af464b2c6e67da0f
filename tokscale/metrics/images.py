"""Reconstruction quality, pixel by pixel: MSE, PSNR and SSIM of 8-bit images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tokscale.errors import ConfigError, DataError

SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_CHUNK_PIXELS = 1 << 20  # per colour channel: float64 maps of 25 MB

# An 8-bit image is known to within rounding, whose variance is 1/12 of a squared step.
MSE_FLOOR = 1 / 12 / 255**2
PSNR_CEILING = -10 * math.log10(MSE_FLOOR)


class ReconstructionMetrics:
    """Means over images of MSE, PSNR and SSIM, streamed over batches.

    The object pickles; processes that each saw a share of the images are joined by ``merge``.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self.count = 0

    def update(self, original: Tensor, reconstruction: Tensor) -> None:
        """Add a batch; both are uint8 of shape (b, 3, h, w), 11 pixels or more a side (else ``ConfigError``)."""
        assert original.dtype == reconstruction.dtype == torch.uint8, "metrics are taken on 8-bit images"
        assert original.shape == reconstruction.shape, "an original and its reconstruction have one shape"
        assert original.ndim == 4, "images are (b, 3, h, w)"
        _check_side(original)
        chunk = max(1, _CHUNK_PIXELS // (original.shape[2] * original.shape[3]))
        for start in range(0, len(original), chunk):
            a = original[start : start + chunk].to(self._sums.device)
            b = reconstruction[start : start + chunk].to(self._sums.device)
            per_image = torch.stack([mse(a, b), psnr(a, b), ssim(a, b)])
            self._sums += per_image.sum(dim=1)
        self.count += len(original)

    def merge(self, other: ReconstructionMetrics) -> None:
        """Take in what another accumulator saw."""
        self._sums += other._sums.to(self._sums.device)
        self.count += other.count

    def compute(self) -> dict[str, float]:
        """``mse``, ``psnr`` and ``ssim`` of everything seen; ``DataError`` before the first image."""
        if self.count == 0:
            raise DataError("no image was reconstructed, so there is nothing to measure", where="the validation set")
        means = (self._sums / self.count).tolist()
        return dict(zip(("mse", "psnr", "ssim"), means, strict=True))


def mse(original: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each pair of uint8 images scaled to [0, 1]: (b, 3, h, w) twice -> float64 (b,).

    The sum is taken in integers, so it is exact.
    """
    error = original.to(torch.int32) - reconstruction.to(torch.int32)
    per_image = (error * error).flatten(1)
    return per_image.sum(dim=1, dtype=torch.int64).to(torch.float64) / (per_image.shape[1] * 255**2)


def psnr(original: Tensor, reconstruction: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair of uint8 images in dB: (b, 3, h, w) twice -> float64 (b,).

    An error below the rounding noise of 8 bits (1/12 of a squared step) counts as that noise, so the measure ends at
    58.92 dB: identical images stay finite, and a mean over images is not carried by a few of them.
    """
    return -10 * torch.log10(mse(original, reconstruction).clamp_min(MSE_FLOOR))


def ssim(original: Tensor, reconstruction: Tensor) -> Tensor:
    """Structural similarity of each pair of uint8 images: (b, 3, h, w) twice -> float64 (b,).

    Wang et al. 2004: an 11 x 11 Gaussian window of sigma 1.5, population covariance, constants .01 and .03, the mean
    over colour channels and over all places where the whole window fits.
    """
    _check_side(original)
    x, y = original.to(torch.float64) / 255, reconstruction.to(torch.float64) / 255
    mean_x, mean_y = _blur(x), _blur(y)
    product, power = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _blur(x * y) - product
    variances = _blur(x * x + y * y) - power
    similarity = (2 * product + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    similarity /= (power + _SSIM_C1) * (variances + _SSIM_C2)
    return similarity.mean(dim=(1, 2, 3))


def _blur(maps: Tensor) -> Tensor:
    """Gaussian window means where the window fits: (b, 3, h, w) -> (b, 3, h - 10, w - 10)."""
    # Two products with band matrices: at up to some 512 pixels a side, faster in float64 than a convolution.
    rows, columns = _band(maps.shape[2], maps.device), _band(maps.shape[3], maps.device)
    return rows @ maps @ columns.T


def _band(side: int, device: torch.device) -> Tensor:
    """The matrix whose row i holds the window at places i to i + 10: (side - 10, side)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=device) - SSIM_WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    places = side - SSIM_WINDOW + 1
    band = torch.zeros(places, side, dtype=torch.float64, device=device)
    starts = torch.arange(places, device=device)[:, None]
    taps = torch.arange(SSIM_WINDOW, device=device)[None, :]
    band[starts, starts + taps] = window / window.sum()
    return band


def _check_side(images: Tensor) -> None:
    height, width = images.shape[2:]
    if min(height, width) < SSIM_WINDOW:
        raise ConfigError(
            f"images are smaller than SSIM's window of {SSIM_WINDOW} x {SSIM_WINDOW} pixels", where="data.resolution",
            given=f"{height} x {width}", allowed=f"{SSIM_WINDOW} or more",
        )  # fmt: skip

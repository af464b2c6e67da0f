"""How long the measures take: streamed statistics, the Fréchet distance, the random network, pixel measures, precision.

    python benchmarks/frechet.py [--rows 50000] [--dim 2048] [--threads 2]

Times are processor seconds, summed over threads: on a shared machine the wall clock says little. Beside each stands the
time of a yardstick in the same run, for statistics and distance another way to the same number; the last column is
their ratio.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from threadpoolctl import threadpool_limits

from tokscale.metrics.features import open_features
from tokscale.metrics.frechet import FeatureStatistics, frechet_distance
from tokscale.metrics.generation import precision_recall
from tokscale.metrics.images import ReconstructionMetrics

_BATCH = 64


def seconds(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median processor seconds of some runs, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def row(what: str, ours: float, other: str, theirs: float, images: int | None = None) -> None:
    speed = f"{images / ours:>10,.0f}" if images else " " * 10
    print(f"{what:<38}{ours:>9.2f} s{speed}   {other:<34}{theirs:>9.2f} s{theirs / ours:>8.2f}")


def streaming(features: torch.Tensor, shifted: torch.Tensor) -> None:
    """Statistics of features (n, d), against numpy.cov of all of them at once; then the distance to a shifted set."""

    def stream(rows: torch.Tensor) -> FeatureStatistics:
        statistics = FeatureStatistics(rows.shape[1])
        for start in range(0, len(rows), _BATCH):
            statistics.update(rows[start : start + _BATCH])
        return statistics

    name = f"{features.shape[0]} x {features.shape[1]}"
    ours, a = seconds(lambda: stream(features))
    theirs, covariance = seconds(lambda: np.cov(features.double().numpy().T))
    assert np.abs(a.covariance - covariance).max() < 1e-11 * np.abs(covariance).max()
    row(f"statistics of {name}, batches of {_BATCH}", ours, "numpy.cov of all at once", theirs, len(features))

    a, b = a.gaussian(), stream(shifted).gaussian()
    ours, distance = seconds(lambda: frechet_distance(a, b))
    theirs, root = seconds(lambda: scipy.linalg.sqrtm(a.covariance @ b.covariance).real)
    expected = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert abs(distance - expected) < 1e-6 * expected
    row(f"Fréchet distance, {features.shape[1]} dimensions", ours, "scipy.linalg.sqrtm", theirs)


def networks(side: int, count: int) -> None:
    """random-conv and the pixel measures on images of one size, against one plain 3 x 3 convolution to 16 channels."""
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    network, filters = open_features("random-conv"), torch.randn(16, 3, 3, 3)
    network.features(images)
    plain, _ = seconds(lambda: torch.nn.functional.conv2d(images.float(), filters, stride=2, padding=1), 5)
    ours, _ = seconds(lambda: network.features(images), 5)
    row(f"random-conv, {count} images of {side} px", ours, "one 3 x 3 convolution", plain, count)
    ours, _ = seconds(lambda: ReconstructionMetrics().update(images, 255 - images), 5)
    row(f"MSE, PSNR, SSIM, {count} images of {side} px", ours, "one 3 x 3 convolution", plain, count)


def neighbours(count: int, dim: int) -> None:
    """Precision and recall, against one matrix of all distances."""
    a, b = torch.randn(2, count, dim)
    ours, _ = seconds(lambda: precision_recall(a, b))
    theirs, _ = seconds(lambda: torch.cdist(a.double(), b.double()))
    row(f"precision and recall, 2 x {count} x {dim}", ours, "torch.cdist of the two sets", theirs, 2 * count)


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(
        f"{date.today()}, {processor()}, torch {torch.__version__}, numpy {np.__version__}, scipy {scipy.__version__}"
    )
    print(f"\n{f'{arguments.threads} threads':<38}{'':11}{'images/s':>10}{'':48}{'other / ours':>16}")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with threadpool_limits(arguments.threads):
        networks(32, 1024)
        networks(256, 32)
        neighbours(10_000, 128)
        features = torch.randn(arguments.rows, arguments.dim) * torch.logspace(0, -2, arguments.dim)
        streaming(features, 1.1 * features.flip(0) + 0.01)


if __name__ == "__main__":
    main()

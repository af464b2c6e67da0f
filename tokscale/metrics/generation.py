"""Generated images against reference images: precision and recall in the space of some features."""

from __future__ import annotations

import torch
from torch import Tensor

from tokscale.errors import DataError
from tokscale.metrics.frechet import FeatureStatistics

NEIGHBOURS = 3
_CHUNK = 256
# Squared distances below this share of the squared norms are rounding: equal rows are at distance 0.
_ROUNDING = 1e-13


class FeatureSet:
    """Features that are kept, with their statistics: streamed like ``FeatureStatistics``, joined by ``merge``.

    Only the first ``keep`` rows stay (precision and recall take time as their square); the statistics hold all.
    """

    def __init__(self, dim: int, keep: int = 50_000):
        self.statistics = FeatureStatistics(dim)
        self.keep = keep
        self._rows: list[Tensor] = []
        self._kept = 0

    @property
    def rows(self) -> Tensor:
        """The features kept, in order of arrival: float32 (n, d) on the CPU."""
        return torch.cat(self._rows) if self._rows else torch.empty(0, self.statistics.dim)

    def update(self, features: Tensor) -> None:
        """Add features of shape (b, d)."""
        self.statistics.update(features)
        self._append(features.detach().cpu().float())

    def merge(self, other: FeatureSet) -> None:
        """Take in what another set saw; its rows come after the rows of this one."""
        self.statistics.merge(other.statistics)
        self._append(other.rows)

    def _append(self, rows: Tensor) -> None:
        rows = rows[: self.keep - self._kept]
        self._rows.append(rows.clone())
        self._kept += len(rows)


def precision_recall(reference: Tensor, samples: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019) of samples (m, d) against a reference (n, d).

    Each set is seen as the union of balls around its rows, each as large as the distance to the row's k-th nearest
    neighbour in its own set. Precision is the share of samples inside the reference's balls, recall the share of
    references inside the samples'. Works in float64, in chunks, on the device of the features; k or fewer
    rows in a set raise ``DataError``.
    """
    for what, rows in (("reference", reference), ("generated", samples)):
        if len(rows) <= neighbours:
            raise DataError(
                f"precision and recall need more {what} images", given=f"{len(rows)}",
                allowed=f"{neighbours + 1} or more",
            )  # fmt: skip
    # Distances do not change with the origin; near the data they lose fewest digits.
    origin = reference.double().mean(dim=0)
    reference, samples = reference.double() - origin, samples.double() - origin
    precision = _share_inside(samples, reference, _squared_radii(reference, neighbours))
    recall = _share_inside(reference, samples, _squared_radii(samples, neighbours))
    return precision, recall


def _squared_radii(rows: Tensor, neighbours: int) -> Tensor:
    """Squared distance of each row (n, d) to its k-th nearest other row: (n,)."""
    radii = []
    for start in range(0, len(rows), _CHUNK):
        distances = _squared_distances(rows[start : start + _CHUNK], rows)
        # Each row is its own nearest, at distance 0, hence one more.
        radii.append(distances.topk(neighbours + 1, dim=1, largest=False).values[:, -1])
    return torch.cat(radii)


def _share_inside(points: Tensor, centres: Tensor, squared_radii: Tensor) -> float:
    """Share of points (m, d) in at least one of the closed balls around centres (n, d)."""
    inside = 0
    for start in range(0, len(points), _CHUNK):
        distances = _squared_distances(points[start : start + _CHUNK], centres)
        inside += int((distances <= squared_radii).any(dim=1).sum())
    return inside / len(points)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, d), (m, d) -> (n, m)."""
    norms = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    distances = torch.addmm(norms, a, b.T, alpha=-2)
    return distances.masked_fill_(distances <= _ROUNDING * norms, 0)

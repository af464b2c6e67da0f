"""Images, or clips, as a feature network sees them, and how far they are from a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tokscale.metrics.features import FeatureNetwork
from tokscale.metrics.frechet import Gaussian, frechet_distance, frechet_distance_infinity
from tokscale.metrics.generation import FeatureSet, precision_recall
from tokscale.metrics.inception_score import InceptionScore

KEPT = 50_000
_PUBLISHED = {"fid": "FID", "fdd": "FD-DINOv2"}
FEW = 10_000
"""images below which the bias of a FID is large beside differences that are published"""


@dataclass(frozen=True)
class Reference:
    """What images are measured against: its name in records, its Gaussian, and its rows where there are images."""

    name: str
    gaussian: Gaussian
    rows: Tensor | None = None


class Seen:
    """Images seen by a network, streamed: features with their statistics, and predictions where they are ``scored``."""

    def __init__(self, network: FeatureNetwork, keep: int = KEPT, *, scored: bool = False) -> None:
        self.network = network
        self.features = FeatureSet(network.dim, keep)
        self.score = InceptionScore() if scored and network.logits is not None else None

    @property
    def count(self) -> int:
        """How many images were seen."""
        return self.features.statistics.count

    def update(self, images: Tensor) -> None:
        """Add uint8 images (b, 3, h, w), or clips (b, 3, t, h, w), on the network's device."""
        features = self.network.features(images)
        self.features.update(features)
        if self.score is not None and self.network.logits is not None:
            self.score.update(self.network.logits(features))

    def as_reference(self, name: str) -> Reference:
        """These images as a reference of that name."""
        return Reference(name, self.features.statistics.gaussian(), self.features.rows)

    def distance(self, reference: Reference) -> float:
        """Fréchet distance to a reference."""
        return frechet_distance(reference.gaussian, self.features.statistics)


def distances(what: Literal["r", "g"], reference: Reference, seen: Seen) -> tuple[dict[str, float], list[str]]:
    """Fréchet distance and, where the images were scored, Inception score; with notes on what few images do to them.

    Columns begin with r for reconstructions and g for generated images: ``rfid`` and ``ris``, or ``rfdd`` and ``rfd``
    where the network is DINOv2 or a random one. Of fewer images than the score has splits it is absent.
    """
    name = f"{what}{seen.network.distance}"
    measures, notes = {name: seen.distance(reference)}, list[str]()
    published, splits = _PUBLISHED.get(seen.network.distance), seen.network.splits
    if published is not None and seen.count < FEW:
        notes.append(
            f"{name} is of {seen.count:,} images: a Fréchet distance of n images is too high by about 1 / n times a "
            f"constant of both sets, much below {FEW:,}; it compares with no published {published}"
        )
    if seen.score is None:
        return measures, notes
    if seen.score.count >= splits:
        measures[f"{what}is"] = seen.score.compute(splits)
    else:
        notes.append(f"{what}is was not measured: {splits} splits need {splits} images")
    return measures, notes


def generation_metrics(
    reference: Reference, samples: Seen, device: torch.device | str = "cpu", *, extrapolate: bool = False,
    near: bool = True,
) -> tuple[dict[str, float], list[str]]:  # fmt: skip
    """Measures of samples against a reference in the same features, and notes on them.

    ``gfid`` and ``gis``, ``gfdd`` or ``gfd``; ``precision`` and ``recall`` where they are asked for (``near``) and the
    reference has images; ``gfid_inf``, ``gfdd_inf`` or ``gfd_inf`` where asked for, of the rows kept. All but the last
    depend on the numbers of images: they compare only between runs that used the same numbers.
    """
    measures, notes = distances("g", reference, samples)
    rows = samples.features.rows
    if near and reference.rows is not None:
        both = precision_recall(reference.rows.to(device), rows.to(device))
        measures |= dict(zip(("precision", "recall"), both, strict=True))
    elif near:
        notes.append(f"precision and recall were not measured: {reference.name} has statistics and no images")
    if extrapolate:
        name, dim = f"g{samples.network.distance}_inf", samples.network.dim
        measures[name] = frechet_distance_infinity(reference.gaussian, rows)
        if len(rows) // 10 < dim:
            notes.append(
                f"{name} is a line through distances of {len(rows) // 10:,} to {len(rows):,} images; of few images in "
                f"{dim:,} dimensions distances bend away from a line, so it may be too high or too low: take "
                f"{10 * dim:,} images or more"
            )
    return measures, notes

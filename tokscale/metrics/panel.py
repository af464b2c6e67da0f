"""Several feature networks that look at the same images in one pass: a panel, of which most have one member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tokscale.feature_names import JOINT
from tokscale.metrics.features import FeatureNetwork
from tokscale.metrics.seen import KEPT, Reference, Seen, distances, generation_metrics


@dataclass(frozen=True)
class Panel:
    """Networks that measure in different columns. The first one stands for the row where only one can: searches for a
    scale of guidance go by its Fréchet distance, and precision and recall are taken in its features."""

    networks: tuple[FeatureNetwork, ...]

    @property
    def name(self) -> str:
        """All names, joined, as the column ``features`` holds them."""
        return JOINT.join(network.name for network in self.networks)

    @property
    def notes(self) -> list[str]:
        """What a record says of the networks."""
        return [network.note for network in self.networks]

    @property
    def distance(self) -> str:
        """End of the columns of the first network's Fréchet distances."""
        return self.networks[0].distance


class SeenByAll:
    """Images seen by every network of a panel, as ``Seen`` is of one; the first keeps rows, others ``keep_others``."""

    def __init__(
        self, panel: Panel, keep: int = KEPT, *, keep_others: int | None = None, scored: bool = False
    ) -> None:  # fmt: skip
        others = keep if keep_others is None else keep_others
        self.each = tuple(Seen(network, others if place else keep, scored=scored)
                          for place, network in enumerate(panel.networks))  # fmt: skip

    @property
    def count(self) -> int:
        """How many images were seen."""
        return self.each[0].count

    def update(self, images: Tensor) -> None:
        """Add uint8 images (b, 3, h, w) on the networks' device."""
        for seen in self.each:
            seen.update(images)

    def distance(self, references: Sequence[Reference]) -> float:
        """Fréchet distance to a reference in the features of the first network."""
        return self.each[0].distance(references[0])


def distances_of_all(
    what: Literal["r", "g"], references: Sequence[Reference], seen: SeenByAll
) -> tuple[dict[str, float], list[str]]:
    """As ``distances``, of every network."""
    measures, notes = dict[str, float](), list[str]()
    for reference, one in zip(references, seen.each, strict=True):
        found, told = distances(what, reference, one)
        measures |= found
        notes += told
    return measures, notes


def generation_metrics_of_all(
    references: Sequence[Reference], samples: SeenByAll, device: torch.device | str = "cpu", *,
    extrapolate: bool = False,
) -> tuple[dict[str, float], list[str]]:  # fmt: skip
    """As ``generation_metrics``, of every network; precision and recall are those of the first."""
    measures, notes = dict[str, float](), list[str]()
    for place, (reference, one) in enumerate(zip(references, samples.each, strict=True)):
        found, told = generation_metrics(reference, one, device, extrapolate=extrapolate, near=place == 0)
        measures |= found
        notes += told
    return measures, notes

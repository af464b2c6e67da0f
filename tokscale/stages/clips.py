"""What a stage measures of whole clips: Fréchet distances to the clips of the validation set."""

from __future__ import annotations

from copy import copy
from typing import Literal

import torch
from torch import Tensor

from tokscale.config import DataConfig, EvaluationConfig
from tokscale.metrics.clips import open_clip_features
from tokscale.metrics.seen import Seen, distances
from tokscale.stages.context import Measures


class ClipDistance:
    """Clips made against originals, in the network that the config names: ``rfvd`` or ``gfvd`` in I3D, ``rfcd`` or
    ``gfcd`` in its stand-in. Images, and clips of one frame, have nothing to see, and no measures.

    Raises ``WeightsError`` where the network's weights are absent.
    """

    def __init__(
        self, what: Literal["r", "g"], data: DataConfig, evaluation: EvaluationConfig, device: torch.device
    ) -> None:
        self.what: Literal["r", "g"] = what
        self.network = None
        if data.frames > 1:
            self.network = open_clip_features(evaluation.clip_features, device)
            self._originals, self._made = Seen(self.network, keep=0), Seen(self.network, keep=0)

    @property
    def notes(self) -> list[str]:
        """What a record says of the network."""
        return [] if self.network is None else [self.network.note]

    def compare(self, originals: Tensor, made: Tensor) -> None:
        """Add uint8 clips (b, 3, t, h, w) and what was made of them; images are passed over."""
        self.see_original(originals)
        self.see_made(made)

    def see_original(self, clips: Tensor) -> None:
        """Add uint8 clips (b, 3, t, h, w) of the reference."""
        if self.network is not None:
            self._originals.update(clips)

    def see_made(self, clips: Tensor) -> None:
        """Add uint8 clips (b, 3, t, h, w) to be measured."""
        if self.network is not None:
            self._made.update(clips)

    def again(self) -> ClipDistance:
        """The same originals, for other clips to be measured against."""
        other = copy(self)
        if self.network is not None:
            other._made = Seen(self.network, keep=0)
        return other

    def distance(self) -> dict[str, float]:
        """The distance, by its column."""
        if self.network is None:
            return {}
        return distances(self.what, self._originals.as_reference("validation"), self._made)[0]

    def measures(self) -> Measures:
        """The distance, and the network's name."""
        return {**self.distance(), **self.features()}

    def features(self) -> Measures:
        """The network's name, by its column."""
        return {} if self.network is None else {"clip_features": self.network.name}

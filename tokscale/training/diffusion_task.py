"""Training of a diffusion probe, and the average over its weights."""

from __future__ import annotations

from tokscale.bottlenecks.draws import Draws
from tokscale.config import OptimizationConfig
from tokscale.probes import DiffusionProbe, draw_tokens
from tokscale.training import averaging
from tokscale.training.tasks import Named, Part, Task


class DiffusionTask(Task):
    """Trains a diffusion probe on cached latents; its loss is a mean squared error. ``average`` is what is kept."""

    def __init__(self, probe: DiffusionProbe, config: OptimizationConfig, decay: float, seed: int) -> None:
        super().__init__(config, seed)
        self.probe, self.decay = probe, decay
        self.average = averaging.averaged(probe)

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        self.probe.draws = draws
        return {"diffusion_loss": self.probe.loss(draw_tokens(part, draws), part["labels"])}, {}

    def after_step(self) -> None:
        averaging.take_in(self.average, self.probe, decay_at(self.step + 1, self.decay))


def decay_at(step: int, decay: float) -> float:
    """Share of the average that is kept after step 1, 2, ...: (1 + step) / (10 + step), until that reaches ``decay``.

    So the average forgets where training began also in trainings that are much shorter than 1 / (1 - decay) steps.
    """
    return min(decay, (1 + step) / (10 + step))

"""Training of a diffusion probe, and the average over its weights."""

from __future__ import annotations

from tokscale.bottlenecks.draws import Draws
from tokscale.config import OptimizationConfig
from tokscale.probes import DiffusionProbe, draw_tokens
from tokscale.training.average import average_of, decay_at, update_average
from tokscale.training.tasks import Named, Part, Task


class DiffusionTask(Task):
    """Trains a diffusion probe on cached latents; its loss is a mean squared error. ``average`` is what is kept."""

    def __init__(self, probe: DiffusionProbe, config: OptimizationConfig, decay: float, seed: int) -> None:
        super().__init__(config, seed)
        self.probe, self.decay = probe, decay
        self.average = average_of(probe)

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        self.probe.draws = draws
        return {"diffusion_loss": self.probe.loss(draw_tokens(part, draws), part["labels"])}, {}

    def training_step(self, batch: Part, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        update_average(self.average, self.probe, decay_at(self.step + 1, self.decay))

"""What is trained, as LightningModules: one for every tokenizer, one for every probe on cached latents.

A new bottleneck, loss or backbone never needs a new one: the parts say their losses, the task adds them up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from tokscale.config import TrainingConfig
from tokscale.data import to_model_range
from tokscale.errors import DivergedError
from tokscale.models.tokenizer import Tokenizer
from tokscale.probes import AutoregressiveProbe, draw_tokens
from tokscale.training.optimization import build_optimizer, learning_rate, seed_for


class Task(pl.LightningModule):
    """The part that every training shares: optimizer, learning rate, random numbers, and images seen.

    The random numbers of a step depend on seed, step and rank alone, and the budget is counted in images. So a run that
    is resumed from a checkpoint goes on exactly as the unbroken run would have.
    """

    def __init__(self, config: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.training_config = config
        self.seed = seed
        self.step = 0
        self.losses: dict[str, Tensor] = {}

    @property
    def images_seen(self) -> int:
        """Images over all ranks since the start of training, earlier attempts included."""
        return self.step * self.training_config.batch_size

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self, self.training_config)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(seed_for("training", self.seed, self.step, self.global_rank))
        rate = learning_rate(self.step, self.training_config)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Lightning refuses to clip for a fused optimizer under autocast, because of a scaler that bf16 does not need.
        bound = self.training_config.gradient_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), bound)
        self.losses["gradient_norm"] = norm.detach()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task"] = {"step": self.step}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.step = checkpoint["task"]["step"]

    def check_finite(self) -> dict[str, float]:
        """The step's losses as numbers; the one place where the loop waits for the device. Raises ``DivergedError``."""
        values = {name: float(value) for name, value in self.losses.items()}
        if not all(torch.isfinite(torch.tensor(list(values.values())))):
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise DivergedError(
                "training diverged: a loss is no longer finite", where=f"step {self.step}", given=shown,
                allowed="a lower training.lr, more training.warmup, or precision fp32",
            )  # fmt: skip
        return values

    def add_up(self, losses: dict[str, Tensor]) -> Tensor:
        """The total of named losses, which are kept (detached) for the progress file."""
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self.losses = {"loss": total.detach(), **{name: loss.detach() for name, loss in losses.items()}}
        return total


class TokenizerTask(Task):
    """Trains a tokenizer: pixel loss of the reconstruction plus whatever its bottleneck asks for."""

    def __init__(
        self, tokenizer: Tokenizer, reconstruction_loss: Callable[[Tensor, Tensor], Tensor],
        config: TrainingConfig, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, seed)
        self.tokenizer = tokenizer
        self.reconstruction_loss = reconstruction_loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images = to_model_range(batch[0])
        reconstruction, bottleneck = self.tokenizer(images)
        losses = {"reconstruction": self.reconstruction_loss(reconstruction.float(), images), **bottleneck.losses}
        total = self.add_up(losses)
        self.losses |= {name: value.detach() for name, value in bottleneck.statistics.items()}
        return total


class ProbeTask(Task):
    """Trains an autoregressive probe on cached latents; its loss is in nats per token."""

    def __init__(self, probe: AutoregressiveProbe, config: TrainingConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.probe = probe

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.add_up({"ar_loss": self.probe.loss(draw_tokens(batch), batch["labels"])})

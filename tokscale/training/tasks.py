"""What is trained, as LightningModules: one for every tokenizer, one for every probe on cached latents.

A new bottleneck, loss or backbone never needs a new one: the parts say their losses, the task adds them up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.config import TrainingConfig
from tokscale.data import to_model_range
from tokscale.errors import DivergedError
from tokscale.models.tokenizer import Tokenizer
from tokscale.probes import AutoregressiveProbe, draw_tokens
from tokscale.training.optimization import build_optimizer, learning_rate

Part = Any
"""a batch, or some of its images: a tensor, or a tuple or mapping of tensors whose first dimension counts images"""
Named = dict[str, Tensor]
"""scalars by name"""


class Task(pl.LightningModule, ABC):
    """The part that every training shares: optimizer, learning rate, random numbers, micro-batches, and images seen.

    One batch of the loader is one optimizer step over this rank's share of the global batch. It is split here, into
    passes of ``micro_batch`` images: Lightning's own accumulation counts batches, and that count is off after a run is
    resumed with another micro-batch. Gradients are those of the mean over the global batch, whatever the layout; an
    entropy loss alone is of what passes at once on all ranks.

    The random numbers of a step depend on seed, step and an image's place in the global batch, and the budget is
    counted in images. So a run that is resumed goes on exactly as the unbroken one would have; on other ranks or with
    another micro-batch, up to rounding. Dropout masks alone are drawn for a whole pass, from its first image's place.
    """

    def __init__(self, config: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.training_config = config
        self.seed = seed
        self.step = 0
        self.micro_batch: int | None = None
        """images of this rank that pass at once; None: its whole share"""
        self.losses: Named = {}

    @property
    def images_seen(self) -> int:
        """Images over all ranks since the start of training, earlier attempts included."""
        return self.step * self.training_config.batch_size

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self, self.training_config)

    def on_train_batch_start(self, batch: Part, batch_idx: int) -> None:
        rate = learning_rate(self.step, self.training_config)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def training_step(self, batch: Part, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.losses = {}
        share = _images(batch)
        key = seed_for("step", self.seed, self.step)
        for start in range(0, share, self.micro_batch or share):
            part = _rows(batch, slice(start, start + (self.micro_batch or share)))
            place = self.global_rank * share + start
            torch.manual_seed(seed_for("training", self.seed, self.step, place))
            losses, watched = self.losses_of(part, Draws(key, place))
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            weight = _images(part) / share
            self._keep({"loss": total, **losses, **watched}, weight)
            with self._syncing(start + _images(part) == share), self._full_precision():
                self.manual_backward(total * weight)
        with self._full_precision():
            self.finish_step()
            optimizer.step()

    @abstractmethod
    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        """The losses to add up, means over the images of ``part``, and what else is to be watched."""

    def finish_step(self) -> None:
        """What follows the last backward pass of a step, before the optimizer's step."""

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
        """The step's losses over the global batch as numbers; all ranks ask at the same step.

        The one place where the loop waits for the device. Raises ``DivergedError``, on all ranks alike.
        """
        stacked = torch.stack([value.float() for value in self.losses.values()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(stacked)
            stacked /= dist.get_world_size()
        values = dict(zip(self.losses, stacked.tolist(), strict=True))
        if not stacked.isfinite().all():
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise DivergedError(
                "training diverged: a loss is no longer finite", where=f"step {self.step}", given=shown,
                allowed="a lower training.lr, more training.warmup, or precision fp32; "
                "the last checkpoint from before is kept",
            )  # fmt: skip
        return values

    def _keep(self, values: Named, weight: float) -> None:
        """Add the values of a micro-batch, detached, to the means over this rank's share."""
        for name, value in values.items():
            self.losses[name] = self.losses.get(name, 0.0) + value.detach() * weight

    def _syncing(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once a step, in the last backward pass, while that is still going on."""
        strategy = self.trainer.strategy
        if last or not isinstance(strategy, DDPStrategy):
            return nullcontext()
        blocked: AbstractContextManager[None] = strategy.block_backward_sync()
        return blocked

    def _full_precision(self) -> torch.autocast:
        # The whole step runs under autocast, which is meant for forward passes: it would also round what the backward
        # pass multiplies for the parts that asked for float32.
        return torch.autocast(self.device.type, enabled=False)


class TokenizerTask(Task):
    """Trains a tokenizer: pixel loss of the reconstruction plus whatever its bottleneck asks for."""

    def __init__(
        self, tokenizer: Tokenizer, reconstruction_loss: Callable[[Tensor, Tensor], Tensor],
        config: TrainingConfig, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, seed)
        self.tokenizer = tokenizer
        self.reconstruction_loss = reconstruction_loss
        self._indices: list[Tensor] = []  # codes of the step's micro-batches

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        images = to_model_range(part[0])
        self.tokenizer.bottleneck.draws = draws
        reconstruction, bottleneck, _ = self.tokenizer(images)
        if bottleneck.indices is not None:
            self._indices.append(bottleneck.indices)
        losses = {"reconstruction": self.reconstruction_loss(reconstruction.float(), images), **bottleneck.losses}
        return losses, bottleneck.statistics

    def on_train_batch_start(self, batch: Part, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self._indices.clear()

    def finish_step(self) -> None:
        self.tokenizer.bottleneck.finish_step()

    def check_finite(self) -> dict[str, float]:
        values = super().check_finite()
        if self._indices:
            statistics = self.tokenizer.bottleneck.code_statistics(_of_all_ranks(torch.cat(self._indices)))
            values |= {name: float(value) for name, value in statistics.items()}
        return values


class ProbeTask(Task):
    """Trains an autoregressive probe on cached latents; its loss is in nats per token."""

    def __init__(self, probe: AutoregressiveProbe, config: TrainingConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.probe = probe

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        self.probe.draws = draws
        return {"ar_loss": self.probe.loss(draw_tokens(part, draws), part["labels"])}, {}


def _tensors(part: Part) -> Iterator[Tensor]:
    yield from part.values() if isinstance(part, Mapping) else part


def _images(part: Part) -> int:
    return len(next(_tensors(part)))


def _rows(batch: Part, rows: slice) -> Part:
    if isinstance(batch, Mapping):
        return {name: tensor[rows] for name, tensor in batch.items()}
    return tuple(tensor[rows] for tensor in batch)


def _of_all_ranks(part: Tensor) -> Tensor:
    """The parts of all ranks, one after another."""
    if not (dist.is_available() and dist.is_initialized()):
        return part
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part)
    return torch.cat(parts)

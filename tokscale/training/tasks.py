"""What is trained, as LightningModules: what they share, and those of probes and of stand-in teachers.

A new bottleneck, loss or backbone never needs a new one: the parts say their losses, the task adds them up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from tokscale.bottlenecks.draws import Draws, seed_device, seed_for
from tokscale.config import OptimizationConfig, TrainingConfig
from tokscale.data import to_model_range
from tokscale.errors import DivergedError
from tokscale.probes import AutoregressiveProbe, draw_tokens
from tokscale.stability import Point
from tokscale.teachers.classifier import Classifier
from tokscale.training.optimization import build_optimizer, learning_rate
from tokscale.training.sharding import average_whole_gradients, clip_gradients, is_sharded, whole_state

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

    section = "training"
    """of the spec, where this training is configured"""

    def __init__(self, config: OptimizationConfig, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.training_config = config
        self.seed = seed
        self.step = 0
        self.micro_batch: int | None = None
        """images of this rank that pass at once; None: its whole share"""
        self.losses: Named = {}
        self.trained: dict[str, Tensor] = {}
        """the state at the end of training, whole, on the processor; of rank 0"""
        self._learned: list[list[torch.nn.Parameter]] = []  # by each optimizer
        self.told: dict[str, float] = {}
        """what an intermediate measurement found, until it is written beside the losses"""

    @property
    def images_seen(self) -> int:
        """Images over all ranks since the start of training, earlier attempts included."""
        return self.step * self.training_config.batch_size

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [build_optimizer(self, self.training_config)]

    def learning_rates(self) -> list[float]:
        """The step's learning rate of each optimizer."""
        return [learning_rate(self.step, self.training_config)]

    def takes_part(self, number: int) -> bool:
        """Whether an optimizer steps in this step."""
        return True

    def name_of_norm(self, number: int) -> str:
        """How the norm of an optimizer's gradients is called in the progress file."""
        return "gradient_norm"

    def training_step(self, dataloader_iter: Iterator[tuple[Part, int, int]]) -> None:
        """One step on the loader's next batch, which is taken here: Lightning's own way to the device is a longer one.

        So are its ways to the backward pass and to the optimizers, which with neither scaler nor closure do nothing but
        call hooks: together they take a tenth of a small model's step.
        """
        with self.full_precision():
            batch = self._moved(next(dataloader_iter)[0])
        self.before_step()
        optimizers = self.trainer.optimizers
        if not self._learned:
            self._learned = [[one for group in each.param_groups for one in group["params"]] for each in optimizers]
        for optimizer, parameters, rate in zip(optimizers, self._learned, self.learning_rates(), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            for parameter in parameters:
                parameter.grad = None
        self.losses = {}
        share = _images(batch)
        key = seed_for("step", self.seed, self.step)
        for start in range(0, share, self.micro_batch or share):
            part = _rows(batch, slice(start, start + (self.micro_batch or share)))
            place = self.global_rank * share + start
            seed_device(seed_for("training", self.seed, self.step, place), self.device)
            losses, watched = self.losses_of(part, Draws(key, place))
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            weight = _images(part) / share
            self.keep({"loss": total, **losses, **watched}, weight)
            with self._syncing(start + _images(part) == share), self.full_precision():
                self._take_back(total if weight == 1 else total * weight)
            self.after_pass(weight)
        with self.full_precision():
            self.finish_step()
            for number, optimizer in enumerate(optimizers):
                if self.takes_part(number):
                    self._clip(number)
                    optimizer.step()
            self.after_step()

    @abstractmethod
    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        """The losses to add up, means over the images of ``part``, and what else is to be watched."""

    def before_step(self) -> None:
        """What comes before the first pass of a step."""
        return

    def after_pass(self, weight: float) -> None:
        """What follows each backward pass; ``weight`` is the share that its images have in this rank's step."""
        return

    def finish_step(self) -> None:
        """What follows the last backward pass of a step, before the optimizers' steps."""
        return

    def after_step(self) -> None:
        """What follows the optimizers' steps."""
        return

    def pass_size(self, share: int, asked: int | None) -> int:
        """Images of a rank's share that pass at once, when so many may."""
        return min(asked or share, share)

    def on_train_end(self) -> None:
        # Now, while the ranks that hold the parts are still connected, and their devices are still at work.
        self.trained = whole_state(self, kept=self.global_rank == 0)

    def warnings(self, past: Sequence[Point]) -> list[str]:
        """Signs of trouble, in words, in what progress lines said so far."""
        return []

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
                allowed=f"a lower {self.section}.lr, more {self.section}.warmup, or precision fp32; "
                "the last checkpoint from before is kept",
            )  # fmt: skip
        return values

    def keep(self, values: Named, weight: float) -> None:
        """Add the values of a micro-batch, detached, to the means over this rank's share."""
        for name, value in values.items():
            known, value = self.losses.get(name), value.detach()
            weighed = value if weight == 1 else value * weight
            self.losses[name] = weighed if known is None else known + weighed

    def _moved(self, batch: Part) -> Part:
        """A batch on this rank's device; the processor does not wait for the copy."""
        if self.device.type == "cpu":
            return batch
        if isinstance(batch, Mapping):
            return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in batch)

    def _take_back(self, loss: Tensor) -> None:
        """The backward pass; Lightning's where it makes gradients ready to be exchanged."""
        if isinstance(self.trainer.strategy, DDPStrategy):
            self.manual_backward(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]

    def _clip(self, number: int) -> None:
        """Bound the norm of an optimizer's gradients, averaged over the ranks, and watch it."""
        parameters = self._learned[number]
        if is_sharded(parameters):
            average_whole_gradients(parameters)
        bound = self.training_config.gradient_clip or float("inf")
        self.losses[self.name_of_norm(number)] = clip_gradients(parameters, bound).detach()

    def _syncing(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once a step, in the last backward pass, while that is still going on."""
        strategy = self.trainer.strategy
        if last or not isinstance(strategy, DDPStrategy):
            return nullcontext()
        blocked: AbstractContextManager[None] = strategy.block_backward_sync()
        return blocked

    def full_precision(self) -> AbstractContextManager[object]:
        if not torch.is_autocast_enabled(self.device.type):
            return nullcontext()
        # The whole step runs under autocast, which is meant for forward passes: it would also round what the backward
        # pass multiplies for the parts that asked for float32.
        return torch.autocast(self.device.type, enabled=False)


class ProbeTask(Task):
    """Trains an autoregressive probe on cached latents; its loss is in nats per token."""

    def __init__(self, probe: AutoregressiveProbe, config: OptimizationConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.probe = probe

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        self.probe.draws = draws
        return {"ar_loss": self.probe.loss(draw_tokens(part, draws), part["labels"])}, {}


class TeacherTask(Task):
    """Trains a classifier that stands in for a pretrained teacher; its loss is in nats."""

    def __init__(self, classifier: Classifier, config: TrainingConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.classifier = classifier

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        images, labels = part
        logits = self.classifier(to_model_range(images))
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return {"cross_entropy": F.cross_entropy(logits, labels)}, {"accuracy": accuracy}


def _tensors(part: Part) -> Iterator[Tensor]:
    yield from part.values() if isinstance(part, Mapping) else part


def _images(part: Part) -> int:
    return len(next(_tensors(part)))


def _rows(batch: Part, rows: slice) -> Part:
    if rows.start == 0 and rows.stop >= _images(batch):
        return batch
    if isinstance(batch, Mapping):
        return {name: tensor[rows] for name, tensor in batch.items()}
    return tuple(tensor[rows] for tensor in batch)


def of_all_ranks(part: Tensor) -> Tensor:
    """The parts of all ranks, one after another."""
    if not (dist.is_available() and dist.is_initialized()):
        return part
    parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part)
    return torch.cat(parts)

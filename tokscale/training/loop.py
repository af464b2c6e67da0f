"""One training run: from the newest checkpoint to the end of the budget, on whatever device is at hand."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch.utils.data import DataLoader, IterableDataset

from tokscale.stage import StageFolder
from tokscale.training.callbacks import Budget, Checkpoints, Progress
from tokscale.training.checkpoints import FolderCheckpoints, newest_checkpoint
from tokscale.training.stopping import StopFlag
from tokscale.training.tasks import Task

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class Runtime:
    """How a stage runs here; none of it changes what the stage is."""

    checkpoint_seconds: float = 60.0
    progress_seconds: float = 2.0
    loader_workers: int | None = None  # None: none on a processor, up to 8 beside a GPU

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    task: Task,
    batches_from: Callable[[int], IterableDataset[Any]],
    folder: StageFolder,
    owner: str,
    runtime: Runtime,
    flag: StopFlag,
) -> None:
    """Train a task in its stage's folder, resuming from the newest checkpoint that verifies.

    ``batches_from(step)`` is the stream of batches from that step on. Raises ``StoppedError`` when a signal asked to
    stop (the checkpoint is written), ``DivergedError`` when a loss is not finite, ``StoreError`` when the disk refuses.
    """
    checkpoint = newest_checkpoint(folder.checkpoints, owner)
    start = _step_of(checkpoint)
    if start < task.training_config.steps:
        trainer = _trainer(task, folder, owner, runtime, flag)
        loader = _loader(batches_from(start), runtime)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")  # advice on workers and on unnamed loggers
            trainer.fit(task, loader, ckpt_path=checkpoint, weights_only=True)
    else:  # killed between the last step and the record
        assert checkpoint is not None
        task.load_state_dict(FolderCheckpoints(owner).load_checkpoint(checkpoint)["state_dict"])
        task.step = start
    task.eval()


def _step_of(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    state = torch.load(checkpoint / "training.pt", map_location="cpu", weights_only=True)
    return int(state["task"]["step"])


def _loader(batches: IterableDataset[Any], runtime: Runtime) -> DataLoader[Any]:
    on_gpu = runtime.device.type == "cuda"
    workers = runtime.loader_workers
    if workers is None:
        workers = min(8, len(os.sched_getaffinity(0))) if on_gpu else 0
    return DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=on_gpu)


def _trainer(task: Task, folder: StageFolder, owner: str, runtime: Runtime, flag: StopFlag) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    config = task.training_config
    callbacks = [
        Budget(),
        Progress(folder.progress, runtime.progress_seconds),
        Checkpoints(folder.checkpoints, flag, runtime.checkpoint_seconds),
    ]
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=_PRECISIONS[config.precision],
        max_epochs=-1,
        callbacks=callbacks,
        # Requeueing and rank detection belong to whoever started this process, not to Lightning's guess of a cluster.
        plugins=[FolderCheckpoints(owner), LightningEnvironment()],
        default_root_dir=folder.path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )

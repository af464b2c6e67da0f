"""One training run: from the newest checkpoint to the end of the budget, on whatever devices are at hand."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tokscale.errors import ConfigError, StoppedError
from tokscale.record import write_atomically
from tokscale.stage import COMPILE_VARIABLE, PROFILE_VARIABLE, StageFolder
from tokscale.training.callbacks import Budget, Progress, StepEnd
from tokscale.training.checkpoints import FolderCheckpoints, newest_checkpoint
from tokscale.training.compiling import compile_blocks
from tokscale.training.profiling import ProfiledSteps, StageProfile
from tokscale.training.ranks import Ranks
from tokscale.training.sharding import ShardingStrategy
from tokscale.training.stopping import StopFlag, ignore_signals
from tokscale.training.tasks import Task
from tokscale.training.team import Team

BEGINNING = "begun.json"
_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}


def _asked(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


@dataclass(frozen=True)
class Runtime:
    """How a stage runs here; none of it changes what the stage is."""

    checkpoint_seconds: float = 60.0
    progress_seconds: float = 2.0
    loader_workers: int | None = None  # None: none on a processor, up to 8 beside a GPU
    micro_batch: int | None = None  # images of one rank that pass at once; None: its whole share of the batch
    shard: bool = False  # whether ranks share out the transformers' blocks, for a model that fits no single device
    recompute: bool = False  # whether the activations of a tokenizer's blocks are made again in the backward pass
    compile: bool = field(default_factory=lambda: _asked(COMPILE_VARIABLE))
    """whether transformer blocks are compiled, where ranks do not share them out"""
    profile: bool = field(default_factory=lambda: _asked(PROFILE_VARIABLE))
    """whether a few steps are recorded by a profiler; jobs inherit the variable from who starts them"""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Setting:
    """Where an attempt takes place: the stage's id and folder, who asks to stop, and with which other ranks.

    ``check`` raises where the stage is no longer this process's to write to; ``profile`` watches the steps of rank 0.
    """

    id: str
    folder: StageFolder
    runtime: Runtime
    flag: StopFlag
    team: Team
    attempt: int
    check: Callable[[], None]
    profile: StageProfile | None = field(default=None, kw_only=True)

    def begin(self, images: int, at_once: int) -> None:
        """Note from how many images on this attempt goes, and how many pass at once on a rank.

        Should it vanish without a word, the next one knows whether it got any further, and what to halve.
        """
        if self.team.ranks.first:
            note = {"from": images, "micro_batch": at_once}
            write_atomically(self.folder.attempt(self.attempt) / BEGINNING, json.dumps(note).encode())

    def stop_if_asked(self) -> None:
        """Raise ``StoppedError`` when a signal asked to stop: for work that is not kept until it is done.

        It is asked between two passes, so a profile counts them here.
        """
        if self.flag:
            raise StoppedError(f"stopped by {self.flag.signal}; what was measured so far is not kept",
                               where=str(self.folder.path), allowed="run the sweep again")  # fmt: skip
        if self.profile is not None:
            self.profile.passed()


def train(
    task: Task, batches_from: Callable[[int], IterableDataset[Any]], setting: Setting,
    watchers: Sequence[pl.Callback] = (),
) -> dict[str, dict[str, Tensor]]:  # fmt: skip
    """Train a task in its stage's folder, resuming from the newest checkpoint that verifies.

    ``batches_from(step)`` is this rank's stream of batches from that step on. ``watchers`` look at each step when it is
    counted, before it is written about. Returns, on rank 0, the trained state of each of the task's modules by its
    name, on the processor; the ranks have parted then, and the task, whose weights they may have shared out, is of no
    more use. Raises ``StoppedError`` when a signal asked any rank to stop (the checkpoint is written),
    ``DivergedError`` when a loss is not finite, ``StoreError`` when the disk refuses.
    """
    config, folder, ranks = task.training_config, setting.folder, setting.team.ranks
    if config.batch_size % ranks.world:
        raise ConfigError("a batch cannot be shared equally", where="training.batch_size", given=config.batch_size,
                          allowed=f"a multiple of the number of ranks, {ranks.world}")  # fmt: skip
    share = config.batch_size // ranks.world
    task.micro_batch = task.pass_size(share, setting.runtime.micro_batch)
    # Rank 0 looks for all: on a network file system, another node may not see the newest yet.
    checkpoint = setting.team.shared(newest_checkpoint(folder.checkpoints, setting.id) if ranks.first else None)
    start = _step_of(checkpoint)
    setting.begin(start * config.batch_size, task.micro_batch)
    if start < config.steps:
        if setting.runtime.compile and not setting.runtime.shard:
            compile_blocks(task, setting.runtime.device)
        trainer = _trainer(task, setting, watchers)
        loader = loader_of(batches_from(start), setting.runtime)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")  # advice on workers and on unnamed loggers
            trainer.fit(task, loader, ckpt_path=checkpoint, weights_only=True)
    else:  # killed between the last step and the record
        assert checkpoint is not None
        task.trained = FolderCheckpoints(setting.id).load_checkpoint(checkpoint)["state_dict"] if ranks.first else {}
        task.step = start
    setting.team.part()
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in task.trained.items():
        module, _, rest = name.partition(".")
        states.setdefault(module, {})[rest] = tensor
    return states


def _step_of(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    state = torch.load(checkpoint / "training.pt", map_location="cpu", weights_only=True)
    return int(state["task"]["step"])


def loader_of(batches: IterableDataset[Any], runtime: Runtime) -> DataLoader[Any]:
    """Batches as they are; beside a GPU, worker processes make them ahead, into memory that it can fetch from."""
    on_gpu = runtime.device.type == "cuda"
    workers = runtime.loader_workers
    if workers is None:
        workers = min(8, len(os.sched_getaffinity(0))) if on_gpu else 0
    return DataLoader(
        batches, batch_size=None, num_workers=workers, pin_memory=on_gpu, worker_init_fn=ignore_signals
    )  # fmt: skip


def _trainer(task: Task, setting: Setting, watchers: Sequence[pl.Callback]) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    folder, runtime, ranks = setting.folder, setting.runtime, setting.team.ranks
    end = StepEnd(Progress(folder.progress, runtime.progress_seconds), folder.checkpoints, setting.flag,
                  runtime.checkpoint_seconds, setting.team, setting.check)  # fmt: skip
    trainer: Any = pl.Trainer(
        precision=_PRECISIONS[task.training_config.precision],
        max_epochs=-1,
        callbacks=[Budget(), *watchers, end, *([ProfiledSteps(setting.profile)] if setting.profile else [])],
        default_root_dir=folder.path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,  # the batches know their rank
        **_layout(ranks, FolderCheckpoints(setting.id), runtime.shard),
    )
    # Signals have one owner. Lightning's handler of SIGTERM would talk to the other ranks from inside the signal's
    # frame, and its loop would ask them, and wait for the device, in every step.
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    found: pl.Trainer = trainer
    return found


def _layout(ranks: Ranks, checkpoints: FolderCheckpoints, shard: bool) -> dict[str, Any]:
    """The trainer's arguments that say who trains: this process alone, or each task of the SLURM step on one device.

    Requeueing belongs to whoever started this process, and so does finding out who it is: without a word, Lightning
    would guess from SLURM's variables.
    """
    if ranks.world == 1:
        return {"accelerator": "auto", "devices": 1, "plugins": [checkpoints, LightningEnvironment()]}
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(ranks.per_node))  # Lightning insists, srun sets it if asked to
    # The devices by word, not by number: a rank may see only the GPU that is its own.
    devices = [ranks.device] * ranks.per_node
    return {
        "num_nodes": ranks.nodes,
        "strategy": ShardingStrategy(parallel_devices=devices)
        if shard
        else DDPStrategy(parallel_devices=devices, broadcast_buffers=False, gradient_as_bucket_view=True),
        "plugins": [checkpoints, SLURMEnvironment(auto_requeue=False)],
    }

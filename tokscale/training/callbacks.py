"""What happens between two training steps: the budget, the progress file, and checkpoints on a timer or a signal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from tokscale.errors import StoppedError
from tokscale.record import cannot_write
from tokscale.training.stopping import StopFlag
from tokscale.training.tasks import Task


class Budget(pl.Callback):
    """Counts the step and ends the training when the budget of images is seen.

    Lightning's ``max_steps`` counts optimizer steps, so a training with two optimizers would get half the images.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, Task)
        task.step += 1
        if task.step >= task.training_config.steps:
            trainer.should_stop = True


class Progress(pl.Callback):
    """Appends how far the training is to ``progress.jsonl``, at most once in ``interval`` seconds and at the end.

    Reading the losses is the only time that the loop waits for the device, so the interval also bounds that.
    """

    def __init__(self, path: Path, interval: float = 2.0) -> None:
        self.path, self.interval = path, interval
        self._last = -float("inf")
        self._mark: tuple[float, int] | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, Task)
        now = time.monotonic()
        if self._mark is None:  # the first step warms up allocators and kernels
            self._mark = (now, task.images_seen)
        if now - self._last < self.interval and not trainer.should_stop:
            return
        self._last = now
        line: dict[str, Any] = {"time": round(time.time(), 3), "done": task.images_seen,
                                "total": task.training_config.steps * task.training_config.batch_size}  # fmt: skip
        if now > self._mark[0]:
            line["per_second"] = round((task.images_seen - self._mark[1]) / (now - self._mark[0]), 2)
        line |= {name: float(f"{value:.6g}") for name, value in task.check_finite().items()}
        if trainer.is_global_zero:
            append_line(self.path, line)


class Checkpoints(pl.Callback):
    """Saves on a timer, and when a signal asks to stop: then it raises ``StoppedError`` with the checkpoint written."""

    def __init__(self, folder: Path, flag: StopFlag, seconds: float) -> None:
        self.folder, self.flag, self.seconds = folder, flag, seconds
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, Task)
        # at the end too: measuring follows, and a process killed there must not train again
        due = trainer.should_stop or time.monotonic() - self._last >= self.seconds
        if not (due or self.flag):
            return
        task.check_finite()  # a checkpoint is a promise that one can go on from it
        trainer.save_checkpoint(self.folder / f"{task.images_seen:015d}")
        self._last = time.monotonic()
        if self.flag:
            raise StoppedError(
                f"stopped by {self.flag.signal} after {task.images_seen} images; the checkpoint is written",
                where=str(self.folder), allowed="run the sweep again to go on from here",
            )  # fmt: skip


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one JSON line in a single write, so that a reader sees whole lines; raises ``StoreError``."""
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise cannot_write(path, error) from error

"""What happens between two training steps: the budget, the progress file, and checkpoints on a timer or a signal."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from tokscale.errors import DivergedError, StoppedError
from tokscale.record import cannot_write
from tokscale.stability import Point, point
from tokscale.training.stopping import StopFlag
from tokscale.training.tasks import Task
from tokscale.training.team import Team

_MOST_POINTS = 2000  # of the past that warnings are read off


class Budget(pl.Callback):
    """Counts the step and ends the training when the budget of images is seen.

    Lightning's ``max_steps`` counts optimizer steps, so a training with two optimizers would get half the images.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, Task)
        task.step += 1
        if task.step >= task.training_config.steps:
            trainer.should_stop = True


class Progress:
    """Appends how far the training is to ``progress.jsonl``, at most once in ``interval`` seconds and at the end.

    A line carries a ``warning`` where the task sees signs of trouble in the lines of this attempt.
    """

    def __init__(self, path: Path, interval: float = 2.0) -> None:
        self.path, self.interval = path, interval
        self._last = -float("inf")
        self._mark: tuple[float, int] | None = None
        self._past: list[Point] = []

    def due(self, images_seen: int) -> bool:
        """Whether it is time for a line; to be asked after every step."""
        now = time.monotonic()
        if self._mark is None:  # the first step warms up allocators and kernels
            self._mark = (now, images_seen)
        return now - self._last >= self.interval

    def write(self, task: Task, losses: dict[str, float]) -> None:
        assert self._mark is not None
        self._last = now = time.monotonic()
        line: dict[str, Any] = {"time": round(time.time(), 3), "done": task.images_seen,
                                "total": task.training_config.steps * task.training_config.batch_size}  # fmt: skip
        if now > self._mark[0]:
            line["per_second"] = round((task.images_seen - self._mark[1]) / (now - self._mark[0]), 2)
        line |= {name: float(f"{value:.6g}") for name, value in losses.items()}
        self._past.append(point(line))
        if len(self._past) > _MOST_POINTS:
            del self._past[1::2]
        if warnings := task.warnings(self._past):
            line["warning"] = "; ".join(warnings)
        append_line(self.path, line)


class StepEnd(pl.Callback):
    """Writes progress and checkpoints, and stops when a signal asked for it: what all ranks do at the same step.

    Rank 0's timers say when; a signal to any one rank stops all of them, with ``StoppedError`` once the checkpoint is
    written. Reading the losses, which only these occasions do, is the only time that the loop waits for the device.
    ``check`` is asked before a checkpoint is written, and raises where that is no longer wanted.
    """

    def __init__(
        self, progress: Progress, folder: Path, flag: StopFlag, seconds: float, team: Team, check: Callable[[], None]
    ) -> None:
        self.progress, self.folder, self.flag, self.seconds = progress, folder, flag, seconds
        self.team, self.check = team, check
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, Task)
        first = self.team.ranks.first
        report_due = first and (self.progress.due(task.images_seen) or bool(task.told))
        save_due = first and time.monotonic() - self._saved >= self.seconds
        stop, report, save = self.team.agree(self.flag.number, report_due, save_due)
        # At the end too: measuring follows, and a process killed there must not train again.
        report, save = report or trainer.should_stop, save or stop or trainer.should_stop
        if not (report or save):
            return
        losses = task.check_finite()  # a checkpoint is a promise that one can go on from it
        if report and first:
            self.progress.write(task, losses | task.told)
            task.told = {}
        if save:
            if first:
                self.check()
            trainer.save_checkpoint(self.folder / f"{task.images_seen:015d}")
            self._saved = time.monotonic()
        if stop:
            raise StoppedError(
                f"stopped by {signal.Signals(stop).name} after {task.images_seen} images; the checkpoint is written",
                where=str(self.folder), allowed="run the sweep again to go on from here",
            )  # fmt: skip

    def on_exception(self, trainer: pl.Trainer, task: Any, exception: BaseException) -> None:
        # What all ranks agreed upon ends them in good order. After anything else a GPU may wait for a collective with a
        # rank that is gone, and Lightning, which now moves the weights off it, with the GPU.
        if not isinstance(exception, StoppedError | DivergedError):
            self.team.abandon()


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append one JSON line in a single write, so that a reader sees whole lines; raises ``StoreError``."""
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise cannot_write(path, error) from error

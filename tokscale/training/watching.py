"""Intermediate probes: what a tokenizer's training tells of itself beside its losses."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import IntermediateProbe
from tokscale.data import ImageSet
from tokscale.errors import DivergedError, StoppedError
from tokscale.probes.encoding import spec_of
from tokscale.probes.intermediate import encoded, intermediate_images, probe_tokens
from tokscale.training.sharding import is_sharded
from tokscale.training.stopping import StopFlag
from tokscale.training.tokenizer_task import TokenizerTask


class WatchingProbe(pl.Callback):
    """Probes the tokenizer whenever a multiple of ``every`` images is passed, on rank 0; the others wait for it.

    Where blocks are shared out, all ranks encode the images together. What it finds goes into the next line of
    progress. A measurement that a signal cuts short, or that finds no number because the tokenizer has none, is left
    out.
    """

    def __init__(self, config: IntermediateProbe, every: int, images: ImageSet, flag: StopFlag) -> None:
        self.config, self.every, self.images, self.flag = config, every, images, flag
        self._known: tuple[Tensor, Tensor] | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, TokenizerTask)
        before = task.images_seen - task.training_config.batch_size
        if task.images_seen // self.every == before // self.every:
            return
        first = task.global_rank == 0
        if not (first or is_sharded(task.parameters())):
            return
        if self._known is None:
            self._known = intermediate_images(self.images, self.config)
        images, labels = self._known
        tokens = encoded(task.tokenizer, images, labels)
        if not first:
            return
        try:
            task.told = probe_tokens(tokens, spec_of(task.tokenizer), self.config, seed_for("watching", task.seed),
                                     self._check)  # fmt: skip
        except (StoppedError, DivergedError):  # whoever looks next says so, with all ranks
            return

    def _check(self) -> None:
        if self.flag:
            raise StoppedError("an intermediate probe was cut short", given=self.flag.signal)

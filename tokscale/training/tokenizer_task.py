"""Training of every tokenizer: encoder, bottleneck and decoder, and an alignment MLP where one is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.config import used
from tokscale.losses.semantic import Alignment, alignment_loss
from tokscale.models.tokenizer import Tokenizer
from tokscale.stability import Point, signs
from tokscale.teachers.base import VisionTeacher
from tokscale.training.reconstruction_task import ReconstructionTask
from tokscale.training.shortcut import Shortcut
from tokscale.training.tasks import Named, of_all_ranks
from tokscale.training_cost import Trained


class TokenizerTask(ReconstructionTask):
    """Trains a tokenizer: what its bottleneck asks for, and a frozen teacher's features, come to the other losses."""

    def __init__(self, tokenizer: Tokenizer, config: Trained, seed: int, teacher: VisionTeacher | None = None) -> None:
        super().__init__(config.losses, config.training, config.data.resolution, seed, config.data.frames)
        self.semantic = used(config.losses.semantic)
        assert (self.semantic is None) == (teacher is None), "a semantic loss, and no other, has a teacher"
        self.tokenizer = tokenizer
        self.alignment = None
        if teacher is not None:
            torch.manual_seed(seed_for("alignment", seed))
            self.alignment = Alignment(config.tokenizer.decoder.width, teacher.dim)
        self._teachers = [teacher] if teacher else []
        self._indices: list[Tensor] = []  # codes of the step's micro-batches
        self.start_average()  # of a tokenizer that nobody looks into yet
        shortcut = used(config.losses.shortcut)
        self.shortcut = Shortcut(tokenizer, shortcut, self.reconstruction_loss) if shortcut else None

    @property
    def result(self) -> nn.Module:
        return self.tokenizer

    def learners(self) -> list[nn.Module]:
        return [self.tokenizer, *([self.alignment] if self.alignment else [])]

    def on_train_start(self) -> None:
        super().on_train_start()
        for teacher in self._teachers:
            teacher.to(self.device)

    def before_step(self) -> None:
        self._indices.clear()
        if self.shortcut is not None:
            self.shortcut.close_after(self.images_seen)

    def reconstructed(self, images: Tensor, draws: Draws) -> tuple[Tensor, Named, Named]:
        self.tokenizer.bottleneck.draws = draws
        tap = self.semantic.layer if self.semantic else None
        reconstruction, bottleneck, features = self.tokenizer(images, tap)
        if bottleneck.indices is not None:
            self._indices.append(bottleneck.indices)
        lost = dict(bottleneck.losses)
        for teacher in self._teachers:
            assert self.alignment is not None
            assert self.semantic is not None
            aims = teacher.features(images)
            lost["semantic"] = self.semantic.weight * alignment_loss(self.alignment(features), aims)
        if self.shortcut is not None and self.shortcut.is_open:
            lost |= self.shortcut.losses(images)
        return reconstruction, lost, bottleneck.statistics

    def finish_step(self) -> None:
        self.tokenizer.bottleneck.finish_step()
        super().finish_step()

    def warnings(self, past: Sequence[Point]) -> list[str]:
        latents = self.training_config.batch_size * self.tokenizer.num_latent_tokens
        return signs(past, codes=self.tokenizer.bottleneck.codebook_size, latents=latents,
                     warmup=self.training_config.warmup,
                     entropy=hasattr(self.tokenizer.bottleneck, "entropy_weight"))  # fmt: skip

    def check_finite(self) -> dict[str, float]:
        values = super().check_finite()
        if self._indices:
            statistics = self.tokenizer.bottleneck.code_statistics(of_all_ranks(torch.cat(self._indices)))
            values |= {name: float(value) for name, value in statistics.items()}
        return values

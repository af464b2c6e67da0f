"""The tokenizer's opponent: a discriminator, what it tells the tokenizer, and how it learns beside it.

Both take their gradients at the same weights and step together, as in GigaTok's code. The discriminator is none of the
parameters that DDP looks after: a step has backward passes of each, and DDP would exchange everybody's gradients in
both. Its own, a few megabytes, are averaged over the ranks once a step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import GanLoss, OptimizationConfig, used
from tokscale.losses.adversarial import discriminator_loss, generator_loss, lecam_penalty, r1_penalty
from tokscale.models.discriminator import build_discriminator
from tokscale.training.optimization import learning_rate
from tokscale.training.sharding import average_whole_gradients


class Adversary(nn.Module):
    """A discriminator of images of one resolution with its loss and its training.

    Steps are those of the tokenizer. The learning rate follows the tokenizer's schedule, or rises over a time of its
    own from where the discriminator joins.
    """

    logit_means: Tensor | None

    def __init__(self, config: GanLoss, training: OptimizationConfig, resolution: int, seed: int) -> None:
        super().__init__()
        self.config = config
        warmup = training.warmup if config.lr_warmup is None else 0.0
        self.training_config = training.model_copy(update={"lr": config.lr or training.lr, "warmup": warmup})
        self.first_step = -(-config.start // training.batch_size)
        self.r1, self.lecam = used(config.r1), used(config.lecam)
        # of images and of reconstructions, exponentially, from 0 on
        self.register_buffer("logit_means", torch.zeros(2) if self.lecam else None)
        self._logits: list[Tensor] = []  # weighted means of the step's passes
        torch.manual_seed(seed_for("discriminator", seed))
        self.judge = build_discriminator(config.discriminator, resolution)

    def has_joined(self, step: int) -> bool:
        """Whether it takes part in this step."""
        return step >= self.first_step

    def learning_rate(self, step: int) -> float:
        """Its learning rate in this step."""
        return self._risen(step, self.config.lr_warmup or 0.0) * learning_rate(step, self.training_config)

    def weight(self, step: int) -> float:
        """What the tokenizer's side of the loss weighs in this step."""
        return self._risen(step, self.config.warmup) * self.config.weight

    def told(self, reconstruction: Tensor, step: int) -> Tensor:
        """The tokenizer's loss, weighted: the discriminator's own weights take no gradient from it."""
        self.judge.requires_grad_(False)
        loss = self.weight(step) * generator_loss(self.config.loss, self.judge(reconstruction))
        self.judge.requires_grad_(True)
        return loss

    def losses(
        self, images: Tensor, reconstruction: Tensor, step: int, share: float
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Its losses on images and detached reconstructions, each with what is to be watched.

        Each is to be taken back before the next is asked for: memory then holds one of their graphs at a time.
        ``share`` is what these images are of a rank's step.
        """
        real, fake = self.judge(images), self.judge(reconstruction)
        loss = discriminator_loss(self.config.loss, real, fake)
        means = torch.stack([real.detach().float().mean(), fake.detach().float().mean()])
        watched = {"discriminator": loss, "logits_real": means[0], "logits_fake": means[1]}
        if self.lecam is not None:
            watched["lecam"] = lecam_penalty(real, fake, self.usual_logits(step))
            loss = loss + self.lecam.weight * watched["lecam"]
            self._logits.append(means * share)
        yield loss, watched
        if self.r1 is not None and (step - self.first_step) % self.r1.every == 0:
            with torch.autocast(images.device.type, enabled=False):
                penalty = r1_penalty(self.judge, images.float())
            yield self.r1.weight * self.r1.every * penalty, {"r1": penalty}

    def usual_logits(self, step: int) -> Tensor:
        """Running means of the logits of images and of reconstructions in the steps before this one; (2,).

        Those of few steps are not drawn to where the means began (Kingma & Ba 2014, 3); of none they are 0.
        """
        assert self.lecam is not None
        assert self.logit_means is not None
        known = 1 - self.lecam.decay ** (step - self.first_step)
        return self.logit_means / known if known else self.logit_means

    def finish_step(self) -> None:
        """Make the gradients of all ranks their mean, and take this step's logits into the running means."""
        together = dist.is_available() and dist.is_initialized()
        if together:
            average_whole_gradients(self.parameters())
        if self.lecam is None:
            return
        assert self.logit_means is not None
        means = torch.stack(self._logits).sum(dim=0)
        self._logits.clear()
        if together:
            dist.all_reduce(means)
            means /= dist.get_world_size()
        self.logit_means.lerp_(means, 1 - self.lecam.decay)

    def note(self, share: int, at_once: int) -> str | None:
        """What a record says where passes hold no whole groups of images; None where all is as configured."""
        group = self.judge.group
        if share % group == 0 and at_once % group == 0:
            return None
        return (
            f"the discriminator should take its statistics over {group} images at a time, and passes held "
            f"{at_once} of a rank's {share}: with other passes the result would be another"
        )

    def _risen(self, step: int, warmup: float) -> float:
        """How far what rises from where it joins has risen, over this share of the budget."""
        steps = round(warmup * self.training_config.steps)
        return min(1.0, (step - self.first_step + 1) / steps) if steps else 1.0

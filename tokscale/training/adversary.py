"""The tokenizer's opponent: a discriminator, what it tells the tokenizer, and how it learns beside it.

Both take their gradients at the same weights and step together, as in GigaTok's code. The discriminator is none of the
parameters that DDP looks after: a step has backward passes of each, and DDP would exchange everybody's gradients in
both. Its own, a few megabytes, are averaged over the ranks once a step.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import GanLoss, TrainingConfig
from tokscale.losses.adversarial import discriminator_loss, generator_loss
from tokscale.models.discriminator import Discriminator
from tokscale.training.sharding import average_whole_gradients


class Adversary(nn.Module):
    """A discriminator with its loss and its training; its learning rate follows the tokenizer's schedule."""

    def __init__(self, config: GanLoss, training: TrainingConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.training_config = training.model_copy(update={"lr": config.lr or training.lr})
        torch.manual_seed(seed_for("discriminator", seed))
        self.judge = Discriminator(config.discriminator)

    def has_joined(self, images_seen: int) -> bool:
        """Whether it takes part in the step that begins after so many images."""
        return images_seen >= self.config.start

    def told(self, reconstruction: Tensor) -> Tensor:
        """The tokenizer's loss, weighted: the discriminator's own weights take no gradient from it."""
        self.judge.requires_grad_(False)
        loss = self.config.weight * generator_loss(self.config.loss, self.judge(reconstruction))
        self.judge.requires_grad_(True)
        return loss

    def loss(self, images: Tensor, reconstruction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss on images and detached reconstructions, and its mean logits of both."""
        real, fake = self.judge(images), self.judge(reconstruction)
        watched = {"logits_real": real.float().mean(), "logits_fake": fake.float().mean()}
        return discriminator_loss(self.config.loss, real, fake), watched

    def average_gradients(self) -> None:
        """Make the gradients of all ranks their mean, once a step."""
        if not (dist.is_available() and dist.is_initialized()):
            return
        average_whole_gradients(self.parameters())

    def note(self, share: int, at_once: int) -> str | None:
        """What a record says where passes hold no whole groups of the batch norm; None where all is as configured."""
        group = self.judge.group
        if share % group == 0 and at_once % group == 0:
            return None
        return (
            f"the discriminator's batch norm should take its statistics over {group} images at a time, and passes held "
            f"{at_once} of a rank's {share}: with other passes the result would be another"
        )

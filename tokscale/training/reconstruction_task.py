"""Training by reconstruction: the losses that a decoder's images are held to, and a discriminator's turn in each step.

Who encodes, who learns and what else is lost, the tasks that stand on it say: a whole tokenizer, or its decoder alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from tokscale.bottlenecks.draws import Draws
from tokscale.config import AveragedTraining, LossesConfig, used
from tokscale.data import frames_of, to_model_range
from tokscale.losses.perceptual import perceptual_distance
from tokscale.losses.reconstruction import reconstruction_loss
from tokscale.training import averaging
from tokscale.training.adversary import Adversary
from tokscale.training.optimization import build_optimizer
from tokscale.training.tasks import Named, Part, Task


class ReconstructionTask(Task):
    """Trains what makes images on its pixel loss and what the config asks of other networks.

    Frozen networks are no submodules: no checkpoint, no optimizer and no exchange of gradients knows them. Where the
    config asks for an average of the weights, it is the module ``average``. Raises ``WeightsError`` when a network
    needs weights that are not here.
    """

    training_config: AveragedTraining

    def __init__(
        self, losses: LossesConfig, training: AveragedTraining, resolution: int, seed: int, frames: int = 1
    ) -> None:
        super().__init__(training, seed)
        self.frames = frames
        """of each image, which then is a clip"""
        gan, perceptual = used(losses.gan), used(losses.perceptual)
        self.reconstruction_loss = reconstruction_loss(losses)
        self.adversary = Adversary(gan, training, resolution, seed) if gan else None
        self.average: nn.Module | None = None
        self.perceptual_weight = perceptual.weight if perceptual else 0.0
        self._stands_in = perceptual is not None and perceptual.kind == "random-vgg"
        self._perceptual = [perceptual_distance(perceptual)] if perceptual else []  # in lists: no submodules
        self._judged: tuple[Tensor, Tensor] | None = None  # images and reconstructions of a pass
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_parameters() if name.startswith("adversary.")
        ]

    @property
    @abstractmethod
    def result(self) -> nn.Module:
        """The module whose weights training is for."""

    @abstractmethod
    def reconstructed(self, images: Tensor, draws: Draws) -> tuple[Tensor, Named, Named]:
        """Reconstructions of images (b, 3, h, w) or clips (b, 3, t, h, w), both in [-1, 1], what else is lost, and what
        is to be watched.
        """

    def learners(self) -> list[nn.Module]:
        """What the first optimizer trains."""
        return [self.result]

    def start_average(self) -> None:
        """Begin the average of the weights, where one is asked for; to be called when the weights are there."""
        if self.training_config.ema is not None:
            self.average = averaging.averaged(self.result)

    @property
    def training_only_params(self) -> int:
        """Parameters that are trained and left behind."""
        beside = [module for module in (*self.learners(), self.adversary) if module is not self.result]
        return sum(parameter.numel() for module in beside if module is not None for parameter in module.parameters())

    # --- optimizers ---

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers: list[torch.optim.Optimizer] = [
            build_optimizer(nn.ModuleList(self.learners()), self.training_config)
        ]
        if self.adversary is not None:
            optimizers.append(build_optimizer(self.adversary, self.adversary.training_config))
        return optimizers

    def learning_rates(self) -> list[float]:
        rates = super().learning_rates()
        return rates if self.adversary is None else [*rates, self.adversary.learning_rate(self.step)]

    def takes_part(self, number: int) -> bool:
        return number == 0 or self._is_judged()

    def name_of_norm(self, number: int) -> str:
        return ("gradient_norm", "discriminator_gradient_norm")[number]

    # --- a step ---

    def on_train_start(self) -> None:
        for network in self._perceptual:
            network.to(self.device)

    def losses_of(self, part: Part, draws: Draws) -> tuple[Named, Named]:
        images = to_model_range(part[0])
        reconstruction, lost, watched = self.reconstructed(images, draws)
        reconstruction = reconstruction.float()
        losses = {"reconstruction": self.reconstruction_loss(reconstruction, images), **lost}
        images, reconstruction = frames_of(images), frames_of(reconstruction)  # each frame is judged by itself
        for network in self._perceptual:
            losses["perceptual"] = self.perceptual_weight * network(reconstruction, images).mean()
        if self.adversary is not None and self._is_judged():
            losses["gan"] = self.adversary.told(reconstruction, self.step)
            self._judged = images, reconstruction.detach()
        return losses, watched

    def after_pass(self, weight: float) -> None:
        """The discriminator's turn: its gradients from the images that have just passed."""
        if self._judged is None:
            return
        assert self.adversary is not None
        for loss, watched in self.adversary.losses(*self._judged, self.step, weight):
            self.keep(watched, weight)
            with self.full_precision():
                # Not by Lightning, which would have DDP exchange the tokenizer's gradients again.
                torch.autograd.backward(loss * weight)
        self._judged = None

    def finish_step(self) -> None:
        if self.adversary is not None and self._is_judged():
            self.adversary.finish_step()

    def after_step(self) -> None:
        if self.average is not None:
            assert self.training_config.ema is not None
            averaging.take_in(self.average, self.result, self.training_config.ema)

    def _is_judged(self) -> bool:
        return self.adversary is not None and self.adversary.has_joined(self.step)

    # --- around the steps ---

    def pass_size(self, share: int, asked: int | None) -> int:
        size = super().pass_size(share, asked)
        group = self.adversary.judge.group if self.adversary is not None else 1
        group //= math.gcd(group, self.frames)  # clips whose frames are whole groups
        return size // group * group or size

    def notes(self, share: int) -> list[str]:
        """What a reader of the record has to know of how it was trained, by a rank's share of the batch."""
        notes: list[str | None] = []
        if self.adversary is not None:
            at_once = self.micro_batch or share
            notes.append(self.adversary.note(self.frames * share, self.frames * at_once))
        if self.training_config.ema is not None:
            notes.append(averaging.note(self.training_config.ema, self.training_config.steps))
        if self._stands_in:
            notes.append("the perceptual loss was taken in a small random network (random-vgg), a stand-in for LPIPS")
        return [words for words in notes if words is not None]

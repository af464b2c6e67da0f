"""The discriminator learns to tell images from reconstructions, the tokenizer to have its own taken for images.

Hinge loss (Lim & Ye 2017, arXiv 1705.02894) and the non-saturating loss (Goodfellow et al. 2014, arXiv 1406.2661), of
logits that are high for images. The discriminator's is the mean of its loss on images and on reconstructions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """The tokenizer's side: mean over the logits of its reconstructions."""
    fake = fake.float()
    return F.softplus(-fake).mean() if kind == "non-saturating" else -fake.mean()


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's side: mean over the logits of images and of reconstructions."""
    real, fake = real.float(), fake.float()
    if kind == "non-saturating":
        return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def r1_penalty(judge: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Half the squared norm of the logit's gradient by the image, its mean over images (Mescheder et al. 2018, eq. 9).

    An image's logit is the mean of its map, where ``judge`` gives one. The penalty takes a gradient itself.
    """
    images = images.detach().requires_grad_(True)
    logits = judge(images).float().flatten(1).mean(dim=1)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(dim=1).mean()


def lecam_penalty(real: Tensor, fake: Tensor, means: Tensor) -> Tensor:
    """How far logits go beyond the other side's running mean, squared (Tseng et al. 2021, arXiv 2104.03310, eq. 3).

    ``means`` are those of images and of reconstructions (2,). As in the authors' code, images count while they are
    above what reconstructions had, reconstructions while they are below what images had.
    """
    above, below = F.relu(real.float() - means[1]), F.relu(means[0] - fake.float())
    return above.square().mean() + below.square().mean()

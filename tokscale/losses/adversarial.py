"""The discriminator learns to tell images from reconstructions, the tokenizer to have its own taken for images.

Hinge loss (Lim & Ye 2017, arXiv 1705.02894) and the non-saturating loss (Goodfellow et al. 2014, arXiv 1406.2661), of
logits that are high for images. The discriminator's is the mean of its loss on images and on reconstructions.
"""

from __future__ import annotations

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

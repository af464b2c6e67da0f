"""The entropy loss of discrete bottlenecks: E[H(code given latent)] - H(code) (Yu et al. 2024, MAGVIT-v2).

Its first term makes each latent sure of its code, its second spreads a batch's latents over all codes. The probability
of a code given a latent is a softmax over codes of minus the squared distance over a temperature. Both are taken
without ever keeping a matrix of all latents and all codes.

H(code) is that of the mean over the latents of one pass, of all ranks together: several ranks give the loss of one
process exactly. A smaller micro-batch changes it, since the entropy of a mean is no mean of entropies: it is then a
batch of fewer latents, as it is for each of GigaTok's GPUs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

_AT_ONCE = 2**22  # probabilities made at once (16 MB); at 16384 codes those of a batch of 32,768 latents are 2 GB
_TINY = 1e-30  # a code that no latent could become has probability 0 in float32, and 0 log 0 = 0


def mean_over_ranks(share: Tensor) -> Tensor:
    """The mean over ranks of equal shares, with the gradient of this rank's share as if it were the mean.

    Gradients are averaged over ranks afterwards, which makes them those of the mean.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return share
    everyone = share.detach().clone()
    dist.all_reduce(everyone)
    return share + (everyone / dist.get_world_size() - share.detach())


def entropy(probabilities: Tensor) -> Tensor:
    """Nats of a distribution, with a finite gradient where a probability is 0."""
    return -(probabilities * probabilities.clamp_min(_TINY).log()).sum()


# --- codes that are learned ---


def entropy_loss(latents: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The loss for latents (m, d) and codes (k, d) on the unit sphere, with gradients to both; a scalar in nats.

    The squared distance of unit vectors is 2 - 2 x product.
    """
    loss: Tensor = _EntropyLoss.apply(latents, codes, 2 / temperature)  # type: ignore[no-untyped-call]
    return loss


class _EntropyLoss(torch.autograd.Function):
    """Takes some latents at a time, and makes their probabilities again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, codes: Tensor, sharpness: float) -> Tensor:
        usage, uncertain = torch.zeros_like(codes[:, 0]), torch.zeros_like(codes[0, 0])
        for some in _pieces(latents, len(codes)):
            logs = torch.log_softmax((some @ codes.T).mul_(sharpness), dim=-1)
            shares = logs.exp()
            usage += shares.sum(0)
            uncertain -= shares.mul_(logs).sum()
        usage = mean_over_ranks(usage / len(latents))
        ctx.save_for_backward(latents, codes, usage)
        ctx.sharpness = sharpness
        return uncertain / len(latents) - entropy(usage)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Of a latent's logit s_j: p_j (log u_j - log p_j - E_p[log u - log p]) / m, for p of this latent, u of all."""
        latents, codes, usage = ctx.saved_tensors
        of_latents, of_codes = torch.empty_like(latents), torch.zeros_like(codes)
        log_usage, start = usage.clamp_min(_TINY).log(), 0
        for some in _pieces(latents, len(codes)):
            logs = torch.log_softmax((some @ codes.T).mul_(ctx.sharpness), dim=-1)
            shares = logs.exp()
            gain = torch.sub(log_usage, logs, out=logs)
            gain -= torch.linalg.vecdot(shares, gain)[:, None]
            of_logits = gain.mul_(shares)
            of_latents[start : start + len(some)] = of_logits @ codes
            of_codes += of_logits.T @ some
            start += len(some)
        scale = gradient * ctx.sharpness / len(latents)
        return of_latents * scale, of_codes * scale, None


def _pieces(latents: Tensor, codes: int) -> tuple[Tensor, ...]:
    return torch.split(latents, max(1, _AT_ONCE // codes))


# --- codes that are signs ---


def sign_entropy_loss(latents: Tensor, temperature: float, bits_together: int) -> Tensor:
    """The loss for latents (m, bits) whose codes are all of {-1, 1}^bits; a scalar in nats.

    Given a latent, bits are independent: bit i is 1 with probability sigmoid(4 z_i / temperature), and the first term
    is a sum over bits. The second is exact for ``bits_together`` bits, and a sum over groups of so many, which is at
    least the joint entropy. The mean over latents of products over bits is a product of two matrices, of the first and
    of the second half of the bits: no latent ever has more than 2^(bits / 2) numbers.
    """
    logits = latents * (4 / temperature)
    sure = logits.abs()
    # -p log p - (1 - p) log (1 - p) without a difference of nearly equal numbers
    uncertain = F.softplus(-sure) + sure * torch.sigmoid(-sure)
    spread = [entropy(mean_over_ranks(_joint(group))) for group in torch.split(logits, bits_together, dim=1)]
    return uncertain.sum(1).mean() - torch.stack(spread).sum()


def _joint(logits: Tensor) -> Tensor:
    """Mean over latents (m, g) of the distribution over their 2^g codes; (2^g,) in any order."""
    half = -(-logits.shape[1] // 2)
    total: Tensor | None = None
    for some in torch.split(logits, max(1, _AT_ONCE >> half)):
        part: Tensor = checkpoint(_joint_sum, some, half, use_reentrant=False, preserve_rng_state=False)
        total = part if total is None else total + part
    assert total is not None
    return total / len(logits)


def _joint_sum(logits: Tensor, half: int) -> Tensor:
    return (_products(logits[:, :half]).T @ _products(logits[:, half:])).flatten()


def _products(logits: Tensor) -> Tensor:
    """Probabilities (m, 2^h) of all combinations of h independent bits."""
    products = logits.new_ones(len(logits), 1)
    for bit in logits.unbind(1):
        products = torch.cat((products * torch.sigmoid(-bit)[:, None], products * torch.sigmoid(bit)[:, None]), dim=1)
    return products

"""VQ bottleneck: each latent is replaced by the nearest of K learned codes on the unit sphere."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.bottlenecks.base import Bottleneck, BottleneckResult, straight_through
from tokscale.bottlenecks.draws import Draws
from tokscale.bottlenecks.entropy import entropy_loss
from tokscale.config import VQBottleneck

_CHUNK = 2**22  # similarities held at once (16 MB): the whole matrix of a batch has (b n) x k, gigabytes at 64k codes


class VQ(Bottleneck):
    """Vector quantisation (van den Oord et al. 2017, arXiv 1711.00937) of l2-normalised latents (Yu et al. 2022).

    The codebook loss moves codes to latents, the commitment loss latents to codes; both are means over all elements of
    the normalised vectors, as in LlamaGen. A code that nothing in ``revive_after`` training steps has used, on any
    rank, is set to a random latent of the global batch, on all ranks alike. In training, latents and codes are kept
    until ``finish_step``. The entropy loss, where it has a weight, is taken in training mode only; it moves latents and
    codes alike.
    """

    steps_unused: Tensor

    def __init__(self, config: VQBottleneck) -> None:
        super().__init__(config.code_dim, config.code_dim, config.codebook_size)
        self.commitment = config.commitment
        self.codebook_weight = config.codebook_weight
        self.revive_after = config.revive_after
        self.entropy_weight = config.entropy_weight
        self.entropy_temperature = config.entropy_temperature
        # Normal and then normalised is uniform on the sphere; LlamaGen's uniform cube favours its corners.
        self.codebook = nn.Parameter(F.normalize(torch.randn(config.codebook_size, config.code_dim), dim=-1))
        self.register_buffer("steps_unused", torch.zeros(config.codebook_size, dtype=torch.int64))
        self._seen: list[
            tuple[Tensor, Tensor]
        ] = []  # codes (b * n,) and latents (b * n, d) of the step's micro-batches

    def squeeze(self, features: Tensor) -> BottleneckResult:
        latents = F.normalize(features, dim=-1)
        indices = nearest(latents.detach().flatten(0, 1), self.codes()).view(features.shape[:2])
        # Taken before it is normalised: autograd then keeps nothing of the codebook, and codes may be revived in place.
        codes = F.normalize(F.embedding(indices, self.codebook), dim=-1)
        if self.training and self.revive_after:
            self._seen.append((indices.flatten(), latents.detach().flatten(0, 1)))
        losses = {
            "codebook": self.codebook_weight * F.mse_loss(codes, latents.detach()),
            "commitment": self.commitment * F.mse_loss(latents, codes.detach()),
        }
        if self.training and self.entropy_weight > 0:
            book = F.normalize(self.codebook.clone(), dim=-1)  # a copy, as codes may be revived in place
            loss = entropy_loss(latents.flatten(0, 1), book, self.entropy_temperature)
            losses["entropy"] = self.entropy_weight * loss
        return BottleneckResult(straight_through(codes, latents), indices=indices, losses=losses)

    def codes(self) -> Tensor:
        """The codes as they are compared and decoded, on the unit sphere; (k, d), without gradient."""
        return F.normalize(self.codebook.detach(), dim=-1)

    def latents_of(self, indices: Tensor) -> Tensor:
        return F.normalize(F.embedding(indices, self.codebook), dim=-1)

    @torch.no_grad()
    def finish_step(self) -> None:
        """Revive the codes that are dead after this step, whose micro-batches have all been seen."""
        if not self._seen:
            return
        indices, latents = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        used = torch.zeros(len(self.codebook), dtype=torch.int32, device=indices.device)
        used[indices] = 1
        # Drawn for every code, dead or not: no wait for the device to learn how many are dead.
        candidates = self._candidates(latents)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(used, dist.ReduceOp.MAX)
        self.steps_unused += 1
        self.steps_unused.masked_fill_(used > 0, 0)
        dead = self.steps_unused >= self.revive_after
        self.codebook.copy_(torch.where(dead[:, None], candidates, self.codebook))
        self.steps_unused.masked_fill_(dead, 0)

    def _candidates(self, latents: Tensor) -> Tensor:
        """A random latent of the global batch for each code (k, d), given this rank's share of it (b * n, d).

        The place in the global batch is what is drawn: with any number of ranks it is the same latent.
        """
        ranks, rank = 1, 0
        if dist.is_available() and dist.is_initialized():
            ranks, rank = dist.get_world_size(), dist.get_rank()
        draws = self.draws or Draws(int(torch.randint(2**62, ())))
        places = draws.integers("revival", ranks * len(latents), len(self.codebook), latents.device)
        places -= rank * len(latents)
        here = (places >= 0) & (places < len(latents))
        candidates = latents[places.clamp(0, len(latents) - 1)] * here[:, None]
        if ranks > 1:  # each is a latent on one rank and zeros on the others: the sum is exact
            dist.all_reduce(candidates)
        return candidates


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Index of the code nearest by angle, for unit vectors (b * n, d) and (k, d); of equals the first.

    The similarities are never held whole: they are taken for some latents at a time.
    """
    rows = max(1, _CHUNK // len(codes))
    return torch.cat([(chunk @ codes.T).argmax(dim=-1) for chunk in torch.split(latents, rows)])

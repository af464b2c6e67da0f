"""VQ bottleneck: each latent is replaced by the nearest of K learned codes on the unit sphere."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.bottlenecks.base import Bottleneck, BottleneckResult, straight_through
from tokscale.config import VQBottleneck

_CHUNK = 2**22  # similarities held at once (16 MB): the whole matrix of a batch has (b n) x k, gigabytes at 64k codes


class VQ(Bottleneck):
    """Vector quantisation (van den Oord et al. 2017, arXiv 1711.00937) of l2-normalised latents (Yu et al. 2022).

    The codebook loss moves codes to latents, the commitment loss latents to codes; both are means over all elements of
    the normalised vectors, as in LlamaGen. A code that no rank has used for ``revive_after`` training steps is set to a
    random latent of rank 0's batch, on all ranks alike.
    """

    steps_unused: Tensor

    def __init__(self, config: VQBottleneck) -> None:
        super().__init__(config.code_dim, config.code_dim, config.codebook_size)
        self.commitment = config.commitment
        self.codebook_weight = config.codebook_weight
        self.revive_after = config.revive_after
        # Normal and then normalised is uniform on the sphere; LlamaGen's uniform cube favours its corners.
        self.codebook = nn.Parameter(F.normalize(torch.randn(config.codebook_size, config.code_dim), dim=-1))
        self.register_buffer("steps_unused", torch.zeros(config.codebook_size, dtype=torch.int64))

    def squeeze(self, features: Tensor) -> BottleneckResult:
        latents = F.normalize(features, dim=-1)
        indices = nearest(latents.detach().flatten(0, 1), self.codes()).view(features.shape[:2])
        # Taken before it is normalised: autograd then keeps nothing of the codebook, and codes may be revived in place.
        codes = F.normalize(F.embedding(indices, self.codebook), dim=-1)
        if self.training and self.revive_after:
            self._revive(indices, latents.detach())
        return BottleneckResult(
            straight_through(codes, latents),
            indices=indices,
            losses={
                "codebook": self.codebook_weight * F.mse_loss(codes, latents.detach()),
                "commitment": self.commitment * F.mse_loss(latents, codes.detach()),
            },
            statistics=self.code_statistics(indices),
        )

    def codes(self) -> Tensor:
        """The codes as they are compared and decoded, on the unit sphere; (k, d), without gradient."""
        return F.normalize(self.codebook.detach(), dim=-1)

    def latents_of(self, indices: Tensor) -> Tensor:
        return F.normalize(F.embedding(indices, self.codebook), dim=-1)

    @torch.no_grad()
    def _revive(self, indices: Tensor, latents: Tensor) -> None:
        self.steps_unused += 1
        self.steps_unused[indices.flatten()] = 0
        candidates = latents.flatten(0, 1)
        # Drawn for every code, dead or not: no wait for the device to learn how many are dead, and the same number of
        # random numbers in every step.
        candidates = candidates[torch.randint(len(candidates), (len(self.codebook),), device=latents.device)]
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.steps_unused, dist.ReduceOp.MIN)
            dist.broadcast(candidates, src=0)
        dead = self.steps_unused >= self.revive_after
        self.codebook.copy_(torch.where(dead[:, None], candidates, self.codebook))
        self.steps_unused.masked_fill_(dead, 0)


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Index of the code nearest by angle, for unit vectors (b * n, d) and (k, d); of equals the first.

    The similarities are never held whole: they are taken for some latents at a time.
    """
    rows = max(1, _CHUNK // len(codes))
    return torch.cat([(chunk @ codes.T).argmax(dim=-1) for chunk in torch.split(latents, rows)])

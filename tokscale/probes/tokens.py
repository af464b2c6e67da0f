"""The two kinds of tokens a probe can model: codes, and points of R^d.

Each kind knows how to enter the transformer (``embed``) and what a hidden state says of the next token (``nll``). Both
likelihoods are taken in float32, whatever autocast does to the transformer.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokscale.memory import LOGITS_AT_ONCE
from tokscale.probes.layers import embedding, linear
from tokscale.probes.mixture import Mixture, initial_numbers, mixture_from, mixture_size


class CodeTokens(nn.Module):
    """Codes 0..k-1. The head starts at zero: the first loss is log k exactly."""

    def __init__(self, codebook_size: int, width: int):
        super().__init__()
        self.codebook_size = codebook_size
        self.embedding = embedding(codebook_size, width)
        self.head = linear(width, codebook_size, std=0.0)

    def embed(self, tokens: Tensor) -> Tensor:
        """Codes (b, n) int64 -> (b, n, e)."""
        return cast(Tensor, self.embedding(tokens))

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities (..., k) of the next code, float32."""
        return cast(Tensor, self.head(hidden).float())

    def nll(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Nats (b,) of the codes (b, n) given the states (b, n, e) before them, summed over tokens."""
        rows = max(1, LOGITS_AT_ONCE // (tokens.shape[1] * self.codebook_size))
        if len(tokens) <= rows:
            return self._nll(hidden, tokens)
        pieces = zip(torch.split(hidden, rows), torch.split(tokens, rows), strict=True)
        return torch.cat([cast(Tensor, checkpoint(self._nll, *piece, use_reentrant=False)) for piece in pieces])

    def _nll(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        logits = self.logits(hidden).flatten(0, 1)
        return F.cross_entropy(logits, tokens.flatten(), reduction="none").view_as(tokens).sum(1)


class LatentTokens(nn.Module):
    """Points of R^d, normalised per channel on the way in; the head describes a mixture of diagonal Gaussians.

    The head's weights start at zero and its biases near the standard normal, so that the first loss is about that of
    independent normal channels. ``mean`` and ``std`` (d,) are those of the training latents and part of the state.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, width: int, mixtures: int):
        super().__init__()
        self.dim, self.mixtures = dim, mixtures
        self.input = linear(dim, width, bias=True)
        self.head = linear(width, mixture_size(mixtures, dim), std=0.0, bias=True)
        with torch.no_grad():
            self.head.bias.copy_(initial_numbers(mixtures, dim))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def normalise(self, tokens: Tensor) -> Tensor:
        """Raw latents (..., d) -> zero mean and unit spread per channel."""
        return (tokens.float() - self.mean) / self.std

    def embed(self, tokens: Tensor) -> Tensor:
        """Raw latents (b, n, d) -> (b, n, e)."""
        return cast(Tensor, self.input(self.normalise(tokens)))

    def mixture(self, hidden: Tensor) -> Mixture:
        """Density of the next token in normalised units, from states (..., e); float32 from the head's product on.

        bfloat16 would round a mean to 0.4 %, which is four times the finest scale.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            return mixture_from(self.head(hidden.float()), self.mixtures, self.dim)

    def nll(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Nats (b,) of raw latents (b, n, d) given the states (b, n, e) before them, summed over tokens.

        The density of z = mean + std u is that of u divided by the product of std: hence the sum of log std.
        """
        log_prob = self.mixture(hidden).log_prob(self.normalise(tokens)) - self.std.log().sum()
        return -log_prob.sum(1)

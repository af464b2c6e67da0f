"""The autoregressive probe: a small GPT over an image's tokens in the manner of LlamaGen (Sun et al. 2024).

How well a fixed, small model predicts a tokenizer's tokens says how hard they are to generate (GigaTok, Xiong et al.
2025, calls it AR probing). Against LlamaGen: the class token turns at a place of its own; the maps that write to the
residual stream start smaller by sqrt(2 depth) (GPT-2); continuous tokens have a density where codes have a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from tokscale import presets
from tokscale.bottlenecks.draws import Draws
from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.probes.layers import INIT_STD, NORM_EPS, Block, Cache, embedding, grid_rotations
from tokscale.probes.tokens import CodeTokens, LatentTokens


class AutoregressiveProbe(nn.Module):
    """p(z | class) = prod_i p(z_i | class, z_1..z_i-1): the sequence [class, z_1..z_n-1] predicts z_1..z_n.

    Tokens are codes (b, n) int64 or raw latents (b, n, d); labels (b,) are 0..num_classes-1, and ``null_label`` is the
    unconditional model, trained on the share ``class_dropout`` of images.
    """

    rotations: Tensor | None
    draws: Draws | None = None
    """where the dropped classes of a training step come from; None: torch's global generator"""

    def __init__(self, config: ProbeConfig, latents: LatentSpec, num_classes: int):
        super().__init__()
        size = config.size
        self.width, self.heads = size.width, size.heads
        self.spec, self.null_label, self.class_dropout = latents, num_classes, config.class_dropout
        self.class_embedding = embedding(num_classes + 1, size.width)
        self.tokens: CodeTokens | LatentTokens
        if latents.codebook_size is not None:
            self.tokens = CodeTokens(latents.codebook_size, size.width)
        else:
            self.tokens = LatentTokens(latents.dim, size.width, config.mixtures)
        self.dropout = nn.Dropout(config.dropout)
        hidden, residual_std = presets.gpt_mlp_width(size.width), INIT_STD / math.sqrt(2 * size.depth)
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, hidden, dropout=config.dropout, residual_std=residual_std)
            for _ in range(size.depth)
        )
        self.norm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.positions = embedding(latents.tokens, size.width) if config.positions == "learned" else None
        turned = grid_rotations(latents.grid, size.width // size.heads) if self.positions is None else None
        self.register_buffer("rotations", turned, persistent=False)

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Take mean and spread (d,) of the training latents; the density stays one of the raw latents."""
        assert isinstance(self.tokens, LatentTokens), "codes have no scale"
        assert bool((std > 0).all()), "a channel without spread has no density"
        self.tokens.mean.copy_(mean)
        self.tokens.std.copy_(std)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """The same as ``nll``."""
        return self.nll(tokens, labels)

    def nll(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """-log p(z | class) in nats per image (b,), float32; in training mode some classes are dropped."""
        if self.training and self.class_dropout > 0:
            if self.draws is None:
                chances = torch.rand(labels.shape, device=labels.device)
            else:
                chances = self.draws.uniform("class dropout", labels.shape, labels.device)
            labels = labels.masked_fill(chances < self.class_dropout, self.null_label)
        return self.tokens.nll(self.states(tokens[:, :-1], labels), tokens)

    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Mean of the batch in nats per token: the training loss, and the ``ar_loss`` of validation."""
        return self.nll(tokens, labels).mean() / self.spec.tokens

    def states(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """Final states (b, t + 1, e) after the class and each token of a prefix (b, t) or (b, t, d)."""
        return self._run(self._inputs(prefix, labels), 0, None)

    def middle_features(self, tokens: Tensor) -> Tensor:
        """Mean (b, e) over the n positions of the output of block depth // 2, counted from 1, without a class.

        What GigaTok's linear probing reads of tokens (b, n) or (b, n, d); the last of them is predicted, never read.
        """
        labels = torch.full((len(tokens),), self.null_label, device=tokens.device)
        middle = max(1, len(self.blocks) // 2)
        x, rotations = self._placed(self._inputs(tokens[:, :-1], labels), 0)
        for block in self.blocks[:middle]:
            x = block(x, rotations)
        return x.float().mean(1)

    def _inputs(self, prefix: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([self.class_embedding(labels)[:, None], self.tokens.embed(prefix)], dim=1)

    def next_state(self, prefix: Tensor, labels: Tensor, caches: list[Cache]) -> Tensor:
        """Final state (b, e) after a prefix (b, t, ...), whose first t - 1 tokens and class ``caches`` already hold."""
        filled = caches[0].filled
        assert filled == prefix.shape[1], "the caches hold another prefix"
        x = self.tokens.embed(prefix[:, -1:]) if filled else self.class_embedding(labels)[:, None]
        return self._run(x, filled, caches)[:, 0]

    def new_caches(self) -> list[Cache]:
        """Empty caches, one for each block, for one pass of ``next_state`` over an image."""
        return [Cache(self.spec.tokens) for _ in self.blocks]

    def _run(self, x: Tensor, start: int, caches: list[Cache] | None) -> Tensor:
        x, rotations = self._placed(x, start)
        for index, block in enumerate(self.blocks):
            x = block(x, rotations, None if caches is None else caches[index])
        return cast(Tensor, self.norm(x))

    def _placed(self, x: Tensor, start: int) -> tuple[Tensor, Tensor | None]:
        """Inputs (b, t, e) that know their places, from ``start`` on, or the rotations that tell attention."""
        end = start + x.shape[1]
        if self.positions is not None:
            return self.dropout(x + self.positions.weight[start:end]), None
        assert self.rotations is not None
        return self.dropout(x), self.rotations[:, start:end]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.class_embedding.weight.device


def build_probe(config: ProbeConfig, latents: LatentSpec, num_classes: int) -> AutoregressiveProbe:
    """The probe of a config for these latents, its weights drawn from torch's global generator."""
    return AutoregressiveProbe(config, latents, num_classes)


@contextmanager
def measuring(probe: nn.Module) -> Iterator[None]:
    """Without gradients and dropout; the mode before is restored."""
    was_training = probe.training
    probe.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        probe.train(was_training)

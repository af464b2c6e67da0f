"""Random tail masking: the first tokens of a latent, at a length that is drawn or chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokscale.bottlenecks import BottleneckResult
from tokscale.bottlenecks.draws import Draws


@dataclass
class Tail:
    """Which of a latent's tokens are kept: of ``lengths`` in training, ``kept`` of them when measured (None: all)."""

    lengths: tuple[int, ...]
    kept: int | None = None

    def drawn(self, latents: Tensor, draws: Draws | None) -> Tensor:
        """Latents (b, n, d) with zeros behind the first l tokens, l drawn for each image: all lengths are as likely."""
        count, device = len(latents), latents.device
        places = torch.rand(count, device=device) if draws is None else draws.uniform("tail", (count,), device)
        lengths = torch.tensor(self.lengths, device=device)
        chosen = lengths[(places * len(self.lengths)).long().clamp(max=len(self.lengths) - 1)]
        seen = torch.arange(latents.shape[1], device=device) < chosen[:, None]
        return torch.where(seen[..., None], latents, 0.0)

    def cut(self, result: BottleneckResult) -> BottleneckResult:
        """What is measured of a result: the first tokens alone."""
        if self.kept is None:
            return result
        first = slice(None), slice(self.kept)
        indices, mean, logvar = (
            None if part is None else part[first] for part in (result.indices, result.mean, result.logvar)
        )
        return replace(result, latents=result.latents[first], indices=indices, mean=mean, logvar=logvar)


def filled(latents: Tensor, tokens: int) -> Tensor:
    """Latents (b, l, d) with zeros behind them, up to so many tokens."""
    missing = tokens - latents.shape[1]
    return torch.nn.functional.pad(latents, (0, 0, 0, missing)) if missing > 0 else latents

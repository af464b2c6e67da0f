"""What a probe sees of a tokenizer: images as its tokens, and what those are."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from tokscale.data import to_model_range
from tokscale.data.latents import Batch, LatentSpec
from tokscale.models.tokenizer import Tokenizer


def spec_of(tokenizer: Tokenizer) -> LatentSpec:
    """What one image is to a probe of this tokenizer."""
    bottleneck = tokenizer.bottleneck
    kind: Literal["continuous", "discrete"] = "continuous" if bottleneck.codebook_size is None else "discrete"
    return LatentSpec(kind, tokenizer.grid, tokenizer.num_latent_tokens, bottleneck.latent_dim,
                      bottleneck.codebook_size)  # fmt: skip


def encode(tokenizer: Tokenizer, images: Tensor) -> Batch:
    """uint8 images (b, 3, h, w) to ``indices`` (b, n), or to ``mean`` and ``logvar`` (b, n, d) of their posteriors."""
    result = tokenizer.encode(to_model_range(images))
    if result.indices is not None:
        return {"indices": result.indices}
    assert result.mean is not None
    assert result.logvar is not None
    return {"mean": result.mean, "logvar": result.logvar}

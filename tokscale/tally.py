"""What layers take: their parameters, the FLOPs of one image's forward pass, and what they keep of it.

Everything here is counted for one image. FLOPs are two per multiply-accumulate, in matrix products, convolutions and
attention alone; what is kept are the floats that the backward pass needs again: inputs of layers and of functions that
are not linear. In bf16 norms work in float32, as CUDA's autocast has it (the processor's has them in bf16): what goes
into them is kept in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """Parameters, FLOPs of one image's forward pass, and floats kept of it for the backward pass.

    ``kept`` are those in the precision of training, ``whole`` those in float32 always.
    """

    params: int = 0
    flops: int = 0
    kept: int = 0
    whole: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.params + other.params, self.flops + other.flops, self.kept + other.kept, self.whole + other.whole
        )

    def __mul__(self, times: int) -> Tally:
        return Tally(self.params * times, self.flops * times, self.kept * times, self.whole * times)

    def kept_bytes(self, size: int) -> int:
        """Bytes kept in training with floats of so many bytes."""
        return size * self.kept + 4 * self.whole


def total(parts: Iterable[Tally]) -> Tally:
    """The sum of parts that one image goes through, one after the other."""
    return sum(parts, Tally())


def linear(inputs: int, outputs: int, tokens: int) -> Tally:
    """A linear layer with bias on each of some tokens."""
    return Tally((inputs + 1) * outputs, 2 * tokens * inputs * outputs, tokens * inputs)


def convolution(
    inputs: int, outputs: int, side: int, *, kernel: int = 3, stride: int = 1, out_side: int | None = None,
    bias: bool = True,
) -> Tally:  # fmt: skip
    """A square convolution on a map of ``side`` x ``side``; ``out_side`` where padding does not make it side/stride."""
    weights, cells = kernel * kernel * inputs * outputs, (out_side or side // stride) ** 2
    return Tally(weights + outputs * bias, 2 * cells * weights, inputs * side * side)


def norm(channels: int, positions: int, *, affine: bool = True) -> Tally:
    """A layer, group or batch norm over some positions (tokens, or cells of a map)."""
    return Tally(2 * channels * affine, whole=channels * positions)


def activation(channels: int, positions: int, *, whole: bool = False) -> Tally:
    """A function of each number, such as SiLU or GELU; ``whole`` behind a norm."""
    floats = channels * positions
    return Tally(whole=floats) if whole else Tally(kept=floats)


def attention(width: int, tokens: int, memory: int | None = None) -> Tally:
    """Attention of tokens to themselves, or to ``memory`` tokens: four projections with biases and the two products.

    What is kept are the input, queries, keys, values, and what is mixed of them; not the scores, which fused attention
    makes again, nor the memory, which is somebody else's.
    """
    seen = tokens if memory is None else memory
    projections = total(linear(width, width, count) for count in (tokens, seen, seen, tokens))
    products = 4 * tokens * seen * width
    return Tally(projections.params, projections.flops + products, (3 * tokens + 2 * seen) * width)


def mlp(width: int, hidden: int, tokens: int) -> Tally:
    """Two linear layers with a GELU between."""
    return total([linear(width, hidden, tokens), activation(hidden, tokens), linear(hidden, width, tokens)])

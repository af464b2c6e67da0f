"""FLOPs of what runs, and numbers that are read off tensors, counted without changing a bit of what comes out.

Torch's ``FlopCounterMode`` takes operations apart that it has no formula for, and their sums are then rounded in
another order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_ATEN: Any = torch.ops.aten


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts from when it is made until it is told to be off.

    FLOPs are two per multiply-accumulate, in matrix products, convolutions and attention, whose backward pass counts
    twice its forward pass, as in the formulas of costs. ``reads`` are numbers that the processor asks of a tensor:
    where that is on a device, it waits for all that was asked of the device before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops, self.reads = 0, 0
        self.__enter__()  # type: ignore[no-untyped-call]

    def off(self) -> None:
        """Count no further."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func._overloadpacket
        self.reads += operation is _ATEN._local_scalar_dense
        if operation in _OURS:
            self.flops += _OURS[operation](out, *args)
        elif operation in flop_registry:
            self.flops += int(flop_registry[operation](*args, **(kwargs or {}), out_val=out))
        return out


def _product(out: Any, left: Any, *_: Any) -> int:
    """A matrix product (..., n, k) x (..., k, m), or a linear layer."""
    return int(2 * math.prod(out.shape) * left.shape[-1])


def _convolution(out: Any, _: Any, weight: Any, *__: Any) -> int:
    """A convolution whose weights (o, i, ...) meet at every place of its output."""
    return int(2 * math.prod(out.shape) * math.prod(weight.shape[1:]))


def _attention(_: Any, query: Any, key: Any, value: Any, *__: Any) -> int:
    """Scores of (b, h, n, d) against (b, h, m, d), and the sum of values that they weigh."""
    batch, heads, tokens, width = query.shape
    return int(2 * batch * heads * tokens * key.shape[2] * (width + value.shape[3]))


def _attention_backward(out: Any, _: Any, query: Any, key: Any, value: Any, *__: Any) -> int:
    return 2 * _attention(out, query, key, value)


# What torch has no formula for, or another one. Without gradients, composite operations arrive whole.
_FORWARD = ("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
_BACKWARD = (
    "_scaled_dot_product_flash_attention_for_cpu_backward", "_scaled_dot_product_flash_attention_backward",
    "_scaled_dot_product_efficient_attention_backward", "_scaled_dot_product_cudnn_attention_backward",
)  # fmt: skip
_OURS: dict[Any, Callable[..., int]] = {
    **{getattr(_ATEN, name): _attention for name in _FORWARD},
    **{getattr(_ATEN, name): _attention_backward for name in _BACKWARD},
    _ATEN.linear: _product,
    _ATEN.matmul: _product,
    _ATEN.conv2d: _convolution,
}

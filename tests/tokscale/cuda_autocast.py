"""CUDA's autocast on a processor: what it has in float32, and the processor's own has in bf16, is in float32 here."""

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# of https://docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast to float32", those that are used here
_NAMES = ("layer_norm", "group_norm", "softmax", "log_softmax", "pow", "sum", "exp", "log", "norm", "cumsum", "prod",
          "rsqrt", "reciprocal", "mse_loss", "l1_loss", "softplus", "cross_entropy", "normalize")  # fmt: skip
_IN_FLOAT32 = {getattr(home, name) for home in (F, torch, torch.Tensor) for name in _NAMES if hasattr(home, name)}


class AutocastOfCuda(TorchFunctionMode):
    """Inside ``torch.autocast("cpu")``: the same precisions as with ``torch.autocast("cuda")``."""

    def __torch_function__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation in _IN_FLOAT32 and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map(_whole, (args, kwargs))
        return operation(*args, **kwargs)


def _whole(value):
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value

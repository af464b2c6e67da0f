"""Transformer blocks as compiled code: fewer passes over memory, for trainings that are long enough to pay for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tokscale.errors import ConfigError
from tokscale.stage import COMPILE_VARIABLE
from tokscale.training.optimization import transformer_blocks


def compile_blocks(module: nn.Module, device: torch.device, backend: str = "inductor") -> int:
    """Compile all transformer blocks of a module in place, each for the sizes that it meets; how many there are.

    Names of weights stay, and results up to rounding. Blocks of one kind and size share their code, and torch keeps it
    on disk (``TORCHINDUCTOR_CACHE_DIR``), so that on each machine a size is compiled once, whatever trial it is of.
    Raises ``ConfigError`` where the device's code generator is missing.
    """
    _check(device)
    # What a worker's earlier trainings compiled counts against the number of sizes that torch compiles for.
    torch._dynamo.reset()
    blocks = transformer_blocks(module)
    for block in blocks:
        block.compile(backend=backend, dynamic=False)
    return len(blocks)


def compiler(device: torch.device, backend: str = "inductor") -> Callable[[Callable[[Tensor], Tensor]], Any]:
    """What has torch compile a function of one size; raises ``ConfigError`` where the code generator is missing."""
    _check(device)
    return partial(torch.compile, backend=backend, dynamic=False, fullgraph=True)


def _check(device: torch.device) -> None:
    where = f"--compile, or {COMPILE_VARIABLE}"
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ConfigError("blocks cannot be compiled", where=where, given="no triton in this environment",
                              allowed="pip install triton, or a run without it")  # fmt: skip
        return
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise ConfigError("blocks cannot be compiled", where=where, given=f"no C++ compiler {compiler}",
                          allowed="one that is installed, named by CXX, or a run without it")  # fmt: skip

"""A look at the GPU before hours of work are given to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from tokscale.errors import NodeError

_SIZE = 512
_DRIVER = Path("/proc/driver/nvidia")


def check_device(device: torch.device, environment: Mapping[str, str] = os.environ) -> None:
    """Raise ``NodeError`` when the GPU that this job was given cannot be used or cannot multiply.

    A product of whole numbers is exact in any order of summation: the GPU must give what the processor gives. Without
    CUDA there is nothing to check, except that a driver is there and a GPU was asked for.
    """
    if device.type != "cuda":
        given = environment.get("SLURM_JOB_GPUS") or environment.get("SLURM_STEP_GPUS")
        # Where there is no driver at all, the "GPUs" are a test cluster's.
        if given and torch.version.cuda is not None and _DRIVER.exists():
            raise NodeError("the GPU that this job was given cannot be used", given=f"GPU {given}, CUDA unavailable",
                            allowed="a working GPU")  # fmt: skip
        return
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-8, 9, (_SIZE, _SIZE), generator=generator).float() for _ in range(2))
    if not torch.equal((left.to(device) @ right.to(device)).cpu(), left @ right):
        raise NodeError("the GPU multiplies wrongly", given=torch.cuda.get_device_name(device), allowed="a sound GPU")

"""What an exception means for the stage: its class, whether the work may be begun again, and what a person can do."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from tokscale.errors import MemoryRunOutError, NodeError, StoppedError, StoreError, TokscaleError, WorkError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
_MEMORY = re.compile(r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED|Cannot allocate memory", re.I)
# Not "unspecified launch failure" or "illegal memory access": those are errors of code.
_DEVICE = re.compile(
    r"ECC error|no CUDA-capable device|busy or unavailable|GPU is lost|fallen off the bus|CUDA driver initialization"
    r"|CUDA-capable device\(s\)|NVLink error|system not yet initialized|hardware stack error",
    re.I,
)
_LOADER = re.compile(r"DataLoader worker .*killed by signal: ([\w ]+)")
_STOPS = ("Terminated", "User defined signal 1", "User defined signal 2", "Interrupt", "Hangup")
_KILLS = ("Killed", "Bus error")  # by the kernel, for its memory; without room in shared memory
_LOST_RANK = re.compile(r"Connection (closed by peer|reset by peer|was likely closed)|Broken pipe|gloo|NCCL", re.I)


def recognised(error: BaseException, at_once: int | None) -> BaseException:
    """The error of our own that an exception amounts to; itself when it is one, or when it is nobody's but the code's.

    ``at_once`` is how many images passed at once when it happened.
    """
    if isinstance(error, TokscaleError) or not isinstance(error, Exception):
        return error
    words = f"{type(error).__name__}: {error}"
    loader = _LOADER.search(words)
    ended_by = loader[1].strip() if loader else ""
    if ended_by in _STOPS:
        # SLURM signals all processes of a step; this one was faster than the end of our step.
        return StoppedError(f"stopped: a process of the data loader was ended by a signal ({ended_by})",
                            allowed="run the sweep again to go on from the last checkpoint")  # fmt: skip
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _MEMORY.search(words) or ended_by in _KILLS:
        return out_of_memory(_first_line(words), at_once)
    if _DEVICE.search(words):
        return NodeError("the GPU failed", given=_first_line(words), allowed="another node, or a repaired GPU")
    if (isinstance(error, OSError) and error.errno in _DISK) or "No space left on device" in words:
        return StoreError("the disk refuses", given=_first_line(words),
                          allowed="a runs folder with free space and write permission")  # fmt: skip
    return error


def out_of_memory(given: str, at_once: int | None) -> MemoryRunOutError:
    """The error of a pass of so many images that did not fit; it may be tried again while there is a half."""
    if at_once is None or at_once > 1:
        passed = "" if at_once is None else f" with {at_once} images at once on each rank"
        error = MemoryRunOutError(f"out of memory{passed}", given=given,
                                  allowed="half as many at once: the next attempt takes them")  # fmt: skip
    else:
        error = MemoryRunOutError(
            "out of memory with a single image at once", given=given,
            allowed="a smaller tokenizer or probe, precision bf16, a GPU with more memory, or more memory per job",
        )  # fmt: skip
        error.again = False
    return error


def is_lost_rank(error: BaseException) -> bool:
    """Whether a collective failed because another rank is gone."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and _LOST_RANK.search(str(error)) is not None


def of_another_rank(error: BaseException, failure: Mapping[str, Any] | None) -> TokscaleError:
    """What rank 0 raises when another rank is gone: what that one told, or that it vanished."""
    if failure is not None:
        return OtherRankError(failure)
    return NodeError("another rank of this stage vanished", given=_first_line(str(error)),
                     allowed="all ranks to the end: look at the other ranks' logs")  # fmt: skip


class OtherRankError(WorkError):
    """A failure on another rank, in that rank's words: cause, and whether the work may be begun again."""

    def __init__(self, failure: Mapping[str, Any]) -> None:
        super().__init__(f"rank {failure['rank']} on {failure['host']} failed: {failure['message']}")
        self.cause, self.again = str(failure.get("cause", "")), bool(failure["again"])


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:500]

"""Exceptions, as torch and the system word them, and what they are taken for."""

import errno
import json
import pickle

import pytest
import torch

import tokscale
from tokscale.errors import DataError, MemoryRunOutError, NodeError, StoppedError, StoreError
from tokscale.stages import device_check, provenance
from tokscale.stages.device_check import check_device
from tokscale.stages.failures import is_lost_rank, of_another_rank, recognised

CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4398046511104 bytes. Error code 12 (Cannot allocate memory)"
)
WORKER = "DataLoader worker (pid 41) is killed by signal: {}. "
FAILURES = [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), MemoryRunOutError, True),
    (MemoryError(), MemoryRunOutError, True),
    (RuntimeError(CPU_ALLOCATOR), MemoryRunOutError, True),
    (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryRunOutError,
        True,
    ),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryRunOutError, True),
    (RuntimeError(WORKER.format("Killed")), MemoryRunOutError, True),
    (RuntimeError(WORKER.format("Terminated")), StoppedError, True),
    (RuntimeError(WORKER.format("User defined signal 2")), StoppedError, True),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), NodeError, True),
    (RuntimeError("CUDA error: no CUDA-capable device is detected"), NodeError, True),
    (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), NodeError, True),
    (OSError(errno.ENOSPC, "No space left on device"), StoreError, False),
    (OSError(errno.EROFS, "Read-only file system"), StoreError, False),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), StoreError, False),
]


@pytest.mark.parametrize(("error", "kind", "again"), FAILURES, ids=lambda value: str(value)[:40])
def test_a_failure_is_taken_for_what_it_is(error, kind, again):
    found = recognised(error, 8)
    assert type(found) is kind
    assert found.again is again
    assert found.cause or kind is StoppedError


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: an illegal memory access was encountered"), KeyError("x"), FileNotFoundError("x"),
     RuntimeError("CUDA error: unspecified launch failure"), RuntimeError(WORKER.format("Segmentation fault")),
     DataError("no images"), KeyboardInterrupt()],
)  # fmt: skip
def test_anything_else_stays_what_it_was(error):
    assert recognised(error, 8) is error


def test_real_allocations_that_cannot_be_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**48)  # more than there are addresses
    assert isinstance(recognised(caught.value, 2), MemoryRunOutError)


def test_a_lost_rank_is_told_from_an_error_of_code():
    assert is_lost_rank(RuntimeError("[pair.cc:534] Connection closed by peer [127.0.1.1]:5644"))
    assert not is_lost_rank(RuntimeError("shapes cannot be multiplied"))
    assert isinstance(of_another_rank(RuntimeError("x"), None), NodeError)
    told = {"rank": 3, "host": "n2", "message": "CUDA out of memory", "cause": "out of memory", "again": True}
    error = of_another_rank(RuntimeError("x"), told)
    assert (error.cause, error.again) == ("out of memory", True)
    assert "rank 3 on n2" in str(error)


def test_whether_to_try_again_survives_a_trip_between_processes():
    error = recognised(MemoryError(), 1)
    assert pickle.loads(pickle.dumps(error)).again is error.again is False


def test_a_processor_needs_no_check_and_a_gpu_that_was_given_must_be_there(monkeypatch, tmp_path):
    check_device(torch.device("cpu"), {})
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    given = {"SLURM_JOB_GPUS": "0"}
    monkeypatch.setattr(device_check, "_DRIVER", tmp_path / "absent")
    check_device(torch.device("cpu"), given)  # no driver: the GPUs of a test cluster
    monkeypatch.setattr(device_check, "_DRIVER", tmp_path)
    with pytest.raises(NodeError, match="cannot be used"):
        check_device(torch.device("cpu"), given)


@pytest.mark.parametrize(
    ("described", "commit"),
    [({"commit": "abc", "dirty": True}, "abc-dirty"), ({"git": {"commit": "abc", "dirty": False}}, "abc"),
     ({"git": None}, None), (None, None)],
)  # fmt: skip
def test_a_snapshot_knows_the_commit_that_it_was_taken_of(monkeypatch, tmp_path, described, commit):
    monkeypatch.setattr(tokscale, "__file__", str(tmp_path / "tokscale" / "__init__.py"))
    if described is not None:
        (tmp_path / "snapshot.json").write_text(json.dumps(described))
    assert provenance.git_commit.__wrapped__() == commit

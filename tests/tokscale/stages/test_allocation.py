"""Memory that a stage frees: pages come from the system once, and all of them go back at its end."""

import resource
from pathlib import Path

import pytest
import torch

from tokscale.stages.allocation import _glibc, freed_memory_kept

pytestmark = pytest.mark.skipif(_glibc() is None, reason="another C library than glibc")
MEBIBYTE = 1 << 20


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def faults_of(call):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_pages_are_taken_once_and_go_back():
    def work(blocks):
        return [torch.ones(48 * MEBIBYTE // 4) for _ in range(blocks)] and None

    with freed_memory_kept():
        work(4)  # more than below: something small may come to lie between them
        held = resident()
        assert faults_of(lambda: work(3)) < 100, "144 MiB are 36,864 pages, or 72 large ones"
    assert resident() < held - 100 * MEBIBYTE

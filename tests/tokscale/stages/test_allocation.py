"""Memory that a stage frees: pages come from the system once, and all of them go back at its end."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from tokscale.stages import allocation
from tokscale.stages.allocation import freed_memory_kept

MEBIBYTE = 1 << 20

# In a process of its own: what other tests left on the heap may lie where a large block would have room.
WORK = """
import json, resource
import torch
from tokscale.stages.allocation import freed_memory_kept

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work(blocks):
    return [torch.ones(12 << 20) for _ in range(blocks)] and None  # of 48 MiB

with freed_memory_kept():
    work(4)  # more than below: something small may come to lie between them
    held, before = resident(), faults()
    work(3)
    again = faults() - before
print(json.dumps([again, held - resident()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library returns memory in its own way")
def test_pages_are_taken_once_and_go_back():
    said = subprocess.run([sys.executable, "-c", WORK], check=True, capture_output=True, text=True, timeout=120).stdout
    faults, returned = json.loads(said)
    assert faults < 100, "144 MiB are 36,864 pages, or 72 large ones"
    assert returned > 100 * MEBIBYTE


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda _: object())  # it has none of glibc's functions
    with freed_memory_kept():
        assert torch.ones(3).sum() == 3

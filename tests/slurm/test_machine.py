"""Limits of the machine, read from file trees as the kernel lays them out."""

import os
import socket
from pathlib import Path

import pytest

from slurm import default_workers
from slurm.machine import cores, memory_gb, process_space, visible_gpus

GB = 2**30
V1_NO_LIMIT = 9223372036854771712


@pytest.fixture
def kernel(tmp_path):
    """Write the kernel's files below a root of our own."""

    def write(**files):
        for name, text in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {64 * GB // 1024} kB\n", **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(str(text))
        return tmp_path

    return write


def test_a_machine_without_limits(kernel):
    root = kernel()
    assert memory_gb(root) == 64
    assert cores(root) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "gigabytes"),
    [
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/step/memory.max": 8 * GB}, 8),
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/memory.max": 4 * GB,
          "sys/fs/cgroup/job/step/memory.max": "max"}, 4),
        ({"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/memory.max": 2 * GB}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": 128 * GB}, 64),
        ({"proc/self/cgroup": "4:memory:/slurm/job_1\n3:cpu,cpuacct:/\n0::/\n",
          "sys/fs/cgroup/memory/slurm/job_1/memory.limit_in_bytes": 3 * GB,
          "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NO_LIMIT}, 3),
    ],
)  # fmt: skip
def test_memory_is_what_the_strictest_control_group_leaves(kernel, files, gigabytes):
    assert memory_gb(kernel(**files)) == gigabytes


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "10000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "2:cpu:/a\n", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": 100000,
          "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": 100000}, 1),
        ({"proc/self/cgroup": "2:cpu:/a\n", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": -1,
          "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": 100000}, None),
    ],
)  # fmt: skip
def test_cores_are_what_mask_and_quota_leave(kernel, files, expected):
    assert cores(kernel(**files)) == (expected or len(os.sched_getaffinity(0)))


def test_cores_follow_the_cpu_mask(kernel):
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert cores(kernel()) == 1
    finally:
        os.sched_setaffinity(0, mask)


def test_workers_fit_into_cores_and_memory():
    assert default_workers(1e-6) == cores()
    assert default_workers(1e-6, cores_per_worker=10**6) == 1
    assert default_workers(1e9) == 1


def test_gpus_are_those_that_the_environment_or_the_devices_name(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(tmp_path) == ()
    (tmp_path / "dev").mkdir()
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert visible_gpus(tmp_path) == ("2", "10")
    for text, gpus in {"": (), "-1": (), "1,0": ("1", "0"), "GPU-ab": ("GPU-ab",)}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert visible_gpus(tmp_path) == gpus


def test_a_process_space_is_one_boot_of_one_host_and_unknown_where_proc_is_not(tmp_path):
    here = process_space()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert here == process_space()
    assert here.startswith(socket.gethostname())
    assert boot in here
    assert process_space(tmp_path) == ""

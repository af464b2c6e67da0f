"""The lab is what these tests stand on: a SLURM that is real, alone, and gone when it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import lab as lab_module
from tests.cluster import lab_files
from tests.cluster.lab import Lab, LabError

pytestmark = pytest.mark.xdist_group("slurm")
ROOT = Path(__file__).parents[2]


def processes_of(folder):
    """Processes that were started with this lab's SLURM_CONF, or name its folder on their command line."""
    mark, found = str(folder).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if mark in told and int(process.name) != os.getpid():
            found.append(told.replace(b"\0", b" ")[:200])
    return found


@pytest.fixture
def second_folder():
    folder = Path("/tmp") / f"lab-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_four_nodes_with_two_gpus_each(lab):
    said = lab.ask("srun", "--nodes=4", "--ntasks-per-node=2", "--gpus-per-node=2", "--gpus-per-task=1",
                   "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")  # fmt: skip
    assert {line.split()[0] for line in said.splitlines()} == {"n1", "n2", "n3", "n4"}
    assert len(said.splitlines()) == 8


def test_a_second_lab_lives_beside_the_first_and_leaves_nothing(lab, second_folder):
    second = Lab.start(second_folder, accounting=False, max_array=11)
    try:
        job = second.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 60").strip()
        second.wait_until(lambda: second.queue() == {job: "RUNNING"}, 20)
        assert "MaxArraySize            = 11" in second.ask("scontrol", "show", "config")
        assert job not in lab.queue()
        assert not second.does("sacct")
    finally:
        second.stop()
    assert processes_of(second_folder) == []
    assert lab.node_states() == dict.fromkeys(("n1", "n2", "n3", "n4"), "idle")


def test_a_lab_that_cannot_start_leaves_nothing(second_folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(lab_module, "NODES", ("n1", "n2", "n3", "n9"))
        with pytest.raises(LabError, match="n9 ended"):
            Lab.start(second_folder, accounting=False)
    assert processes_of(second_folder) == []


def test_a_port_that_another_takes_in_between_is_given_up(second_folder, monkeypatch):
    taken = socket.create_server(("", 0))
    drawn, free = [], lab_files.free_ports

    def free_ports():
        drawn.append(dict(free()) | ({} if drawn else {"n1": taken.getsockname()[1]}))
        return drawn[-1]

    monkeypatch.setattr(lab_files, "free_ports", free_ports)
    with taken:
        second = Lab.start(second_folder, accounting=False)
    second.stop()
    assert len(drawn) == 2
    assert processes_of(second_folder) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_lab_ends_with_the_process_that_started_it(second_folder, number):
    process = subprocess.Popen([sys.executable, "-m", "tests.cluster.lab", str(second_folder)], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline() == f"export SLURM_CONF={second_folder}/slurm.conf\n"
    environment = {**os.environ, "SLURM_CONF": f"{second_folder}/slurm.conf"}
    subprocess.run(["sbatch", "--output=/dev/null", "--wrap", "srun sleep 60"], env=environment, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    while b"srun" not in b"".join(processes_of(second_folder)):
        time.sleep(0.1)
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while processes_of(second_folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(second_folder) == []


def test_memory_limits_are_enforced(lab, tmp_path):
    eat = "from tests.cluster.chores import eat; eat(600)"
    job = lab.ask("sbatch", "--parsable", "--mem=300M", f"--output={tmp_path}/out", f"--chdir={ROOT}",
                  "--wrap", f"srun {sys.executable} -c '{eat}'").strip()  # fmt: skip
    lab.wait_until(lambda: job not in lab.queue(), 40)
    assert "exceeded memory limit" in (tmp_path / "out").read_text()
    asked = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "State")
    # accounting hears of it a little later
    lab.wait_until(lambda: lab.ask(*asked).strip() in {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}, 40)

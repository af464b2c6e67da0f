"""The words of a cluster check, and what its probe sees of this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.findings import of_refusal, of_waiting, profile_words
from slurm.hearing import WARNING
from slurm.notes import read_json
from slurm.probe import SIGNAL, STARTED, STARTED_AGAIN, SURROUNDINGS, clocks, gpus, look_at, probe, version_of
from slurm.profiles import ClusterProfile


# As sbatch of SLURM 22.05 to 24.11 says it.
@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("sbatch: error: invalid partition specified: nowhere", "partition"),
        ("Batch job submission failed: Invalid account or account/partition combination specified", "account"),
        ("Batch job submission failed: Invalid qos specification", "qos"),
        ("Batch job submission failed: Invalid feature specification", "constraint"),
        ("Batch job submission failed: Requested node configuration is not available", "fewer GPUs"),
        ("Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)", "max_minutes"),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", "scontrol ping"),
    ],
)
def test_remedy_of_a_refusal(said: str, remedy: str) -> None:
    assert remedy in of_refusal(said)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Resources", "--patience"),
        ("Priority", "--patience"),
        ("PartitionTimeLimit", "max_minutes"),
        ("QOSMaxGRESPerUser", "qos"),
        ("AssocGrpGRES", "sacctmgr"),
        ("PartitionDown", "sinfo -R"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "sinfo -R"),
    ],
)
def test_remedy_of_waiting(reason: str, remedy: str) -> None:
    assert remedy in of_waiting(reason)


def test_profile_in_a_line() -> None:
    assert profile_words(ClusterProfile("a", partition="gpu", gpus_per_node=8)) == "partition gpu, gpus_per_node 8"
    assert profile_words(ClusterProfile("a")) == "the cluster's defaults"


def test_probe_tells_what_it_sees_and_hears(tmp_path: Path) -> None:
    code = f"from slurm.probe import probe; probe({str(tmp_path)!r}, ['submitit', 'no_such_module'], False, 60.0)"
    environment = {**os.environ, "SLURMD_NODENAME": "n3", "CUDA_VISIBLE_DEVICES": "1", "SLURM_RESTART_COUNT": "0"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    while (seen := read_json(tmp_path / SURROUNDINGS)) is None:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(WARNING)
    assert process.wait(timeout=60) == 0
    started = read_json(tmp_path / STARTED)
    assert started is not None
    assert started["host"] == "n3"
    assert seen["modules"]["submitit"]["version"] == version_of("submitit") != ""
    assert seen["modules"]["no_such_module"]["error"].startswith("ModuleNotFoundError")
    assert seen["gpus"] == {"given": "1"}
    assert read_json(tmp_path / SIGNAL) is not None


def test_second_start_of_a_probe_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    probe(str(tmp_path), ["torch"], True, 60.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [STARTED_AGAIN]


def test_clocks_leave_nothing_behind(tmp_path: Path) -> None:
    both = clocks(tmp_path)
    assert abs(both["time"] - both["file_system"]) < 5
    assert list(tmp_path.iterdir()) == []


def test_module_without_a_version_or_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_at_import.py").write_text("raise OSError('libcuda.so.1: cannot open shared object file')")
    (tmp_path / "nameless.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert look_at("breaks_at_import") == {"error": "OSError: libcuda.so.1: cannot open shared object file"}
    assert look_at("nameless") == {"version": "", "file": str(tmp_path / "nameless.py")}


def test_gpus_as_torch_sees_them() -> None:
    import torch

    seen = gpus()
    assert (seen["torch"], seen["count"]) == (torch.__version__, torch.cuda.device_count())
    assert len(seen["names"]) == seen["count"]

"""``tokscale cluster check`` on a real SLURM: what it says of one that works and of what may be wrong with one."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm.check import ClusterCheck
from slurm.findings import Finding
from slurm.profiles import ClusterProfile
from tests.cluster.lab import Lab

pytestmark = pytest.mark.xdist_group("slurm")
COMMAND = [sys.executable, "-c", "from tokscale.front import main; main()", "cluster", "check"]
PROFILES = """\
lab: {partition: main, gpus_per_node: 2, max_minutes: 60, memory_per_gpu_gb: 3}
nowhere: {partition: nowhere}
"""


@pytest.fixture
def desk(lab: Lab, tmp_path: Path) -> Path:
    """A folder with profiles, as a user sits in; afterwards nothing of a check is left there or in the queue."""
    (tmp_path / "clusters.yaml").write_text(PROFILES)
    return tmp_path


def run(lab: Lab, desk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=desk, env=lab.environment, capture_output=True, text=True, timeout=300
    )


def nothing_left(lab: Lab, desk: Path) -> bool:
    return lab.queue() == {} and [path.name for path in desk.iterdir()] == ["clusters.yaml"]


def by_subject(lab: Lab, desk: Path, modules: tuple[str, ...] = ("submitit",), **profile: Any) -> dict[str, Finding]:
    """The findings of a check that imports little."""
    known = ClusterProfile("lab", **{"partition": "main", "gpus_per_node": 2, **profile})
    check = ClusterCheck(known, desk / "check", ("slurm",), modules, patience=30.0)
    findings = {finding.subject: finding for finding in check.findings()}
    assert nothing_left(lab, desk)
    return findings


def test_cluster_that_works(lab: Lab, desk: Path) -> None:
    done = run(lab, desk, "lab", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(done.stdout)
    states = {finding["subject"]: finding["state"] for finding in content["findings"]}
    assert content["works"]
    # the GPUs are no real ones, so torch cannot see them
    assert {subject for subject, state in states.items() if state != "works"} == {"GPUs"}
    seen = {finding["subject"]: finding["seen"] for finding in content["findings"]}
    assert "CUDA_VISIBLE_DEVICES=" in seen["GPUs"]
    assert "torch 2." in seen["Python"]
    assert "accepted" in seen["requeue"]
    assert "MaxArraySize 1001" in seen["limits"]
    assert nothing_left(lab, desk)


def test_wrong_partition_and_unknown_profile(lab: Lab, desk: Path) -> None:
    done = run(lab, desk, "nowhere")
    assert done.returncode == 1
    assert "invalid partition specified: nowhere" in " ".join(done.stdout.split())
    assert "sinfo -s" in done.stdout
    done = run(lab, desk, "labb")
    assert done.returncode == 2
    assert "did you mean 'lab'" in done.stderr
    assert run(lab, desk, "local").returncode == 2
    assert nothing_left(lab, desk)


def test_job_that_does_not_start_gives_its_reason_and_is_cancelled(lab: Lab, desk: Path) -> None:
    lab.ask("scontrol", "update", "partition=main", "state=inactive")
    done = run(lab, desk, "lab", "--patience", "3", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    if findings["submission"]["state"] == "works":
        assert "Partition" in findings["start"]["seen"]
    else:
        assert "partition" in findings["submission"]["seen"].lower()
    assert done.returncode == 1
    assert nothing_left(lab, desk)


def test_nodes_that_are_all_taken(lab: Lab, desk: Path) -> None:
    lab.ask("sbatch", "-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap=sleep 100")
    lab.wait_until(lambda: "RUNNING" in lab.queue().values(), 30)
    done = run(lab, desk, "lab", "--patience", "3", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["start"]["state"] == "does not"
    assert "waits for free resources" in findings["start"]["seen"]
    assert "--patience" in findings["start"]["remedy"]
    assert len(lab.queue()) == 1


def test_ctrl_c_leaves_nothing(lab: Lab, desk: Path) -> None:
    process = subprocess.Popen([*COMMAND, "lab"], cwd=desk, env=lab.environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    lab.wait_until(lambda: "RUNNING" in lab.queue().values(), 60)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert nothing_left(lab, desk)


def test_accounting_away_is_no_hindrance(lab: Lab, desk: Path) -> None:
    lab.stop_accounting()
    findings = by_subject(lab, desk)
    assert (findings["accounting"].state, findings["accounting"].matters) == ("does not", False)
    assert all(finding.state == "works" for finding in findings.values() if finding.matters)


def test_python_that_lacks_something_on_the_node(lab: Lab, desk: Path) -> None:
    findings = by_subject(lab, desk, ("submitit", "no_such_module"), requeue=False)
    assert findings["Python"].state == "does not"
    assert "No module named 'no_such_module'" in findings["Python"].seen
    assert findings["signal"].state == "works"
    assert findings["requeue"].state == "could not be tried"


def test_python_that_does_not_start_on_the_node(lab: Lab, desk: Path) -> None:
    findings = by_subject(lab, desk, setup=("export PYTHONHOME=/nowhere",))
    assert (findings["start"].state, findings["shared folder"].state) == ("works", "works")
    assert findings["Python"].state == "does not"
    assert "launcher" in findings["Python"].seen or "encodings" in findings["Python"].seen


def test_numbers_that_the_cluster_does_not_have(lab: Lab, desk: Path) -> None:
    findings = by_subject(lab, desk, gpus_per_node=8, max_minutes=100_000, max_array=5000)
    assert findings["limits"].state == "does not"
    for words in ("max_array is 5000", "the partition gives 1440", "a node has 2"):
        assert words in findings["limits"].seen

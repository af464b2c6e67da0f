"""What is told of elements whose processes are gone."""

import os
from pathlib import Path

import pytest

from slurm.aftermath import oom_kills, settle
from slurm.element import End, read_end, write_elements
from slurm.executor import Job, Resources
from slurm.notes import start_path, write_end, write_json


@pytest.fixture
def elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The elements.json of an array whose element 3 is this job, in its second start."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in (("ARRAY_JOB_ID", "40"), ("ARRAY_TASK_ID", "3"), ("RESTART_COUNT", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    job = Job(key="k", name="j", target="m:f", log=tmp_path / "log.txt")
    write_elements(tmp_path / "elements.json", {3: job}, Resources(), requeue=False)
    return tmp_path / "elements.json"


def started(elements: Path, **logs: int) -> None:
    write_json(start_path(elements.parent, 3), {"restart": 1, "host": "n1", "time": 0.0, "logs": logs})


def test_nothing_is_added_to_an_end_that_was_noted(elements: Path) -> None:
    for end in (End("failed", 1, "data"), End("cancelled", 1, "cancelled"), End("stopped", 1, requeued=True)):
        write_end(elements.parent, 3, end)
        assert settle(elements, 1) is None
        assert read_end(elements.parent, 3) == end


def test_a_line_of_the_setup_that_failed_is_a_failed_launch_whatever_its_exit_status(elements: Path) -> None:
    (elements.parent / "40_3_0_log.out").write_text("Lmod has detected an error: unknown module cuda\n")
    end = settle(elements, 255, "module load cuda")
    assert end is not None
    assert (end.state, end.cause) == ("failed", "launch")
    assert end.message.startswith("setup failed with status 255: module load cuda\nLmod has detected")


@pytest.mark.parametrize(
    ("code", "cause", "words"),
    [
        (139, "killed", "killed by SIGSEGV"),
        (137, "killed", "killed by SIGKILL"),
        (7, "", "exited with status 7"),
    ],
)
def test_processes_that_vanished(elements: Path, code: int, cause: str, words: str) -> None:
    started(elements)
    end = settle(elements, code)
    assert end is not None
    assert (end.state, end.cause, end.restart) == ("failed", cause, 1)
    assert words in end.message
    assert read_end(elements.parent, 3) == end


@pytest.mark.parametrize(
    "words",
    [
        "slurmstepd: error: Detected 1 oom_kill event in StepId=40.0. Some of the step tasks have been OOM Killed.",
        "slurmstepd: error: Detected 1 oom-kill event(s) in step 40.0 cgroup.",
        "srun: error: n1: task 0: Out Of Memory",
        "slurmstepd-n1: error: StepId=40.0 exceeded memory limit (526589952 > 524288000), being killed",
    ],
)
def test_out_of_memory_is_told_by_the_launcher_since_this_start(elements: Path, words: str) -> None:
    log = elements.parent / "40_3_0_log.out"
    log.write_text(words + "\n")
    started(elements, **{log.name: log.stat().st_size})
    end = settle(elements, 137)
    assert end is not None
    assert end.cause == "killed", "what was said in an earlier start counts no more"
    (elements.parent / "ends" / "3.json").unlink()
    with open(log, "a") as file:
        file.write(words + "\n")
    end = settle(elements, 137)
    assert end is not None
    assert end.cause == "out of memory"


def test_python_that_did_not_start(elements: Path) -> None:
    write_json(start_path(elements.parent, 3), {"restart": 0})  # of the start before this one
    (elements.parent / "40_3_0_log.out").write_text("ModuleNotFoundError: No module named 'submitit'\n")
    end = settle(elements, 1)
    assert end is not None
    assert (end.state, end.cause, end.again) == ("failed", "launch", False)
    assert "No module named 'submitit'" in end.message


@pytest.mark.parametrize(
    "words",
    [
        "srun: error: Unable to confirm allocation for job 34: Socket timed out on send/recv operation",
        "srun: error: Unable to create step for job 34: Unable to contact slurm controller (connect failure)",
        "srun: error: Unable to contact slurm controller (connect failure)",
    ],
)
def test_a_step_that_slurmctld_did_not_answer_is_begun_again(elements: Path, words: str) -> None:
    (elements.parent / "40_3_0_log.out").write_text(words + "\n")
    end = settle(elements, 1)
    assert end is not None
    assert (end.cause, end.again) == ("lost", True)


def test_signal_while_python_was_starting_is_no_launch_failure(elements: Path) -> None:
    end = settle(elements, 140)
    assert end is not None
    assert (end.cause, end.again) == ("killed", True)
    assert "SIGUSR2" in end.message


def test_third_return_is_the_last(elements: Path) -> None:
    started(elements)
    for times, again in ((2, True), (3, False)):
        write_end(elements.parent, 3, End("stopped", 0, "killed", requeued=True, tally={"killed": times}))
        end = settle(elements, 137)
        assert end is not None
        assert end.again is again


def test_other_rank_is_heard(elements: Path) -> None:
    started(elements)
    write_end(elements.parent, 3, End("failed", 1, "data", "DataError: gone", "n2", 5.0, rank=1))
    write_end(elements.parent, 3, End("failed", 0, "code", "of an earlier start", "n2", 1.0, rank=1 + 1))
    end = settle(elements, 143)
    assert end is not None
    assert (end.state, end.cause, end.message) == ("failed", "data", "rank 1 on n2: DataError: gone")
    assert read_end(elements.parent, 3) == end


def test_kills_are_counted_in_this_jobs_group_only(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert oom_kills(tmp_path) == 0
    group = "system.slice/slurmstepd.scope/job_40"
    write("proc/self/cgroup", f"0::/{group}/step_batch/user/task_0\n")
    write(f"sys/fs/cgroup/{group}/step_batch/memory.events", "low 0\noom 0\noom_kill 0\n")
    write("sys/fs/cgroup/system.slice/memory.events", "oom_kill 9\n")
    assert oom_kills(tmp_path) == 0
    write(f"sys/fs/cgroup/{group}/memory.events", "low 0\noom 3\noom_kill 2\n")
    assert oom_kills(tmp_path) == 2
    write("proc/self/cgroup", "5:memory:/slurm/uid_1/job_40/step_batch\n4:cpu:/slurm/uid_1/job_40\n")
    write("sys/fs/cgroup/memory/slurm/uid_1/job_40/step_0/memory.oom_control", "under_oom 0\noom_kill 1\n")
    assert oom_kills(tmp_path) == 1

"""What an element does where no SLURM is needed: finds itself, calls its target, hears signals, notes its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.element import Element, End, read_bad_nodes, read_end, write_elements
from slurm.executor import Job, Resources
from slurm.notes import mark_bad_node, read_rank_ends, write_end, write_json
from slurm.requeue import standing, why_stopped

HERE = Path(__file__).parent
TARGETS = """
import os, signal, sys, time
from pathlib import Path


class Stopped(Exception):
    again = True


class Cause(Exception):
    cause = "data"


def tell(file, *words):
    with open(file, "a") as out:
        out.write(" ".join(str(word) for word in words) + "\\n")


def say(file):
    print("a word from the target", flush=True)
    os.write(2, b"a word from below\\n")
    tell(file, "done")


def environment(file, *names):
    tell(file, *(os.environ.get(name, "-") for name in names))


def fail(file, kind):
    raise {"value": ValueError("wrong"), "cause": Cause("unreadable"), "stopped": Stopped("as asked"),
           "exit": SystemExit(3), "good exit": SystemExit(0), "interrupt": KeyboardInterrupt()}[kind]


def listen_late(file):
    tell(file, "deaf", os.getpid())
    time.sleep(1.0)
    heard = []
    signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    deadline = time.monotonic() + 20
    while not heard and time.monotonic() < deadline:
        time.sleep(0.01)
    tell(file, "heard", *heard)


def never_listen(file):
    tell(file, "deaf", os.getpid())
    time.sleep(1.0)
    tell(file, "finished")
"""


class Run:
    """One start of an element in a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        code = "import sys; from slurm.element import run_element; run_element(sys.argv[1])"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMP_", "MKL_"))}
        paths = os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)])
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(folder / "a" / "elements.json")],
            env={**clean, "PYTHONPATH": paths, "SLURM_JOB_ID": "7", "TMPDIR": str(folder), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def wait(self) -> int:
        self.output = self.process.communicate(timeout=60)[0]
        return self.process.returncode

    def told(self) -> list[str]:
        path = self.folder / "told"
        return path.read_text().splitlines() if path.exists() else []

    def wait_until_told(self, word: str) -> int:
        while not any(line.startswith(word) for line in self.told()):
            assert self.process.poll() is None
            time.sleep(0.01)
        return int(self.told()[-1].split()[-1])

    def end(self) -> End:
        found = read_end(self.folder / "a", 3)
        assert found is not None
        return found


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Run]:
    def start(function: str, *arguments: object, module: str = "targets", **environment: str) -> Run:
        (tmp_path / "targets.py").write_text(TARGETS)
        (tmp_path / "slow_targets.py").write_text(
            f"import os, time\nfrom targets import *\ntell({str(tmp_path / 'told')!r}, 'importing', os.getpid())\n"
            "time.sleep(1.0)\n"
        )
        job = Job(key="k", name="the job", target=f"{module}:{function}", log=tmp_path / "logs" / "log.txt",
                  arguments=[str(tmp_path / "told"), *arguments])  # fmt: skip
        write_elements(tmp_path / "a" / "elements.json", {3: job}, Resources(cpus=6, tasks=2), requeue=False)
        return Run(tmp_path, environment)

    return start


def test_output_of_the_target_goes_to_the_jobs_log(start: Callable[..., Run], tmp_path: Path) -> None:
    run = start("say")
    assert run.wait() == 0
    log = (tmp_path / "logs" / "log.txt").read_text()
    assert log.startswith("=== the job: job 7, start 1, rank 0 of 1 on ")
    assert "a word from the target\na word from below\n" in log
    assert (run.end().state, run.end().restart, run.told(), run.output) == ("done", 0, ["done"], "")


def test_other_ranks_have_logs_of_their_own_and_note_no_good_end(start: Callable[..., Run], tmp_path: Path) -> None:
    assert start("say", SLURM_PROCID="2", SLURM_NTASKS="4").wait() == 0
    assert "rank 2 of 4" in (tmp_path / "logs" / "log-rank2.txt").read_text()
    assert not (tmp_path / "logs" / "log.txt").exists()
    assert read_end(tmp_path / "a", 3) is None


@pytest.mark.parametrize(
    ("kind", "state", "cause", "message"),
    [
        ("value", "failed", "", "ValueError: wrong"),
        ("cause", "failed", "data", "Cause: unreadable"),
        ("exit", "failed", "", "SystemExit: 3"),
        ("interrupt", "failed", "", "KeyboardInterrupt"),
        ("stopped", "failed", "", "Stopped: as asked; the cluster's profile does not let jobs requeue themselves"),
    ],
)
def test_what_the_target_raised_is_noted(
    start: Callable[..., Run], tmp_path: Path, kind: str, state: str, cause: str, message: str
) -> None:
    run = start("fail", kind)
    assert run.wait() == 1
    end = run.end()
    assert (end.state, end.cause, end.message, end.requeued) == (state, cause, message, False)
    assert "Traceback" in (tmp_path / "logs" / "log.txt").read_text()


def test_exit_without_a_status_is_a_good_end(start: Callable[..., Run]) -> None:
    run = start("fail", "good exit")
    assert (run.wait(), run.end().state) == (0, "done")


def test_signal_during_imports_stops_before_the_work_begins(start: Callable[..., Run]) -> None:
    run = start("say", module="slow_targets")
    os.kill(run.wait_until_told("importing"), signal.SIGUSR2)
    assert run.wait() == 1
    assert "SIGUSR2 arrived before the work began" in run.end().message
    assert len(run.told()) == 1


def test_signal_before_the_target_listens_reaches_it(start: Callable[..., Run]) -> None:
    run = start("listen_late")
    os.kill(run.wait_until_told("deaf"), signal.SIGUSR2)
    assert run.wait() == 0
    assert run.told()[-1] == f"heard {signal.SIGUSR2.value}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGCONT])
def test_target_that_never_listens_is_not_interrupted(start: Callable[..., Run], number: signal.Signals) -> None:
    run = start("never_listen")
    os.kill(run.wait_until_told("deaf"), number)
    assert (run.wait(), run.told()[-1], run.end().state) == (0, "finished", "done")


def test_environment_of_a_target(start: Callable[..., Run], tmp_path: Path) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "TRITON_CACHE_DIR", "JOB_PREVIOUS_END")
    write_end(tmp_path / "a", 3, End("stopped", 0, "out of memory", requeued=True))
    run = start("environment", *names, MKL_NUM_THREADS="5", SLURM_RESTART_COUNT="1")
    assert run.wait() == 0
    cores = min(3, len(os.sched_getaffinity(0)))  # of 6 for 2 tasks
    assert run.told() == [f"{cores} 5 3000 {tmp_path}/caches-of-job-7/triton out of memory"]


def test_end_before_the_last_is_no_previous_end(start: Callable[..., Run], tmp_path: Path) -> None:
    write_end(tmp_path / "a", 3, End("stopped", 0, "out of memory", requeued=True))
    run = start("environment", "JOB_PREVIOUS_END", SLURM_RESTART_COUNT="2", JOB_PREVIOUS_END="inherited")
    assert run.wait() == 0
    assert run.told() == ["-"]


def test_failure_of_rank_1_is_told_by_rank_0(start: Callable[..., Run], tmp_path: Path) -> None:
    early = End("failed", 0, "data", "DataError: gone", "n7", time.time(), rank=1)
    write_end(tmp_path / "a", 3, early)
    write_end(tmp_path / "a", 3, End("failed", 4, "data", "of another start", "n8", 1.0, rank=2))
    run = start("fail", "stopped", SLURM_NTASKS="3")
    assert run.wait() == 1
    assert (run.end().cause, run.end().message) == ("data", "rank 1 on n7: DataError: gone")
    assert [end.host for end in read_rank_ends(tmp_path / "a", 3, 0)] == ["n7"]


def test_marked_node_is_refused(start: Callable[..., Run], tmp_path: Path) -> None:
    mark_bad_node(tmp_path, "n5", "no GPU")
    run = start("say", SLURMD_NODENAME="n5")
    assert run.wait() == 1
    assert run.end().cause == "node"
    assert "n5 was marked as bad: no GPU" in run.end().message
    assert start("say", SLURMD_NODENAME="n6").wait() == 0


def test_marks_of_yesterday_do_not_count(tmp_path: Path) -> None:
    mark_bad_node(tmp_path, "n1", "ECC")
    write_json(tmp_path / "bad-nodes" / "n2", {"when": time.time() - 25 * 3600, "why": "ECC"})
    assert read_bad_nodes(tmp_path) == {"n1": "ECC"}
    assert read_bad_nodes(tmp_path / "none") == {}


def test_log_that_cannot_be_opened_is_noted(start: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    run = start("say")
    assert run.wait() == 1
    assert "logs" in run.end().message


def test_element_finds_itself(tmp_path: Path) -> None:
    jobs = {index: Job(key=f"k{index}", name=f"j{index}", target="m:f", log=tmp_path / f"{index}.txt")
            for index in (0, 12)}  # fmt: skip
    write_elements(tmp_path / "elements.json", jobs, Resources(cpus=8, tasks=4))
    environment = {
        "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "12", "SLURM_JOB_ID": "41", "SLURM_RESTART_COUNT": "2",
        "SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURMD_NODENAME": "n9",
    }  # fmt: skip
    element = Element.here(tmp_path / "elements.json", environment)
    assert (element.job, element.name, element.restart, element.cpus) == ("40_12", "j12", 2, 2)
    assert (element.rank, element.ranks, element.host) == (1, 4, "n9")
    with pytest.raises(ValueError, match="no element 5"):
        Element.here(tmp_path / "elements.json", {"SLURM_ARRAY_TASK_ID": "5"})
    with pytest.raises(ValueError, match="shared"):
        Element.here(tmp_path / "nothing.json", {})


def test_notes_of_other_versions_and_damaged_ones(tmp_path: Path) -> None:
    write_end(tmp_path, 1, End("done", 0))
    path = tmp_path / "ends" / "1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unheard of": 1}))
    assert read_end(tmp_path, 1) == End("done", 0)
    path.write_text('{"state": "do')
    assert read_end(tmp_path, 1) is None


# As `scontrol show job --oneliner` of SLURM 22.05 prints them, with times in seconds.
@pytest.mark.parametrize(
    ("shown", "verdict", "cause"),
    [
        ("JobState=RUNNING Reason=None Restarts=0 EndTime=9000 PreemptTime=None", "running", ""),
        ("JobState=RUNNING Reason=None Restarts=0 EndTime=1100 PreemptTime=None", "running", "time limit"),
        ("JobState=RUNNING Reason=None Restarts=0 EndTime=1005 PreemptTime=999", "running", "preempted"),
        ("JobState=RUNNING Reason=None Restarts=0 EndTime=Unknown PreemptTime=None", "running", ""),
        ("JobState=COMPLETING Reason=None Restarts=0 ExitCode=0:15 PreemptTime=None", "cancelled", ""),
        ("JobState=CANCELLED Reason=None Restarts=0 ExitCode=0:15 PreemptTime=None", "cancelled", ""),
        ("JobState=COMPLETING Reason=TimeLimit Restarts=0 PreemptTime=None", "ending", "time limit"),
        ("JobState=COMPLETING Reason=None Restarts=0 PreemptTime=995", "ending", "preempted"),
        ("JobState=COMPLETING Reason=None Restarts=1 ExitCode=0:0", "requeued", ""),
        ("JobState=COMPLETING Reason=job_requeued_in_held_state Restarts=1", "requeued", ""),
        ("JobState=PENDING Reason=BeginTime Restarts=1", "requeued", ""),
    ],
)
def test_what_slurm_has_in_mind(shown: str, verdict: str, cause: str) -> None:
    line = f"JobId=5 ArrayJobId=5 ArrayTaskId=0 {shown} NodeList=n1"
    assert (standing(line, 0), why_stopped(line, now=1000.0)) == (verdict, cause)

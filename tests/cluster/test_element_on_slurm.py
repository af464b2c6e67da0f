"""Elements of arrays in real SLURM jobs: who hears what, who requeues whom, and what is noted of an end."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from slurm.element import End, read_bad_nodes, read_end, write_elements
from slurm.executor import Job, Resources
from slurm.notes import write_end
from tests.cluster.lab import Lab

pytestmark = pytest.mark.xdist_group("slurm")
ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
CODE = 'from slurm.element import run_element; run_element("{folder}/elements.json")'

SCRIPT = """\
#!/bin/bash
export PYTHONPATH={path}
srun --kill-on-bad-exit=1 --output {folder}/%A_%a_%t_log.out --error {folder}/%A_%a_%t_log.err \\
    {python} -u -c '{code}'
code=$?
[ $code -eq 0 ] || {python} -m slurm.aftermath {folder}/elements.json $code
exit $code
"""


@dataclass
class Array:
    """An array of this test: its folder, its id, and the file in which its targets tell what they saw."""

    lab: Lab
    folder: Path
    job: str

    def told(self) -> list[str]:
        path = self.folder / "told"
        return path.read_text().splitlines() if path.exists() else []

    def listening(self) -> list[int]:
        """Process ids of the targets that would hear a signal."""
        return [int(line.split()[1]) for line in self.told() if line.startswith("listening")]

    def end(self, index: int = 0) -> End:
        found = read_end(self.folder, index)
        assert found is not None, self.said()
        return found

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*log*")))

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{self.told()}\n{self.said()}"
            time.sleep(0.1)

    def gone(self, index: int = 0) -> bool:
        return f"{self.job}_{index}" not in self.lab.queue()


@pytest.fixture
def submit(lab: Lab, tmp_path: Path) -> Callable[..., Array]:
    """Submits an array of one target, ``tests.cluster.element_errands`` unless another module is named."""

    def submit(
        target: str,
        *arguments: object,
        flags: str = "",
        indices: str = "0",
        requeue: bool = True,
        path: str = "",
        code: str = CODE,
    ) -> Array:
        folder = tmp_path / "jobs" / "a"
        folder.mkdir(parents=True)
        module = "" if ":" in target else "tests.cluster.element_errands:"
        jobs = {
            int(index): Job(key=f"k{index}", name=f"job {index}", target=module + target,
                            arguments=[str(folder / "told"), *arguments], log=folder / f"{index}.txt")
            for index in indices.split(",")
        }  # fmt: skip
        write_elements(folder / "elements.json", jobs, Resources(cpus=1), requeue=requeue)
        script = folder / "job.sh"
        script.write_text(SCRIPT.format(folder=folder, python=sys.executable, code=code.format(folder=folder),
                                        path=f"{path}:{ROOT}".lstrip(":")))  # fmt: skip
        words = ["sbatch", "--parsable", f"--array={indices}", "--requeue", "--open-mode=append", "--mem=300",
                 f"--output={folder}/%A_%a_0_log.out", f"--error={folder}/%A_%a_0_log.err", *flags.split()]  # fmt: skip
        return Array(lab, folder, lab.ask(*words, str(script)).strip())

    return submit


def test_stop_signal_requeues_one_element_and_it_finishes(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("work_until_told", indices="0,1", flags="--open-mode=append")
    array.wait(lambda: len(array.listening()) == 2)
    lab.ask("scancel", "--signal=USR2", f"{array.job}_1")
    array.wait(lambda: array.told().count("finished") == 1 and array.gone(1))
    # the array's own id is that of one of its elements: naming it would have begun both again
    assert sum(line.startswith("start 1") for line in array.told()) == 1
    assert array.end(1).state == "done"
    assert read_end(array.folder, 0) is None
    lab.ask("scancel", array.job)


def test_signal_during_imports_is_not_lost(lab: Lab, submit: Callable[..., Array], tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import os, time\n"
        "from tests.cluster.element_errands import tell, work_until_told\n"
        f"tell('{tmp_path}/jobs/a/told', 'importing')\n"
        "time.sleep(2.0 if os.environ.get('SLURM_RESTART_COUNT', '0') == '0' else 0.0)\n"
    )
    array = submit("slow_module:work_until_told", path=str(tmp_path))
    array.wait(lambda: "importing" in array.told())
    lab.ask("scancel", "--signal=USR2", f"{array.job}_0")
    array.wait(lambda: "finished" in array.told())
    assert "start 0 -" not in array.told(), "the target had no business to begin"


def test_signal_before_the_target_listens_is_passed_on(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("work_until_told", 1, 2.0)
    array.wait(lambda: "start 0 -" in array.told())
    lab.ask("scancel", "--signal=USR2", f"{array.job}_0")
    array.wait(lambda: "finished" in array.told() and array.gone())
    assert array.end().state == "done"


def test_cancelled_element_stays_cancelled(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("work_until_told")
    array.wait(array.listening)
    lab.ask("scancel", f"{array.job}_0")
    array.wait(array.gone)
    assert (array.end().state, array.end().cause) == ("cancelled", "cancelled")
    time.sleep(1.0)
    assert array.gone()
    assert len(array.told()) == 2


def test_preemption_requeues_with_its_cause(lab: Lab, submit: Callable[..., Array], tmp_path: Path) -> None:
    array = submit("work_until_told", flags="--nodelist=n1 --exclusive --signal=URG@5")
    array.wait(array.listening)
    urgent = lab.ask(
        "sbatch", "--parsable", "-p", "high", "-w", "n1", "--exclusive", "-o", "/dev/null", "--wrap=sleep 1"
    )
    array.wait(lambda: "finished" in array.told())
    assert urgent
    assert "start 1 preempted" in array.told()


def test_profile_without_requeue_is_obeyed(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("work_until_told", requeue=False)
    array.wait(array.listening)
    lab.ask("scancel", "--signal=USR2", f"{array.job}_0")
    array.wait(array.gone)
    end = array.end()
    assert (end.state, end.requeued) == ("failed", False)
    assert "does not let jobs requeue" in end.message


def test_controller_away_while_requeueing(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("work_until_told")
    array.wait(array.listening)
    saved, now = lab.folder / "state" / "job_state", time.time()
    # What it has not saved, it forgets; it may have saved the job's start before, and saves again only what changed.
    lab.ask("scontrol", "update", f"JobId={array.job}_0", "Comment=saved")
    array.wait(lambda: saved.exists() and saved.stat().st_mtime > now)
    lab.stop_controller()
    os.kill(array.listening()[0], signal.SIGUSR2)
    array.wait(lambda: (end := read_end(array.folder, 0)) is not None and end.state == "stopped")
    assert not read_end(array.folder, 0).requeued, "there was nobody to ask"
    lab.start_controller()
    array.wait(lambda: "finished" in array.told() and array.gone())
    assert array.end().state == "done"
    assert [line for line in array.told() if line.startswith("start")][1:], "it began a second time"


def test_memory_limit_is_noted_and_returns_once(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("eat_memory")
    array.wait(array.gone)
    end = array.end()
    assert (end.state, end.cause, end.restart) == ("failed", "out of memory", 1)
    assert array.told() == ["start 0 -", "start 1 out of memory"]


def test_crash_is_noted_and_begins_again(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("kill_yourself", 2)
    array.wait(array.gone)
    assert array.told() == ["start 0 -", "start 1 killed", "start 2 killed"]
    assert array.end().state == "done"


def test_python_that_does_not_import_is_a_launch_failure(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("work_until_told", code="import no_such_package")
    array.wait(array.gone)
    end = array.end()
    assert (end.state, end.cause, array.told()) == ("failed", "launch", [])
    assert "No module named 'no_such_package'" in end.message.replace("\\", "")


def test_process_that_leaves_without_a_word(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("leave_at_once")
    array.wait(array.gone)
    end = array.end()
    assert (end.state, end.cause, array.told()) == ("failed", "", ["start 0"])
    assert "status 7" in end.message


@pytest.mark.parametrize("how", ["memory", "code"])
def test_failure_of_another_rank_is_the_elements_end(lab: Lab, submit: Callable[..., Array], how: str) -> None:
    array = submit("fail_in_rank", 1, how, flags="--nodes=2 --ntasks=2")
    array.wait(array.gone)
    end = array.end()
    if how == "code":
        assert (end.state, end.restart) == ("failed", 0)
        assert "rank 1 on n" in end.message
        assert "ValueError: this rank's own trouble" in end.message
    else:
        assert (end.state, end.restart, dict(end.tally)) == ("done", 1, {"out of memory": 1})
    assert "this rank's own trouble" in (array.folder / "0-rank1.txt").read_text()


def test_bad_node_is_left_and_avoided(lab: Lab, submit: Callable[..., Array]) -> None:
    array = submit("need_good_node", "n1", flags="--nodelist=n1")
    array.wait(lambda: read_bad_nodes(array.folder.parent))
    assert list(read_bad_nodes(array.folder.parent)) == ["n1"]
    array.wait(lambda: (end := read_end(array.folder, 0)) is not None and end.requeued)
    assert array.end().tally == {"node": 1}
    # each start takes six seconds, and before the next it is as if there had been three more
    write_end(array.folder, 0, replace(array.end(), tally={"node": 1, "bad node": 3}))
    # tied to that node it bounces until it gives up, and never begins there again
    array.wait(array.gone)
    end = array.end()
    assert (end.state, end.cause) == ("failed", "node")
    assert array.told() == ["start 0 n1"]
    assert end.tally == {"node": 1, "bad node": 6}

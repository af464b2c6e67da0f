"""The local executor with real processes: order, crashes, logs, and warm workers."""

import os
import signal
import time
from collections import Counter
from random import Random

import pytest

from slurm import Job, JobState, LocalExecutor
from tests.slurm.waiting import PATIENCE, eventually, finish, lines, runs

pytestmark = pytest.mark.usefixtures("errands_importable")


def test_every_job_runs_exactly_once_in_warm_workers(tmp_path, job):
    noted = tmp_path / "noted"
    jobs = [job(str(i), "note", str(noted), str(i)) for i in range(200)]
    with LocalExecutor(2) as executor:
        executor.submit(jobs)
        statuses = finish(executor)
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert sorted(lines(noted), key=int) == [str(i) for i in range(200)]
    assert len({status.worker for status in statuses.values()}) <= 2
    assert all(status.started <= status.ended for status in statuses.values())


def test_jobs_start_in_order_of_priority_then_submission(tmp_path, job):
    noted = tmp_path / "noted"
    with LocalExecutor(1) as executor:
        executor.submit(
            [job(key, "note", str(noted), key, priority=p) for key, p in zip("abcd", (0, 0, 1, 0), strict=True)]
        )
        finish(executor)
    assert lines(noted) == ["c", "a", "b", "d"]


def test_children_start_after_their_parents_whatever_the_order_given(tmp_path, job):
    noted = tmp_path / "noted"
    names = {"d": ("b", "c"), "c": ("a",), "b": ("a",), "a": ()}
    with LocalExecutor(2) as executor:
        executor.submit([job(key, "note", str(noted), key, after=after) for key, after in names.items()])
        finish(executor)
        executor.submit([job("e", "note", str(noted), "e", after=("d",))])
        finish(executor)
    order = lines(noted)
    assert sorted(order) == ["a", "b", "c", "d", "e"]
    assert (order[0], order[3], order[4]) == ("a", "d", "e")


def test_an_exception_fails_the_job_and_spares_the_worker(tmp_path, job):
    noted = tmp_path / "noted"
    with LocalExecutor(1) as executor:
        executor.submit([job("bad", "fail", "seven"), job("good", "note", str(noted), "good")])
        statuses = finish(executor)
    assert statuses["bad"].state is JobState.failed
    assert statuses["bad"].reason == "ValueError: seven"
    log = (tmp_path / "logs/bad.log").read_text()
    assert "Traceback" in log
    assert "errands.py" in log
    assert "slurm/worker.py" not in log
    assert statuses["good"].state is JobState.done
    assert statuses["good"].worker == statuses["bad"].worker


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("die", "kill"), "SIGKILL"),
        (("die", "segfault"), "SIGSEGV"),
        (("die", "exit"), "status 7"),
        (("run_out_of_memory",), "MemoryError: no room"),
        (("lose_the_gpu",), "AcceleratorError: device-side assert"),
    ],
)
def test_a_worker_that_dies_is_a_failed_job_and_is_replaced(tmp_path, job, arguments, words):
    noted = tmp_path / "noted"
    with LocalExecutor(1) as executor:
        executor.submit([job("bad", *arguments), job("good", "note", str(noted), "good")])
        statuses = finish(executor)
    assert statuses["bad"].state is JobState.failed
    assert words in statuses["bad"].reason
    assert statuses["good"].state is JobState.done
    assert statuses["good"].worker != statuses["bad"].worker
    assert lines(noted) == ["good"]
    log = (tmp_path / "logs/bad.log").read_text()
    if arguments[0] == "die":
        assert statuses["bad"].exit_code == {"kill": -9, "segfault": -11, "exit": 7}[arguments[1]]
        assert "about to die" in log
        assert str(tmp_path / "logs/bad.log") in statuses["bad"].reason
    if "segfault" in arguments:
        assert "string_at" in log  # where it happened


def test_other_jobs_go_on_while_one_worker_dies(tmp_path, job):
    go, started = tmp_path / "go", tmp_path / "started"
    with LocalExecutor(2) as executor:
        executor.submit([job("long", "wait_for", str(go), str(started)), job("bad", "die", "kill")])
        while executor.poll()["bad"].state is not JobState.failed:
            executor.wait(PATIENCE)
        assert executor.poll()["long"].state is JobState.running
        go.touch()
        assert finish(executor)["long"].state is JobState.done
    assert len(lines(started)) == 1


def test_an_idle_worker_that_dies_costs_no_job(tmp_path, job):
    with LocalExecutor(1) as executor:
        executor.submit([job("a", "note", str(tmp_path / "noted"), "a")])
        worker = finish(executor)["a"].worker
        os.kill(int(worker), signal.SIGKILL)
        eventually(lambda: not runs(worker))
        time.sleep(0.5)  # its threads may outlive it for a moment, and hold the channel open
        executor.submit([job("b", "note", str(tmp_path / "noted"), "b")])
        status = finish(executor)["b"]
    assert status.state is JobState.done
    assert status.worker != worker


def test_workers_killed_at_random_lose_no_status_and_double_no_job(tmp_path, job):
    noted = tmp_path / "noted"
    jobs = [job(str(i), "note", str(noted), str(i)) for i in range(200)]
    random = Random(0)
    with LocalExecutor(2) as executor:
        executor.submit(jobs)
        while any(not status.state.final for status in executor.poll().values()):
            executor.wait(PATIENCE)
            running = [status for status in executor.poll().values() if status.state is JobState.running]
            if random.random() < 0.05:
                for status in running:
                    os.kill(int(status.worker), signal.SIGKILL)
        statuses = executor.poll()
    states = {key: status.state.value for key, status in statuses.items()}
    assert set(states.values()) == {"done", "failed"}
    times = Counter(lines(noted))
    assert all(times[key] == 1 if state == "done" else times[key] <= 1 for key, state in states.items())
    assert all("SIGKILL" in status.reason for status in statuses.values() if status.state is JobState.failed)


def test_children_of_a_failed_job_are_blocked_and_say_by_whom(tmp_path, job):
    with LocalExecutor(1) as executor:
        executor.submit(
            [
                job("child", "note", str(tmp_path / "no"), "", after=("bad",)),
                job("grandchild", "note", str(tmp_path / "no"), "", after=("child",)),
                job("bad", "fail", "x"),
            ]
        )
        statuses = finish(executor)
        executor.submit([job("late", "note", str(tmp_path / "no"), "", after=("bad",))])
        assert executor.wait(0)["late"].state is JobState.blocked
    for key in ("child", "grandchild"):
        assert statuses[key].state is JobState.blocked
        assert statuses[key].reason == "job bad failed"
    assert not (tmp_path / "no").exists()


def test_a_failed_job_can_be_submitted_again(tmp_path, job):
    go = tmp_path / "go"
    with LocalExecutor(1) as executor:
        executor.submit([job("a", "fail", "first")])
        finish(executor)
        executor.submit([job("a", "wait_for", str(go))])
        with pytest.raises(ValueError, match="twice"):
            executor.submit([job("a")])
        go.touch()
        assert finish(executor)["a"].state is JobState.done


def test_everything_that_a_job_prints_lands_in_its_log(tmp_path, job, capfd):
    with LocalExecutor(1) as executor:
        executor.submit([job("loud", "say_everywhere"), job("quiet", "note", str(tmp_path / "noted"), "")])
        finish(executor)
    said = lines(tmp_path / "logs/loud.log")
    sources = ["from print", "from stderr", "from a descriptor", "from C, buffered", "from a child"]
    assert sorted(said) == sorted(sources)
    assert (tmp_path / "logs/quiet.log").read_text() == ""
    assert capfd.readouterr() == ("", "")


def test_a_job_leaves_the_process_as_it_found_it(tmp_path, job):
    facts = tmp_path / "facts"
    with LocalExecutor(1, threads_per_worker=3) as executor:
        executor.submit([job("first", "disturb"), job("second", "process_facts", str(facts))])
        worker = finish(executor)["second"].worker
    assert lines(facts) == [f"{worker} 3 3 3000 None {os.getcwd()} True"]
    assert lines(tmp_path / "logs/second.log") == ["facts written"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("no_such_module:f", "ModuleNotFoundError"), ("errands:no_such_function", "no_such_function")],
)
def test_a_target_that_is_not_there_is_a_failed_job(tmp_path, target, words):
    with LocalExecutor(1) as executor:
        executor.submit([Job(key="a", name="a", target=target, log=tmp_path / "log")])
        assert words in finish(executor)["a"].reason


def test_a_log_that_cannot_be_written_is_a_failed_job(tmp_path):
    (tmp_path / "file").touch()
    with LocalExecutor(1) as executor:
        executor.submit([Job(key="a", name="a", target="os:getpid", log=tmp_path / "file" / "log")])
        status = finish(executor)["a"]
    assert status.state is JobState.failed
    assert str(tmp_path / "file") in status.reason


def test_workers_that_cannot_even_start_fail_their_jobs_with_the_cause_in_the_log(tmp_path, monkeypatch, job):
    (tmp_path / "tempfile.py").write_text("raise RuntimeError('this interpreter is broken')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with LocalExecutor(1) as executor:
        executor.submit([job("a"), job("b")])
        statuses = finish(executor)
    assert all(status.state is JobState.failed and status.exit_code == 1 for status in statuses.values())
    assert "this interpreter is broken" in (tmp_path / "logs/a.log").read_text()


def test_a_preloaded_module_is_there_and_a_broken_one_harms_nobody(tmp_path, monkeypatch, job):
    (tmp_path / "heavy.py").write_text(f"import os\nopen({str(tmp_path / 'loaded')!r}, 'a').write('once\\n')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with LocalExecutor(1, preload=("no_such_module", "heavy")) as executor:
        executor.submit([Job(key=str(i), name="", target="heavy:os.getpid", log=tmp_path / "log") for i in range(3)])
        assert {status.state for status in finish(executor).values()} == {JobState.done}
    assert lines(tmp_path / "loaded") == ["once"]


def test_a_worker_is_replaced_after_its_number_of_jobs(tmp_path, job):
    with LocalExecutor(1, max_jobs_per_worker=2) as executor:
        executor.submit([job(str(i), "note", str(tmp_path / "noted"), "") for i in range(5)])
        statuses = finish(executor)
    assert {status.state for status in statuses.values()} == {JobState.done}
    assert len({status.worker for status in statuses.values()}) == 3


def test_each_worker_sees_one_of_the_gpus(tmp_path, job):
    go = tmp_path / "go"
    jobs = [job(str(i), "note_gpu", str(tmp_path / "gpus"), str(go)) for i in range(3)]
    with LocalExecutor(3, gpus=("GPU-a", "GPU-b")) as executor:
        executor.submit(jobs)
        eventually(lambda: len(lines(tmp_path / "gpus")) == 3)
        go.touch()
        finish(executor)
    assert sorted(lines(tmp_path / "gpus")) == ["GPU-a", "GPU-a", "GPU-b"]

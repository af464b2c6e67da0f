"""Watching a sweep: never waiting for a cluster that hangs, asking seldom, ending when there is nothing left to see."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from io import StringIO

import pytest
from rich.console import Console

from slurm.executor import Executor, JobState, JobStatus
from sweeps import watching
from sweeps.grid import expand
from sweeps.planning import make_plan
from sweeps.progress import Watch
from sweeps.spec import load_spec
from sweeps.store import StageState, Store
from sweeps.watching import Observer, Queue, follow, observe, watch
from tokscale import claim
from tokscale.record import Record, write_record


class Scripted(Executor):
    """An executor whose answers are given: each is a mapping of statuses and what could not be asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.trouble = ()
        self.asked = 0

    def poll(self):
        self.asked += 1
        jobs, self.trouble = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return dict(jobs)

    def submit(self, jobs):
        raise AssertionError("a watcher submits nothing")

    def wait(self, timeout=None):
        raise AssertionError("a watcher polls")

    def cancel(self, keys):
        raise AssertionError("a watcher cancels nothing")

    def close(self):
        pass


class Hanging(Scripted):
    """An executor that does not answer until it is let go."""

    def __init__(self):
        super().__init__(({}, ()))
        self.released = threading.Event()

    def poll(self):
        self.released.wait()
        return super().poll()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves; the real one for those who wait for threads."""
    now = [1000.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def finish(store, stage):
    store.prepare(stage)
    write_record(
        store.folder(stage).path, Record(stage.kind, stage.id, {}, {}, {"wall_seconds": 60.0, "gpu_seconds": 0.0})
    )


def display(plan, store, **options):
    console = Console(file=StringIO(), width=120, height=40, color_system=None, highlight=False, **options)
    return Watch(plan, store, 1, console), console.file


def settle(queue):
    """Wait for an answer that is under way."""
    while queue._thread is not None and queue._thread.is_alive():
        queue._thread.join()


def test_a_queue_that_hangs_does_not_hold_up_a_look(small_spec, store):
    executor = Hanging()
    observer = Observer(make_plan(small_spec, store), store, Queue(executor))
    look = observer.look(patience=0.01)
    assert (look.queue_when, look.trouble, executor.asked) == (None, (), 0)
    observer.queue._asked -= watching.FIRST_PATIENCE + 1
    (words,) = observer.look().trouble
    assert words == "the cluster does not answer; jobs are not known yet"
    executor.released.set()
    look = observer.look(patience=60.0)
    assert look.queue_when is not None
    assert (look.trouble, executor.asked) == ((), 1)


def test_a_silent_controller_leaves_the_states_of_the_last_answer_and_says_of_when_they_are(small_spec, store):
    plan = make_plan(small_spec, store)
    key = next(iter(plan.stages))
    waits = {key: JobStatus(key, JobState.pending, "waits for free resources", worker="7_0")}
    executor = Scripted((waits, ()), (waits, ("slurmctld does not answer: Unable to contact slurm controller",)))
    observer = Observer(plan, store, Queue(executor))
    first = observer.look(60.0)
    assert first.statuses[key].state is StageState.queued
    for _ in range(2):
        observer.queue._due = 0.0
        second = observer.look(60.0)
        minute_ago = {subject: since - 60.0 for subject, since in observer.queue._since.items()}
        observer.queue._since = minute_ago
    second = observer.look()
    assert second.statuses[key].state is StageState.queued
    assert second.queue_when == first.queue_when
    (words,) = second.trouble
    assert "slurmctld does not answer: Unable to contact" in words
    assert "since" in words
    assert "queue states are as of" in words


def test_accounting_that_is_silent_makes_no_queue_stale(small_spec, store):
    executor = Scripted(({}, ("accounting does not answer: Connection refused",)))
    observer = Observer(make_plan(small_spec, store), store, Queue(executor))
    look = observer.look(60.0)
    assert look.queue_when is not None
    assert look.trouble == ("accounting does not answer: Connection refused",)


def test_a_queue_is_asked_less_and_less_while_nothing_changes_and_soon_again_when_it_does(clock):
    still = {"probe/a": JobStatus("probe/a", JobState.pending)}
    moved = {"probe/a": JobStatus("probe/a", JobState.running)}
    executor = Scripted(*[(still, ())] * 20, (moved, ()))
    queue, pauses = Queue(executor), []
    for _ in range(20):
        before = clock[0]
        clock[0] = max(clock[0], queue._due)
        pauses.append(clock[0] - before)
        queue.ask(60.0)
    assert executor.asked == 20
    assert all(1.5 <= pause <= 2.5 for pause in pauses[1:2])
    assert all(0.8 * 30 <= pause <= 1.2 * 30 for pause in pauses[-5:])
    clock[0] = queue._due
    queue.ask(60.0)
    assert queue._due - clock[0] <= 2.5
    asked = executor.asked
    queue.ask(60.0)  # not yet due
    assert executor.asked == asked


def test_a_slow_answer_is_a_plea_for_fewer_questions(clock):
    executor = Scripted(({}, ()))
    answer = executor.poll

    def slowly():
        clock[0] += 12.0
        return answer()

    executor.poll = slowly
    queue = Queue(executor)
    queue.ask(60.0)
    assert queue._due - clock[0] >= 60.0


def test_a_watch_ends_when_all_is_done(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    for stage in plan.stages.values():
        finish(store, stage)
    shown, _ = display(plan, store)
    assert watch(Observer(plan, store), shown).complete


def test_a_watch_goes_on_while_anything_is_queued_and_ends_on_two_answers_without(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    key = next(iter(plan.stages))
    waits = {key: JobStatus(key, JobState.pending, worker="7_0")}
    gone = {key: JobStatus(key, JobState.failed, "it left no trace", worker="7_0", cause="launch")}
    executor = Scripted(*[(waits, ())] * 3, (gone, ()))
    queue = Queue(executor)
    ask = queue.ask
    queue.ask = lambda patience=0.0: (ask(60.0), settle(queue))
    shown, lines = display(plan, store)
    look = watch(Observer(plan, store, queue), shown)
    assert look.statuses[key].state is StageState.failed
    assert executor.asked >= 5
    assert not look.complete
    assert "failed tokenizer" in lines.getvalue()


def test_without_a_terminal_a_watch_is_a_line_for_each_event_and_says_a_trouble_once(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    (first, *_) = plan.stages.values()
    waits = {"probe/x": JobStatus("probe/x", JobState.pending)}
    trouble = ("slurmctld does not answer: timed out",)
    executor = Scripted((waits, ()), *[(waits, trouble)] * 5, (waits, ()))
    queue = Queue(executor)
    observer, (shown, lines) = Observer(plan, store, queue), display(plan, store)
    for number, look in enumerate(observer.looks()):
        clock[0] = max(clock[0], queue._due)
        settle(queue)
        if number == 3:
            finish(store, first)
        shown.show(look)
        if number == 12:
            break
    text = lines.getvalue()
    assert text.count("slurmctld does not answer") == 1
    assert text.count("tokenizer pico-pico/4 n16 kl4 done") == 1
    assert "1 of 15 stages done" in text.replace("\n", " ")


def test_on_a_terminal_the_picture_is_drawn_in_place(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    shown, drawn = display(plan, store, force_terminal=True)
    with shown:
        for number, look in enumerate(Observer(plan, store).looks()):
            shown.show(look)
            if number == 2:
                break
    text = drawn.getvalue()
    assert text.count("stages done") >= 6  # in the summary and above the table, three times
    assert "\x1b[1A" in text  # up again, over what was there
    assert "\x1b[?1049h" not in text  # on the screen that is there, not on another


def test_gpu_hours_are_those_of_the_records_and_what_is_left_follows_from_them(small_spec, store):
    plan = make_plan(small_spec, store)
    tokenizers = [stage for stage in plan.stages.values() if stage.kind == "tokenizer"]
    for stage in plan.stages.values():
        if stage not in tokenizers[1:]:
            store.prepare(stage)
            measures = {"wall_seconds": 1800.0, "gpu_seconds": 7200.0}
            write_record(store.folder(stage).path, Record(stage.kind, stage.id, {}, {}, measures))
    effort = Observer(plan, store).look().effort
    assert effort.on_gpus
    assert effort.spent == pytest.approx(2.0 * (len(plan.stages) - 2))
    work = [plan.costs[stage.key].flops for stage in tokenizers]
    assert effort.left == pytest.approx(2.0 * (work[1] + work[2]) / work[0])


@pytest.fixture
def begun(small_spec, store):
    """A stage that this process works on, of a small sweep."""
    stage = expand(*load_spec(small_spec))[0].stages[0]
    folder = store.prepare(stage)
    return stage, folder, claim.claim(folder.path)


def test_following_a_log_goes_on_to_the_next_attempt_and_ends_with_the_stage(small_spec, store, begun, clock):
    stage, folder, held = begun
    folder.attempt(1).mkdir(parents=True)
    log = folder.attempt(1) / "log.txt"
    log.write_text("seen before\n")
    said = []

    def say(text):
        said.append(text)
        if len(said) == 2:
            log.write_text("seen before\nstep 1\n")
        elif len(said) == 4:
            held.release({"state": "interrupted"})
            again.append(claim.claim(folder.path))
            folder.attempt(2).mkdir(parents=True)
            (folder.attempt(2) / "log.txt").write_text("step 2\n")
        elif len(said) == 8:
            with open(folder.attempt(2) / "log.txt", "a") as file:
                file.write("step 3\n")
            again[0].release({"state": "done"})

    again = []
    follow(Observer(make_plan(small_spec, store), store), stage.key, log, say)
    assert "".join(said) == f"step 1\n{folder.attempt(2) / 'log.txt'}\nstep 2\nstep 3\n"


def command(*words, **options):
    code = "import sys\nfrom tokscale import front\nfront.main(sys.argv[1:])\n"
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)  # fmt: skip


@pytest.mark.parametrize("outcome", ["done", "failed", "untouched"])
def test_the_exit_status_says_whether_all_trials_are_done(small_spec, store, outcome):
    trials = expand(*load_spec(small_spec))
    for trial in trials if outcome != "untouched" else ():
        for stage in trial.stages:
            if outcome == "done" or stage.kind != "probe":
                finish(store, stage)
            else:
                folder = store.prepare(stage)
                claim.claim(folder.path).release({"state": "failed", "cause": "diverged", "message": "loss is nan"})
    process = command("status", small_spec, "--watch", "--runs", store.root)
    text, errors = process.communicate(timeout=120)
    assert process.returncode == (0 if outcome == "done" else 1), errors
    assert {"done": "all 3 trials done", "failed": "3 failed: diverged", "untouched": "15 new"}[outcome] in text


def test_leaving_a_watch_by_ctrl_c_is_no_failure(small_spec, store, begun):
    process = command("status", small_spec, "--watch", "--runs", store.root,
                      env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
    deadline = time.time() + 60
    while not _is_asleep(process.pid) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def _is_asleep(pid):
    """Whether a process waits in a sleep, which a watch does between two looks."""
    with open(f"/proc/{pid}/wchan") as file:
        return "nanosleep" in file.read()


def test_a_submitted_sweep_is_shown_where_there_are_no_cluster_programs(small_spec, store, monkeypatch, tmp_path):
    plan = make_plan(small_spec, store)
    store.write_sweep("small", small_spec.read_text(), [])
    (first, *_) = plan.stages.values()
    finish(store, first)
    submitted = [
        {"event": "intent", "token": "abc", "name": "small.all.abc", "folder": "jobs/abc", "time": time.time(),
         "user": "0", "throttle": None, "minutes": 30,
         "elements": {number: [key, key, []] for number, key in enumerate(plan.stages)}},
        {"event": "submitted", "token": "abc", "job": "77"},
    ]  # fmt: skip
    ledger = store.sweep("small") / "submissions.jsonl"
    ledger.write_text("".join(json.dumps(event) + "\n" for event in submitted))
    monkeypatch.setenv("PATH", str(tmp_path))
    look = observe(plan, store).look(60.0)
    (words,) = look.trouble
    assert "squeue cannot be run" in words
    assert look.statuses[first.key].state is StageState.done


def test_a_stage_that_was_done_is_looked_at_again_after_a_while(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    (first, *_) = plan.stages.values()
    finish(store, first)
    observer = Observer(plan, store)
    assert observer.look().statuses[first.key].state is StageState.done
    store.folder(first).record.unlink()
    clock[0] += 120.0
    assert observer.look().statuses[first.key].state is StageState.new


def test_a_waiting_job_is_believed_only_while_the_queue_answers(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    (first, *_) = plan.stages.values()
    waits = {first.key: JobStatus(first.key, JobState.pending, worker="7_0")}
    observer = Observer(plan, store, Queue(Scripted((waits, ()), (waits, ("slurmctld does not answer: down",)))))
    assert observer.look(60.0).statuses[first.key].state is StageState.queued
    finish(store, first)
    clock[0] = observer.queue._due
    assert observer.look(60.0).statuses[first.key].state is StageState.done

"""Watching a sweep: a picture or lines, ending when there is nothing left to see; following a log."""

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO

import pytest
from rich.console import Console

from slurm.executor import JobState, JobStatus
from sweeps.grid import expand
from sweeps.planning import make_plan
from sweeps.progress import Watch
from sweeps.spec import load_spec
from sweeps.store import StageState
from sweeps.watching import Observer, Queue, follow, observe, watch
from tests.sweeps.scripted import Scripted, finish, settle
from tokscale import claim


def display(plan, store, **options):
    console = Console(file=StringIO(), width=120, height=40, color_system=None, highlight=False, **options)
    return Watch(plan, store, 1, console), console.file


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

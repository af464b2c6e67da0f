"""A warning of a job's end is weighed: an early one waits until its time has come, a preemption's is told at once."""

import os
import subprocess
import sys

import pytest

from slurm.hearing import WARNING
from slurm.requeue import time_left

# Says the seconds from the warning to the moment at which the target hears of it.
SCRIPT = """
import os, signal, sys, time
from slurm import hearing
answers = [float(word) if word != "none" else None for word in sys.argv[1:]]
hearing.time_left = lambda job: answers.pop(0) if len(answers) > 1 else answers[0]
heard = []
ears = hearing.Hearing()
ears.heed_warnings("7_1", 100.0)
signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(time.monotonic()))
start = time.monotonic()
os.kill(os.getpid(), hearing.WARNING)
if len(answers) > 1:
    time.sleep(0.3)
    os.kill(os.getpid(), hearing.WARNING)
while not heard and time.monotonic() - start < 20:
    time.sleep(0.01)
print(round(heard[0] - start, 1) if heard else "never")
"""


def seconds_until_told(*left):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *left], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)


@pytest.mark.parametrize("left", ["99", "5", "none"])
def test_when_the_time_has_come_or_nobody_knows_the_target_is_told_at_once(left):
    assert seconds_until_told(left) < 1.0


def test_an_early_warning_waits_until_its_time():
    assert seconds_until_told("103") >= 3.0


def test_a_second_warning_is_weighed_anew():
    assert 0.3 <= seconds_until_told("5000", "none") < 3.0


def test_the_warning_is_nothing_to_who_does_not_know_it():
    child = subprocess.Popen(["sleep", "0.5"])
    os.kill(child.pid, WARNING)
    assert child.wait(timeout=30) == 0


def test_time_left_is_unknown_without_an_answer_and_in_a_preemption(monkeypatch):
    shown = {"running": "JobState=RUNNING PreemptTime=None EndTime=4102444800",
             "preempted": "JobState=RUNNING PreemptTime=1700000000 EndTime=4102444800", "away": None}  # fmt: skip
    answers = {}
    for name, text in shown.items():
        monkeypatch.setattr("slurm.requeue._scontrol", lambda *words, seconds, text=text: (text, ""))
        answers[name] = time_left("7_1")
    assert answers["running"] > 1e9
    assert (answers["preempted"], answers["away"]) == (None, None)

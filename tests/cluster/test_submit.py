"""``submit``, ``cancel`` and ``retry`` as they are typed, before a partition that takes jobs and starts none."""

import json
import signal
from collections import Counter

import pytest

from sweeps.history import read_history
from tests.cluster.sweep_desk import SPEC, Desk

pytestmark = pytest.mark.xdist_group("slurm")
# two tokenizers with two seeds each: four trials of two stages
FOUR = SPEC + "  seed: [0, 1]\n"
PROBED = SPEC.replace("probe: null", "probe: {size: pico}\n  latents: {images: 64}\n  generation: {images: 40}")


@pytest.fixture
def desk(closed, tmp_path):
    made = Desk.make(tmp_path, closed, FOUR)
    made.tokscale("submit", made.spec, "--cluster", "lab")
    return made


def table(desk):
    """States of the stages of each trial, by the trial's number."""
    return {row["number"]: {kind: stage["state"] for kind, stage in row["stages"].items()}
            for row in desk.status()["table"]}  # fmt: skip


def counted(desk):
    """How many stages are in which state."""
    return Counter(state for row in table(desk).values() for state in row.values())


def test_what_stands_on_a_job_that_still_waits_depends_on_it(closed, tmp_path):
    desk = Desk.make(tmp_path, closed)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    (tokenizers,) = [line.split()[0] for line in closed.ask("squeue", "-h", "-o", "%F %j").splitlines()
                     if ".tokenizer." in line]  # fmt: skip
    desk.spec.write_text(PROBED)
    output = desk.tokscale("submit", desk.spec, "--cluster", "lab", "--json")
    made = json.loads(output)
    assert made["submitted"] == {"latents": 2, "probe": 2, "generation": 2}
    assert made["left"] == {"queued": 4}
    waits = dict(line.split() for line in closed.ask("squeue", "-h", "-o", "%j %E").splitlines())
    latents = next(depends for name, depends in waits.items() if ".latents." in name)
    assert f":{tokenizers}_" in latents
    assert desk.queued(closed) == dict.fromkeys(desk.stages(), 1)


def test_what_runs_is_what_was_submitted_and_it_is_written_down(desk, closed):
    (event,) = read_history(desk.store.sweep("two")).events
    assert event["spec"] == FOUR
    assert (event["cluster"], event["stages"], event["arrays"]) == ("lab", 8, 2)
    snapshot = desk.runs / "snapshots" / event["snapshot"]
    assert (snapshot / "tokscale" / "stages" / "__init__.py").is_file()
    job = next(iter(closed.queue())).partition("_")[0]
    assert str(snapshot) in closed.ask("scontrol", "write", "batch_script", job, "-")


def test_a_cancelled_trial_leaves_the_queue_and_stays_so_until_it_is_retried(desk, closed):
    output = desk.tokscale("cancel", desk.name, "2")
    assert "cancelled 2 stages of 1 trial" in output
    assert table(desk)[2] == {"tokenizer": "cancelled", "reconstruction": "cancelled"}
    assert counted(desk) == {"queued": 6, "cancelled": 2}
    assert len(desk.queued(closed)) == 6
    assert "2 cancelled" in desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert len(desk.queued(closed)) == 6
    assert "submitted 2 stages" in desk.tokscale("retry", desk.name, "2")
    assert desk.queued(closed) == dict.fromkeys(desk.stages(), 1)


def test_trials_are_cancelled_by_a_condition(desk, closed):
    desk.tokscale("cancel", desk.name, "--where", "seed == 1")
    assert Counter(row["tokenizer"] for row in table(desk).values()) == {"queued": 2, "cancelled": 2}
    assert "did you mean 'seed'" in desk.tokscale("cancel", desk.name, "--where", "sed == 1", expected=2)
    desk.tokscale("cancel", desk.name)
    assert closed.queue() == {}
    desk.tokscale("retry", desk.name, "--cause", "cancelled")
    assert desk.queued(closed) == dict.fromkeys(desk.stages(), 1)


def test_what_was_cancelled_behind_our_back_is_not_submitted_again(desk, closed):
    lines = closed.ask("squeue", "-h", "-o", "%F %j").splitlines()
    closed.ask("scancel", next(line.split()[0] for line in lines if ".tokenizer." in line))
    closed.wait_until(lambda: counted(desk) == {"cancelled": 4, "blocked": 4}, 90)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert not any("tokenizer" in key for key in desk.queued(closed))
    desk.tokscale("retry", desk.name)
    assert desk.queued(closed) == dict.fromkeys(desk.stages(), 1)


def test_who_stops_watching_leaves_the_jobs(desk, closed):
    process = desk.start("run", desk.spec, "--cluster", "lab")
    heard = ""
    while "left as they are" not in heard:
        heard += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output = heard + process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "its jobs go on" in output
    assert desk.queued(closed) == dict.fromkeys(desk.stages(), 1)


def test_an_unknown_cluster_and_an_unknown_sweep_are_named(desk):
    assert "did you mean 'lab'" in desk.tokscale("submit", desk.spec, "--cluster", "lap", expected=2)
    assert "no cluster is named" in desk.tokscale("submit", desk.spec, expected=2)
    assert "did you mean 'two'" in desk.tokscale("cancel", "tow", expected=2)

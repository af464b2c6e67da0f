"""Watching a sweep on a real SLURM: what a person sees while it waits, runs, fails, and while the cluster is away."""

import json
import re
import stat
import time

import pytest

from sweeps.planning import make_plan
from sweeps.store import StageState
from sweeps.watching import observe
from tests.cluster.sweep_desk import CLUSTER, SHORT, SPEC, Desk

pytestmark = pytest.mark.xdist_group("slurm")
MANY = SPEC + "  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"


def put_before(desk, folder, program, script):
    """Have the desk find this script instead of a program of SLURM."""
    folder.mkdir(exist_ok=True)
    path = folder / program
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    if str(folder) not in desk.environment["PATH"]:
        desk.environment["PATH"] = f"{folder}:{desk.environment['PATH']}"


def test_forty_jobs_that_wait_are_one_question_to_the_queue(closed, tmp_path):
    desk = Desk.make(tmp_path / "desk", closed, MANY)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    asked = tmp_path / "asked"
    asked.mkdir()
    for program in ("squeue", "sacct"):
        put_before(desk, tmp_path / "bin", program, f'touch {asked}/{program}.$$\nPATH=${{PATH#*:}} {program} "$@"')
    text = desk.tokscale("status", desk.name)
    calls = [path.name.partition(".")[0] for path in asked.iterdir()]
    assert calls.count("squeue") == 1
    assert calls.count("sacct") <= 1
    assert "0 of 20 trials done, 20 queued" in text
    assert "0 of 40 stages done, 40 queued" in text
    assert len(re.findall(r"pico-pico\S* .*queued.*\d+_\d+", text)) == 20
    found = desk.status()
    assert found["trouble"] == []
    assert {row["status"] for row in found["table"]} == {"queued"}
    assert all(re.fullmatch(r"\d+_\d+", row["stages"]["tokenizer"]["job"]) for row in found["table"])
    table = json.loads(desk.tokscale("results", desk.name, "--json"))
    assert [row["status"] for row in table] == ["queued"] * 20, "as the cluster has them, not only the store"


def test_a_watch_follows_a_sweep_to_its_end(lab, tmp_path):
    desk = Desk.make(tmp_path, lab, SHORT)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    watching = desk.start("status", desk.name, "--watch")
    lab.wait_until(lambda: any(
        stage["state"] == "running" and stage["node"] in ("n1", "n2", "n3", "n4")
        for row in desk.status()["table"] for stage in row["stages"].values()
    ), 120)  # fmt: skip
    text, _ = watching.communicate(timeout=240)
    assert watching.returncode == 0, text
    assert len(re.findall(r"(tokenizer|reconstruction) pico-pico/4 n16 \S+ done", text)) == 4
    assert "all 2 trials done" in text
    key, log = desk.stages()[0], desk.tokscale("logs", desk.name, 1, "--kind", "tokenizer")
    assert f"stages/{key}/attempts/01/log.txt" in log


def test_a_controller_that_is_away_leaves_what_the_store_knows_and_says_so(closed, tmp_path, monkeypatch):
    desk = Desk.make(tmp_path, closed, SPEC)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    monkeypatch.chdir(tmp_path)
    observer = observe(make_plan(desk.spec, desk.store), desk.store)
    before = observer.look(60.0)
    closed.stop_controller()
    text = " ".join(desk.tokscale("status", desk.name).split())
    assert "slurmctld does not answer" in text
    assert "jobs are not known yet" in text
    assert text.count("pico-pico/4") == 2
    observer.queue.hurry()
    time.sleep(2.5)
    during = observer.look(60.0)
    assert during.statuses == before.statuses
    assert during.queue_when == before.queue_when
    assert any("queue states are as of" in words for words in during.trouble)
    closed.start_controller()
    observer.queue.hurry()
    time.sleep(2.5)
    after = observer.look(60.0)
    assert after.trouble == ()
    assert after.queue_when > before.queue_when


def test_a_queue_that_hangs_holds_up_no_picture(closed, tmp_path, monkeypatch):
    desk = Desk.make(tmp_path / "desk", closed, SPEC)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    put_before(desk, tmp_path / "bin", "squeue", "sleep 30")
    with monkeypatch.context() as here:  # what heals the lab afterwards needs a squeue that answers
        here.setenv("PATH", desk.environment["PATH"])
        look = observe(make_plan(desk.spec, desk.store), desk.store).look(patience=0.2)
    assert look.queue_when is None
    assert {status.state for status in look.statuses.values()} == {StageState.new}


def test_accounting_that_is_away_is_no_obstacle(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, SPEC)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    closed.stop_accounting()
    text = desk.tokscale("status", desk.name)
    assert "0 of 4 stages done, 4 queued" in text


def test_jobs_that_never_reached_their_stage_show_the_launchers_log(lab, tmp_path):
    broken = CLUSTER.replace("export OMP_NUM_THREADS=1", "'echo \"error: this environment is gone\"; exit 7'")
    desk = Desk.make(tmp_path, lab, SPEC, broken)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    text = desk.tokscale("status", desk.name, "--watch", expected=1)
    groups = [group for group in desk.status()["failures"] if group["state"] == "failed"]
    assert len(groups) == 1, groups
    (group,) = groups
    assert (group["cause"], group["count"], group["trials"]) == ("launch", 2, [1, 2])
    assert "| error: this environment is gone" in text
    assert "tokscale cluster check" in text
    assert "this environment is gone" in desk.tokscale("logs", desk.name, 2)


def test_where_slurm_is_not_installed_the_store_is_shown(closed, tmp_path):
    desk = Desk.make(tmp_path, closed, SPEC)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    desk.environment["PATH"] = "/nowhere"
    text = desk.tokscale("status", desk.name)
    assert text.count("squeue cannot be run") == 1
    assert text.count("pico-pico/4") == 2

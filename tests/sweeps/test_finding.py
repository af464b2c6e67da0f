"""Finding a sweep, a trial and a log by what a person remembers; light and without a cluster."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from slurm.executor import JobState, JobStatus
from sweeps.grid import expand
from sweeps.inspection import find_log, find_trial, stage_log
from sweeps.planning import make_plan
from sweeps.spec import load_spec
from sweeps.store import StageState, StageStatus, Store
from tests.sweeps.forty import key_of, look_at, running, shown
from tokscale import claim, front
from tokscale.errors import UsageError
from tokscale.record import Record, write_record


def test_a_job_that_never_reached_its_stage_shows_the_launchers_log(forty, tmp_path):
    plan, _ = forty
    store, key = Store(tmp_path / "runs"), key_of(plan, 1, "tokenizer")
    launcher = tmp_path / "launcher.log"
    launcher.write_text("ModuleNotFoundError: No module named 'torch'\n")
    job = JobStatus(key, JobState.failed, "ended with status 1", cause="launch", log=launcher)
    assert stage_log(store, key, None) is None
    assert stage_log(store, key, job) == launcher
    own = store.stages / key / "attempts" / "01" / "log.txt"
    own.parent.mkdir(parents=True)
    own.write_text("an earlier attempt, which came as far as this\n")
    assert stage_log(store, key, job) == launcher
    assert stage_log(store, key, replace(job, cause="killed")) == own
    look = look_at(
        plan, {key: StageStatus(StageState.failed, 0, "launch", "its Python never started")}, jobs={key: job}
    )
    assert any("No module named 'torch'" in line for line in shown(look, store, 120, 60))
    assert find_log(look, store, "1", None) == (key, launcher)


def test_other_ranks_have_logs_of_their_own(forty, tmp_path):
    plan, _ = forty
    store, key = Store(tmp_path), key_of(plan, 1, "tokenizer")
    folder = store.stages / key / "attempts" / "02"
    folder.mkdir(parents=True)
    for name in ("log.txt", "log-rank1.txt", "log-rank12.txt"):
        (folder / name).write_text("")
    look = look_at(plan, {key: running()})
    assert [find_log(look, store, "1", None, rank)[1].name for rank in (0, 1, 12)] == [
        "log.txt", "log-rank1.txt", "log-rank12.txt",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="rank 2"):
        find_log(look, store, "1", None, 2)


def test_a_trial_goes_by_its_number_its_id_its_label_or_their_beginning(forty, small_spec, tmp_path):
    plan, _ = forty
    assert find_trial(plan, "7") is plan.trials[6]
    assert all(find_trial(plan, trial.id) is trial for trial in plan.trials)
    unique = next(n for n in range(1, 17) if sum(t.id.startswith(plan.trials[8].id[:n]) for t in plan.trials) == 1)
    beginning = plan.trials[8].id[: max(unique, 4)]
    assert find_trial(plan, beginning) is plan.trials[8]
    with pytest.raises(UsageError, match="several trials") as error:
        find_trial(plan, "pico")
    assert "1 (pico-pico/4 n16 kl2, seed 0)" in str(error.value)
    for words in ("nothing", "pico-pico/4 n16 kl3"):
        with pytest.raises(UsageError, match="no trial of this name"):
            find_trial(plan, words)
    three = make_plan(small_spec, Store(tmp_path))
    assert find_trial(three, "pico-pico/4 n16 f") is three.trials[1]


@pytest.mark.parametrize("words", [["status", "SPEC"], ["status", "SPEC", "--json"], ["logs", "SPEC", "2"]])
def test_looking_imports_nothing_heavy_and_asks_no_cluster_that_is_not_there(small_spec, tmp_path, words):
    store = Store(tmp_path / "runs")
    first, second, _ = expand(*load_spec(small_spec))
    store.prepare(first.stages[0])
    write_record(store.folder(first.stages[0]).path, Record("tokenizer", first.stages[0].id, {}, {}, {}))
    folder = store.prepare(second.stages[0])
    claim.claim(folder.path).release({"state": "failed", "cause": "data", "message": "no images in /x"})
    folder.attempt(1).mkdir(parents=True)
    (folder.attempt(1) / "log.txt").write_text("no images here\n")
    asked = tmp_path / "asked"
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {asked}\n")
        (tmp_path / name).chmod(0o755)
    code = (
        "import sys\nfrom tokscale import front\ntry:\n    front.main(sys.argv[1:])\nexcept SystemExit as end:\n"
        "    assert not end.code\nprint('LOADED', sorted({'torch', 'lightning', 'pandas', 'matplotlib', 'scipy'} "
        "& set(sys.modules)))"
    )
    arguments = [str(small_spec) if word == "SPEC" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--runs", str(store.root)], capture_output=True, text=True, check=True,
        timeout=120, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert "no images" in done.stdout
    assert not asked.exists()


def test_a_sweep_that_is_not_there_is_refused_with_those_that_are(tmp_path, capsys):
    Store(tmp_path).write_sweep("first", "name: first\n", [])
    with pytest.raises(SystemExit) as end:
        front.main(["status", "frist", "--runs", str(tmp_path)])
    assert end.value.code == 2
    assert "did you mean 'first'" in capsys.readouterr().err

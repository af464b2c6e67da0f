"""What a person takes back and gives another chance: which trials, which stages, and what others still want."""

import json

import pytest

from slurm.executor import JobState, JobStatus
from sweeps import control, marks
from sweeps.planning import make_plan
from sweeps.standing import standings
from sweeps.store import StageState, Store, trial_rows
from tokscale import claim
from tokscale.errors import ConfigError, UsageError
from tokscale.stage import StageFolder as Folder

# two probes on each of two tokenizers
SPEC = """\
name: shared
trial:
  data: {kind: procedural, resolution: 16, validation_images: 80}
  tokenizer: {encoder: pico, decoder: pico, patch: 4}
  training: {images: 640, batch_size: 16}
grid:
  tokenizer.bottleneck.channels: [4, 8]
  probe.size: [pico, nano]
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def plan(tmp_path, store):
    path = tmp_path / "shared.yaml"
    path.write_text(SPEC)
    made = make_plan(path, store)
    store.write_sweep(made.spec.name, made.file.text, trial_rows(made.trials))
    return made


def of(trial):
    return {stage.kind: stage.key for stage in trial.stages}


def considered(plan, store, trials, jobs=None):
    jobs = jobs or {}
    return control.plan_cancellation(plan, store, trials, standings(plan, store, jobs), jobs)


def mark(store, keys):
    marks.cancel([Folder(store.stages / key) for key in keys], "test")


def states(plan, store):
    return {key: status.state.value for key, status in standings(plan, store, {}).items()}


def test_a_tokenizer_that_another_trial_wants_is_left_until_that_one_is_cancelled_too(plan, store):
    first, second, *others = plan.trials
    assert of(first)["tokenizer"] == of(second)["tokenizer"]
    made = considered(plan, store, [first])
    assert set(made.mark) == {of(first)["probe"], of(first)["generation"]}
    assert sum(made.shared.values()) == 3
    mark(store, made.mark)
    made = considered(plan, store, [second])
    assert set(made.mark) == set(of(second).values())
    assert made.shared == {}
    mark(store, made.mark)
    found = states(plan, store)
    assert {found[key] for trial in others for key in of(trial).values()} == {"new"}
    assert {found[key] for trial in (first, second) for key in of(trial).values()} == {"cancelled"}


def test_the_whole_sweep_is_cancelled_but_for_what_another_sweep_wants(plan, store, tmp_path):
    (tmp_path / "other.yaml").write_text(SPEC.replace("shared", "other").replace("[4, 8]", "[4]"))
    other = make_plan(tmp_path / "other.yaml", store)
    store.write_sweep("other", other.file.text, trial_rows(other.trials))
    made = considered(plan, store, plan.trials)
    wanted = set(other.stages)
    assert set(made.mark) == set(plan.stages) - wanted
    assert made.shared == {"sweep other": len(wanted)}
    mark(store, considered(other, store, other.trials).mark)  # leaves all: the first sweep wants them
    assert set(states(other, store).values()) == {"new"}
    mark(store, made.mark)
    (tmp_path / "runs" / "sweeps" / "other" / "trials.jsonl").unlink()
    assert set(considered(plan, store, plan.trials).mark) == wanted


def test_what_is_done_or_failed_is_no_longer_to_be_cancelled(plan, store):
    trial = plan.trials[0]
    held = claim.claim(store.prepare(trial.stages[0]).path)
    held.release({"state": "failed", "cause": "code", "message": "x"})
    assert of(trial)["tokenizer"] not in considered(plan, store, plan.trials).mark


def test_jobs_that_wait_or_run_are_ended_and_other_processes_are_named(plan, store):
    keys = of(plan.trials[0])
    jobs = {keys[kind]: JobStatus(keys[kind], state, worker="1_0") for kind, state in
            (("probe", JobState.running), ("generation", JobState.pending), ("latents", JobState.failed))}  # fmt: skip
    with claim.claim(store.prepare(plan.trials[0].stages[0]).path) as held:
        made = considered(plan, store, plan.trials, jobs)
    assert set(made.jobs) == {keys["probe"], keys["generation"]}
    assert made.elsewhere == {f"{held.owner.host}:{held.owner.pid}": 1}


def test_trials_are_chosen_by_name_and_by_condition(plan):
    assert control.select_trials(plan, None, None) == list(plan.trials)
    assert control.select_trials(plan, plan.trials[2].id, None) == [plan.trials[2]]
    chosen = control.select_trials(plan, None, "tokenizer.bottleneck.channels == 8 and bottleneck_floats > 0")
    assert chosen == list(plan.trials[2:])
    with pytest.raises(UsageError, match="holds for no trial"):
        control.select_trials(plan, None, "seed == 3")
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        control.select_trials(plan, None, "sed == 3")
    with pytest.raises(ConfigError, match="neither true nor false"):
        control.select_trials(plan, None, "seed + 1")


def fail(store, stage, cause):
    claim.claim(store.prepare(stage).path).release({"state": "failed", "cause": cause, "message": "x"})


def test_a_retry_forgives_what_is_asked_and_no_more(plan, store):
    first, other = plan.trials[0], plan.trials[2]
    fail(store, first.stages[0], "code")
    fail(store, other.stages[0], "diverged")
    mark(store, [of(other)["probe"]])
    now = standings(plan, store, {})
    with pytest.raises(UsageError, match="did you mean 'diverged'"):
        control.forgive(plan, store, plan.trials, now, "divergd")
    assert control.forgive(plan, store, plan.trials, now, "code") == [of(first)["tokenizer"]]
    found = states(plan, store)
    assert (found[of(first)["tokenizer"]], found[of(other)["tokenizer"]]) == ("interrupted", "failed")
    assert {found[stage.key] for stage in first.stages[1:]} == {"new"}
    now = standings(plan, store, {})
    assert set(control.forgive(plan, store, [other], now, None)) == {of(other)["tokenizer"], of(other)["probe"]}
    assert set(states(plan, store).values()) == {"interrupted", "new"}
    assert control.forgive(plan, store, plan.trials, standings(plan, store, {}), None) == []


class Cancelled:
    """An executor that only takes note of what it is asked to cancel."""

    def __init__(self):
        self.keys = []

    def cancel(self, keys):
        self.keys += keys


def test_jobs_that_wait_in_vain_make_room_for_a_retry(plan, store):
    keys = of(plan.trials[0])
    jobs = {keys["tokenizer"]: JobStatus(keys["tokenizer"], JobState.failed, "no module", worker="1_0", cause="launch"),
            keys["latents"]: JobStatus(keys["latents"], JobState.pending, "Dependency", worker="2_0"),
            keys["probe"]: JobStatus(keys["probe"], JobState.blocked, worker="3_0")}  # fmt: skip
    before, executor = standings(plan, store, jobs), Cancelled()
    assert before[keys["latents"]].state is StageState.blocked
    control.end_hopeless(plan, store, before, jobs, executor)
    assert executor.keys == []  # nothing was forgiven
    control.forgive(plan, store, plan.trials, before, None)
    control.end_hopeless(plan, store, before, jobs, executor)
    assert executor.keys == [keys["latents"]]
    jobs[keys["latents"]] = JobStatus(keys["latents"], JobState.cancelled, "cancelled", worker="2_0")
    after = standings(plan, store, jobs)
    assert {after[key].state for key in keys.values()} == {StageState.new}


def test_a_mark_says_who_and_why_and_a_damaged_one_is_still_a_mark(plan, store):
    stage = plan.trials[0].stages[0]
    mark(store, [stage.key])
    path = store.folder(stage).path / "cancelled"
    assert {"who", "when", "why"} <= json.loads(path.read_text()).keys()
    path.write_text("{")
    assert standings(plan, store, {})[stage.key].state is StageState.cancelled

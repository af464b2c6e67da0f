"""The status of a sweep: every trial accounted for, on any terminal, with the facts of what runs and what failed."""

import json
import random
import re
import time

import pytest

from sweeps.inspection import Effort, Reading, failure_groups
from sweeps.progress import readings
from sweeps.status_page import status_json, summary
from sweeps.status_tables import duration
from sweeps.store import StageState, StageStatus, Store
from tests.sweeps.forty import STATES, key_of, look_at, rows, running, shown


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("width", "height"), [(40, 24), (60, 24), (80, 24), (80, 60), (120, 30), (200, 50), (220, 90)])
def test_a_terminal_of_any_size_accounts_for_every_trial(forty, seed, width, height):
    plan, store = forty
    states = random.Random(seed).choices(STATES, k=len(plan.stages))
    causes = ("data", "code", "diverged")
    statuses = {
        key: StageStatus(state, 2, causes[number % 3] if state is StageState.failed else None, f"{number}")
        for number, (key, state) in enumerate(zip(plan.stages, states, strict=True))
    }  # fmt: skip
    read = {key: Reading(5, 10, 2.5, 0.5, time.time()) for key in plan.stages}
    look = look_at(plan, statuses, readings=read)
    lines = shown(look, store, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    more = next((re.match(r"\.\.\. and (\d+) more: (.*)", line) for line in lines if line.startswith("... and")), None)
    left = int(more[1]) if more else 0
    assert len(rows(lines)) + left == len(plan.trials)
    if more and "…" not in more[2]:
        assert sum(int(part.split()[0]) for part in more[2].split(", ")) == left


def test_without_a_terminal_every_trial_has_a_row(forty):
    plan, store = forty
    lines = shown(look_at(plan), store, 120, 25, terminal=False)
    assert sorted(rows(lines)) == list(range(1, 41))
    assert max(map(len, lines)) <= 120


def test_what_a_running_stage_warns_of_stands_above_the_table(forty, tmp_path):
    plan, store = forty
    key = key_of(plan, 7, "tokenizer")
    words = "the codebook collapses: a batch uses 0.05 of the codes"
    path = Store(tmp_path).stages / key / "progress.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"done": 10, "total": 20, "time": 1.0, "loss": 0.5, "warning": words}) + "\n")
    look = look_at(plan, {key: running()}, readings=readings(Store(tmp_path), [key]))
    found = [line for line in shown(look, store) if words in line]
    assert found == [f"trial 7 (pico-pico/4 n16 kl2): {words}"]
    stage = json.loads(status_json(look, store))["table"][6]["stages"]["tokenizer"]
    assert stage["warning"] == words
    over = look_at(plan, {key: StageStatus(StageState.done)}, readings=look.readings)
    assert not any(words in line for line in shown(over, store))


def test_what_runs_and_what_failed_comes_first(forty):
    plan, store = forty
    statuses = {stage.key: StageStatus(StageState.done) for stage in plan.trials[0].stages}
    statuses |= {key_of(plan, number, "tokenizer"): running() for number in (33, 38)}
    statuses |= {key_of(plan, 40, "reconstruction"): StageStatus(StageState.failed, 1, "code", "KeyError: 'x'")}
    found = list(rows(shown(look_at(plan, statuses), store, 200, 30)))
    assert found[:3] == [33, 38, 40]
    assert found[3:] == list(range(2, 2 + len(found) - 3))  # the done one comes last


def test_neither_running_nor_failed_trials_crowd_the_others_out(forty):
    plan, store = forty
    statuses = {key_of(plan, number, "tokenizer"): running() for number in range(1, 21)}
    statuses |= {
        key_of(plan, number, "tokenizer"): StageStatus(StageState.failed, 1, "code", "") for number in range(21, 41)
    }
    found = rows(shown(look_at(plan, statuses), store, 200, 30))
    assert 3 <= sum(number <= 20 for number in found) <= len(found) - 3


@pytest.mark.parametrize("width", [80, 120, 200])
def test_all_that_is_known_of_a_running_stage_is_there_on_every_width(forty, width):
    plan, store = forty
    key = key_of(plan, 1, "tokenizer")
    look = look_at(
        plan, {key: running(attempts=3)}, readings={key: Reading(62.9, 100, 1234.4, 0.31254, time.time())},
        seconds_left={key: 4000.0},
    )  # fmt: skip
    text = "\n".join(shown(look, store, width))
    for fact in ("62 %", "1,234", "images/s", "0.3125", "1:06 h", "attempt", "3", "n4", "77_3"):
        assert fact in text


def test_progress_is_never_said_to_be_more_than_it_is(forty):
    plan, store = forty
    key = key_of(plan, 1, "tokenizer")
    look = look_at(plan, {key: running()}, readings={key: Reading(999.9, 1000, None, None, time.time())})
    assert "99 %" in rows(shown(look, store))[1]


def test_a_running_stage_without_a_step_for_long_says_so(forty):
    plan, store = forty
    key, now = key_of(plan, 1, "tokenizer"), time.time()
    look = look_at(plan, {key: running()}, readings={key: Reading(1, 9, 5.0, 1.0, now - 1200)}, when=now,
                   seconds_left={key: 1.6})  # fmt: skip
    assert "silent 20:00 min" in rows(shown(look, store))[1]


def test_a_cell_says_why_where_there_is_room(forty):
    plan, store = forty
    statuses = {
        key_of(plan, 1, "tokenizer"): StageStatus(StageState.queued, job="5_0", reason="waits for free resources"),
        key_of(plan, 1, "reconstruction"): StageStatus(StageState.queued, reason="waits for a job before it"),
        key_of(plan, 2, "tokenizer"): StageStatus(StageState.failed, 1, "diverged", "loss is nan"),
        key_of(plan, 2, "reconstruction"): StageStatus(StageState.blocked),
        key_of(plan, 3, "tokenizer"): StageStatus(StageState.interrupted, 1, "preempted"),
    }  # fmt: skip
    found = rows(shown(look_at(plan, statuses), store, 200))
    assert re.search(r"queued: resources +queued +new +new +new +5_0", found[1])
    assert re.search(r"failed: diverged +blocked +new", found[2])
    assert "interrupted: preempted" in found[3]


def test_the_columns_are_what_tells_trials_apart_and_the_label_does_not_say(forty):
    plan, store = forty
    heading = next(line for line in shown(look_at(plan), store) if " trial " in line)
    assert re.search(r"# +trial +seed +lr +tokenizer +reconstruction +latents +probe +generation", heading)
    assert "0.002" in rows(shown(look_at(plan), store))[11]


def test_a_column_counts_the_stages_of_its_kind(forty):
    plan, store = forty
    statuses = {key_of(plan, number, "tokenizer"): StageStatus(StageState.done) for number in range(1, 8)}
    counts = next(line for line in shown(look_at(plan, statuses), store) if line.startswith("    stages done"))
    assert counts.split()[2:] == ["7/40", "0/40", "0/40", "0/40", "0/40"]


def test_the_summary_has_states_effort_time_and_trouble(forty):
    plan, _ = forty
    queued = {key_of(plan, n, "tokenizer"): StageStatus(StageState.queued, reason="waits for free resources")
              for n in (1, 2, 3)}  # fmt: skip
    look = look_at(plan, queued, effort=Effort(12.34, 123.4, 7200.0, 4, True), trouble=("slurmctld is away",))
    words = summary(look)
    assert words.startswith("forty: 0 of 40 trials done, 3 queued, 37 new")
    assert "0 of 200 stages done, 3 queued (3 waits for free resources), 197 new" in words
    assert "12.3 GPU hours spent, about 123 GPU hours left, done in about 2:00 h with 4 at a time, seen at " in words
    assert words.endswith("slurmctld is away")
    assert "all 40 trials done" in summary(look_at(plan, dict.fromkeys(plan.stages, StageStatus(StageState.done))))


def test_the_same_failure_of_many_trials_stands_once_with_remedy_and_log(forty, tmp_path):
    plan, _ = forty
    store = Store(tmp_path)
    keys = [key_of(plan, number, "tokenizer") for number in range(1, 31)]
    statuses = {
        key: StageStatus(
            StageState.failed,
            1,
            "diverged",
            f"DivergedError: no number at step {number} of {key}\n  given: {number / 7}",
        )
        for number, key in enumerate(keys)
    }
    odd = key_of(plan, 40, "tokenizer")
    statuses[odd] = StageStatus(StageState.failed, 1, "code", "KeyError: 'x'")
    log = store.stages / keys[0] / "attempts" / "01" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"step {step}\n" for step in range(100)))
    look = look_at(plan, statuses)
    first, second = failure_groups(look, store)
    assert (first.cause, len(first.stages), first.trials, first.log) == ("diverged", 30, tuple(range(1, 31)), log)
    assert (second.stages, second.trials, second.log) == ((odd,), (40,), None)
    text = "\n".join(shown(look, store, 120, 70))
    assert text.count("DivergedError") == 1
    assert "30 failed: diverged (tokenizer)" in text
    assert "and 27 more" in text
    assert "training.lr" in text
    assert str(log) in text.replace("\n  ", "")
    assert "| step 99" in text
    assert "1 failed: code (tokenizer)" in text


def test_what_was_interrupted_by_a_fault_is_shown_and_a_preemption_is_not(forty):
    plan, store = forty
    statuses = {
        key_of(plan, 1, "tokenizer"): StageStatus(StageState.interrupted, 1, "preempted"),
        key_of(plan, 2, "tokenizer"): StageStatus(StageState.interrupted, 1, "node", "n2 went away"),
        key_of(plan, 3, "tokenizer"): StageStatus(StageState.cancelled, 1, "cancelled", "by somebody"),
    }
    groups = failure_groups(look_at(plan, statuses), store)
    assert [(group.state.value, group.cause) for group in groups] == [
        ("interrupted", "node"),
        ("cancelled", "cancelled"),
    ]
    assert all(group.remedy for group in groups)


def test_the_json_twin_has_all_that_the_tables_have(forty):
    plan, store = forty
    key, failed = key_of(plan, 1, "tokenizer"), key_of(plan, 2, "tokenizer")
    look = look_at(
        plan, {key: running(), failed: StageStatus(StageState.failed, 2, "code", "KeyError: 'x'")},
        readings={key: Reading(50, 100, 10.0, 0.5, time.time())}, seconds_left={key: 5.0}, trouble=("away",),
    )  # fmt: skip
    found = json.loads(status_json(look, store))
    assert found["trials"] == {"running": 1, "failed": 1, "new": 38}
    kind = found["stages"][0]
    assert (kind["kind"], kind["stages"], kind["running"], kind["failed"]) == ("tokenizer", 40, 1, 1)
    first, second = found["table"][:2]
    assert first["stages"]["tokenizer"] == {
        "stage": key, "state": "running", "attempts": 1, "job": "77_3", "node": "n4", "seconds_left": 5.0,
        "share": 0.5, "per_second": 10.0, "loss": 0.5,
    }  # fmt: skip
    assert (second["number"], second["trial"], second["status"]) == (2, plan.trials[1].id, "failed")
    assert second["values"] == dict(plan.trials[1].values)
    assert [(group["cause"], group["count"]) for group in found["failures"]] == [("code", 1)]
    assert found["trouble"] == ["away"]


def test_a_progress_file_that_says_nothing_yet_is_no_reading(tmp_path):
    store = Store(tmp_path)
    for name, content in {"a": "", "b": '{"done": 3, "total"', "c": '{"done": 3, "total": 4, "loss": 2}\n{"do'}.items():
        (store.stages / "probe" / name).mkdir(parents=True)
        (store.stages / "probe" / name / "progress.jsonl").write_text(content)
    found = readings(store, ["probe/a", "probe/b", "probe/c", "probe/none"])
    assert list(found) == ["probe/c"]
    assert (found["probe/c"].share, found["probe/c"].loss, found["probe/c"].per_second) == (0.75, 2.0, None)


def test_durations_are_for_people():
    assert [duration(s) for s in (0.4, 59, 61, 3599, 3700)] == ["0 s", "59 s", "1:01 min", "59:59 min", "1:01 h"]

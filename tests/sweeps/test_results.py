"""The results table: one row per trial, measures only where they were taken, failures once with a count."""

import json

import pandas as pd
import pytest

from sweeps.plan_tables import plan_json
from sweeps.planning import make_plan, summarize
from sweeps.progress import Estimate, duration, last_line
from sweeps.results import collect, failures, tail, trial_state, write_table
from sweeps.schema import spec_schema
from sweeps.store import StageState, StageStatus, Store
from tokscale import claim
from tokscale.errors import UsageError
from tokscale.record import COLUMNS, Record, write_record


def finish(store, stage, **measures):
    store.prepare(stage)
    write_record(store.folder(stage).path, Record(stage.kind, stage.id, {}, {}, measures))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def test_a_row_holds_what_was_measured_and_nothing_else(small_spec, store):
    plan = make_plan(small_spec, store)
    first = plan.trials[0]
    finish(store, first.stages[0], train_images=640, wall_seconds=2.0, gpu_seconds=0.0)
    finish(store, first.stages[1], psnr=20.5, features="random-conv", wall_seconds=0.5, gpu_seconds=0.0)
    table = collect(make_plan(small_spec, store), store)
    assert len(table) == 3
    assert list(table["status"]) == ["new"] * 3
    assert table["psnr"].isna().tolist() == [False, True, True]
    assert table["wall_seconds"][0] == 2.5
    assert "ar_loss" not in table  # absent, not 0
    assert table["bottleneck_floats"].tolist() == [64, 32, 64]
    assert table["tokenizer.bottleneck.channels"][0] == 4
    known = [name for name in table if name in COLUMNS]
    assert known == [name for name in COLUMNS if name in table]
    assert list(table)[: len(known)] == known


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".json"])
def test_a_table_comes_back_from_every_format(small_spec, store, tmp_path, ending):
    table = collect(make_plan(small_spec, store), store)
    path = tmp_path / f"table{ending}"
    write_table(table, path)
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}[ending](path)
    assert read["label"].tolist() == table["label"].tolist()
    assert read["tokenizer_params"].tolist() == table["tokenizer_params"].tolist()


def test_a_format_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.parquet"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "t.xlsx")


def test_the_same_failure_of_many_trials_stands_once(small_spec, store):
    plan = make_plan(small_spec, store)
    for trial in plan.trials:
        folder = store.prepare(trial.stages[0])
        claim.claim(folder.path).release({"state": "failed", "cause": "data", "message": "no images in /x"})
    plan = make_plan(small_spec, store)
    (group,) = failures(plan)
    assert (group["cause"], group["count"], len(group["trials"])) == ("data", 3, 3)
    assert [trial_state(trial, plan.statuses) for trial in plan.trials] == [StageState.failed] * 3
    assert [row.states["failed"] for row in summarize(plan)] == [3, 0, 0, 0, 0]


def test_a_plan_counts_states_and_what_is_left_to_do(small_spec, store):
    plan = make_plan(small_spec, store)
    before = {row.kind: row for row in summarize(plan)}
    finish(store, plan.trials[0].stages[0])
    after = {row.kind: row for row in summarize(make_plan(small_spec, store))}
    assert before["tokenizer"].states["new"] == 3
    assert (after["tokenizer"].states["new"], after["tokenizer"].states["done"]) == (2, 1)
    first = plan.costs[plan.trials[0].stages[0].key].flops
    assert before["tokenizer"].missing_flops - after["tokenizer"].missing_flops == pytest.approx(first)
    rows = json.loads(plan_json(plan))
    assert len(rows["trials"]) == 3
    assert len(rows["trials"][0]["stages"]) == 5


def test_the_estimate_is_work_over_rate(small_spec, store, monkeypatch):
    plan = make_plan(small_spec, store)
    clock = [0.0]
    monkeypatch.setattr("sweeps.progress.time.monotonic", lambda: clock[0])
    estimate = Estimate(plan, workers=2)
    statuses = dict(plan.statuses)
    assert estimate.seconds_left(statuses, {}) is None
    first, *others = [key for key in plan.stages if key.startswith("tokenizer/")]
    estimate.note(first, StageState.new, StageState.running)
    clock[0] = 10.0
    estimate.note(first, StageState.running, StageState.done)
    done = StageStatus(StageState.done)
    for key in plan.stages:
        if key not in others:
            statuses[key] = done
    rate = 10.0 / estimate.work[first]
    expected = sum(estimate.work[key] for key in others) * rate / 2
    assert estimate.seconds_left(statuses, {}) == pytest.approx(expected)
    half = estimate.seconds_left(statuses, {others[0]: 0.5})
    assert half == pytest.approx(expected - estimate.work[others[0]] * rate / 4)


def test_durations_are_for_people():
    assert [duration(s) for s in (0.4, 59, 61, 3599, 3700)] == ["0 s", "59 s", "1:01 min", "59:59 min", "1:01 h"]


def test_the_last_whole_line_is_read(tmp_path):
    path = tmp_path / "progress.jsonl"
    assert last_line(path) == {}
    path.write_text('{"done": 1}\n{"done": 2}\n{"do')
    assert last_line(path) == {"done": 2}


def test_a_tail_is_the_end_of_a_long_file(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert tail(path, 2) == "line 99998\nline 99999"


def test_the_schema_knows_every_section_and_takes_the_specs_that_ship():
    from sweeps.spec import SweepSpec
    from tokscale.config import TrialSections

    schema = spec_schema()
    assert set(schema["properties"]) == set(SweepSpec.model_fields)
    assert set(schema["$defs"]["TrialSections"]["properties"]) == set(TrialSections.model_fields)
    assert schema["$defs"]["TransformerSize"]["anyOf"][0]["type"] == "string"

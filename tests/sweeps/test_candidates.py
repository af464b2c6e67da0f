"""The trials of a grid as rows for whoever chooses among them, and the spec of those that were chosen."""

from __future__ import annotations

import pytest

from sweeps.candidates import ASSUMED_TFLOPS, candidates, spec_of_trials
from sweeps.grid import expand
from sweeps.planning import make_plan
from sweeps.spec import load_spec, parse_spec
from sweeps.store import Store
from tests.sweeps.search_bench import SPEC as SEARCH
from tests.sweeps.search_bench import Bench, asked, fail, finish
from tokscale import claim
from tokscale.errors import ConfigError, UsageError
from tokscale.record import Record, write_record

SPEC = """\
# which size, for whom
name: study
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
  training: {lr: 2.0e-3}  # as in the paper
  probe: null
grid:
  tokenizer.bottleneck:
    - {kind: kl, channels: 2}
    - {kind: kl, channels: 4}
    - {kind: fsq, levels: [4, 4]}
  seed: [0, 1]
where: ["bottleneck_tokens <= 64"]
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_what_is_not_done_is_a_candidate_with_its_sizes_and_hours(spec, runs):
    store, plan = Store(runs), make_plan(spec, Store(runs))
    finish(store, plan.trials[0], psnr=20.0)
    fail(store, plan.trials[1].stages[0], "diverged")
    claim.claim(store.prepare(plan.trials[2].stages[0]).path)
    offered = candidates(spec, runs)
    by_trial = {row["trial"]: row for row in offered["candidates"]}
    assert list(by_trial) == [trial.id for trial in plan.trials[1:]]
    assert [row["status"] for row in by_trial.values()] == ["failed", "running", "new", "new", "new"]
    assert by_trial[plan.trials[2].id]["bottleneck_floats"] == plan.trials[2].sizes["bottleneck_floats"]
    done = [row for row in offered["results"] if "psnr" in row]
    assert [(row["trial"], row["psnr"]) for row in done] == [(plan.trials[0].id, 20.0)]
    assert all(row["gpu_hours"] == pytest.approx(sum(row["stages"].values())) for row in by_trial.values())


def test_seeds_share_a_configuration_and_different_settings_do_not(spec, runs):
    rows = candidates(spec, runs)["results"]
    found = [row["configuration"] for row in rows]
    assert found[0::2] == found[1::2]
    assert len(set(found)) == 3


def test_hours_are_flops_at_an_assumed_rate_until_one_was_measured(spec, runs):
    store, plan = Store(runs), make_plan(spec, Store(runs))
    offered = candidates(spec, runs)
    assert "assumed" in offered["words"]
    stage = plan.trials[0].stages[0]
    flops = plan.costs[stage.key].flops
    assert offered["candidates"][0]["stages"][stage.key] == pytest.approx(flops / (ASSUMED_TFLOPS * 1e12) / 3600)
    # a tenth of that rate, measured
    seconds = 10 * flops / (ASSUMED_TFLOPS * 1e12)
    write_record(store.folder(stage).path, Record(stage.kind, stage.id, {}, {}, {"gpu_seconds": seconds}))
    measured = candidates(spec, runs)
    assert "reached" in measured["words"]
    assert stage.key not in measured["candidates"][0]["stages"]  # what is done costs nothing more
    other = plan.trials[2].stages[0].key
    before, after = (one["candidates"][2]["stages"][other] for one in (offered, measured))
    assert after == pytest.approx(10 * before)


def test_the_spec_of_some_trials_holds_exactly_those(spec):
    made, file = load_spec(spec)
    trials = expand(made, file)
    chosen = [trials[1].id, trials[4].id, trials[5].id]
    text = spec_of_trials(spec, chosen)
    small = parse_spec(text, spec)
    assert [trial.id for trial in expand(*small)] == chosen
    assert small[0].name == "study-next"
    assert "# as in the paper" in text  # as its author wrote it


def test_one_path_and_no_path_need_no_zip(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(SPEC.replace("  seed: [0, 1]\n", ""))
    trials = expand(*load_spec(path))
    assert [trial.id for trial in expand(*parse_spec(spec_of_trials(path, [trials[2].id]), path))] == [trials[2].id]
    path.write_text(SPEC[: SPEC.index("grid:")])
    (only,) = expand(*load_spec(path))
    assert [trial.id for trial in expand(*parse_spec(spec_of_trials(path, [only.id]), path))] == [only.id]


def test_trials_of_another_spec_and_searches_are_refused(spec, runs, tmp_path):
    with pytest.raises(UsageError, match="not of this spec"):
        spec_of_trials(spec, ["0" * 16])
    path = tmp_path / "search.yaml"
    path.write_text(SEARCH)
    with pytest.raises(UsageError, match="chooses its own trials"):
        candidates(path, runs)


INFORMATION = """\
name: study
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
  probe: null
search:
  sampler: information
  target: psnr at bottleneck_floats=4096
  law: semilog
  trials: 7
  parallel: 2
  space:
    tokenizer.bottleneck.channels: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    tokenizer.patch: [4, 8]
  objectives: [psnr]
  constraints: ["bottleneck_floats <= 1024"]
"""


def test_a_search_for_information_asks_for_large_sizes_when_the_target_is_larger(tmp_path):
    made = Bench(tmp_path, INFORMATION)
    plan = made.run(most_open=2)
    floats = [trial.sizes["bottleneck_floats"] for trial in plan.trials]
    assert len({trial.id for trial in plan.trials}) == 7
    assert max(floats) <= 1024
    assert max(floats[4:]) >= 512


def folder(place, name):
    (place / name).mkdir()
    return place / name


def test_a_search_for_information_goes_on_where_it_was_interrupted(tmp_path):
    unbroken, broken = Bench(folder(tmp_path, "a"), INFORMATION), Bench(folder(tmp_path, "b"), INFORMATION)
    unbroken.run()
    broken.run(again=True)
    assert asked(unbroken.points()) == asked(broken.points())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  target: psnr at bottleneck_floats=4096\n", "", "needs a target"),
        ("psnr at bottleneck_floats=4096", "mse at bottleneck_floats=4096", "not about the objective psnr"),
        ("sampler: information", "sampler: tpe", "only information has it"),
        ("objectives: [psnr]", "objectives: [psnr, ssim]", "one objective"),
    ],
)
def test_a_search_for_information_says_what_it_needs(tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=message):
        parse_spec(INFORMATION.replace(old, new), tmp_path / "study.yaml")

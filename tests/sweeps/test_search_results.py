"""What a search makes of results: seeds, the grid's points, failures, an edited spec, and a second process."""

import os

import pytest

from sweeps.planning import make_plan
from tests.sweeps.search_bench import SPEC, Bench, fail, finish, study
from tokscale.errors import ConfigError


@pytest.fixture
def bench(tmp_path):
    def make(text=SPEC, profile=None):
        return Bench(tmp_path, text, profile)

    return make


def test_each_point_is_judged_on_its_seeds(bench):
    made = bench(SPEC.replace("parallel: 1", "parallel: 1\n  repeats: 3").replace("trials: 12", "trials: 2"))
    with made.rounds() as rounds:
        plan = rounds.advance({})
        assert [trial.config.seed for trial in plan.trials] == [0, 1, 2]
        for trial, decibels in zip(plan.trials, (20.0, 22.0, 27.0), strict=True):
            assert rounds.advance(made.store.statuses(plan.stages.values())) is plan
            finish(made.store, trial, psnr=decibels)
        assert len(rounds.advance(made.store.statuses(plan.stages.values())).trials) == 6
    assert study(made.store).trials[0].value == pytest.approx(23.0)


def test_every_point_of_the_grid_has_a_search_of_its_own(bench):
    text = SPEC.replace("trials: 12", "trials: 3").replace("    tokenizer.bottleneck.channels: [2, 4, 8, 16]\n", "")
    made = bench(text + "grid: {tokenizer.bottleneck.channels: [2, 8], seed: [0, 1]}\n")
    plan = made.run()
    assert [(trial.config.tokenizer.bottleneck.channels, trial.config.seed) for trial in plan.trials] == [
        (2, 0), (2, 1), (8, 0), (8, 1)] * 3  # fmt: skip
    for channels in (2, 8):
        assert len(study(made.store, f"study tokenizer.bottleneck.channels={channels}").trials) == 3


def test_failures_are_told_as_what_they_are_and_mended_ones_too(bench):
    made = bench(SPEC.replace("parallel: 1", "parallel: 4"))
    with made.rounds() as rounds:
        first = rounds.advance({})
        fail(made.store, first.trials[0].stages[0], "diverged")
        fail(made.store, first.trials[1].stages[0], "code")
        finish(made.store, first.trials[2], psnr=20.0)
        larger = rounds.advance(made.store.statuses(first.stages.values()))
        assert len(larger.trials) == 7
        told = study(made.store).trials
        assert [trial.state.name for trial in told] == ["PRUNED", "FAIL", "COMPLETE", *["RUNNING"] * 4]
        assert told[0].constraints == {"diverged": 1.0}
        finish(made.store, first.trials[1], psnr=21.0)  # somebody retried it
        rounds.advance(made.store.statuses(larger.stages.values()))
        assert [trial.state.name for trial in study(made.store).trials][:3] == ["PRUNED", "COMPLETE", "COMPLETE"]


def test_a_measure_that_trials_do_not_have_is_named_before_anything_runs(bench):
    made = bench(SPEC.replace("[psnr]", "[ar_loss]"))
    with pytest.raises(ConfigError, match="they have no probe") as refusal:
        make_plan(made.spec, made.store)
    assert "study.yaml:12" in str(refusal.value)


def test_a_linear_accuracy_needs_the_section_that_asks_for_it(bench):
    text = SPEC.replace("[psnr]", "[ar_linear_accuracy]").replace("probe: null", "generation: null")
    with pytest.raises(ConfigError, match="they have no linear_probe"):
        make_plan(bench(text).spec, bench(text).store)
    made = bench(text.replace("generation: null", "generation: null\n  linear_probe: {}"))
    make_plan(made.spec, made.store)


def test_a_rate_needs_a_probe_that_gives_one(bench):
    diffusion = SPEC.replace("probe: null", "probe: {kind: diffusion, size: pico}")
    make_plan(bench(diffusion.replace("[psnr]", "[diffusion_loss]")).spec, bench(diffusion).store)
    for text, measure, kind in (
        (diffusion, "ar_bits_per_image", "diffusion"),
        (SPEC.replace("probe: null", "probe: {size: pico}"), "diffusion_loss", "autoregressive"),
    ):
        made = bench(text.replace("[psnr]", f"[{measure}]"))
        with pytest.raises(ConfigError, match="their probe is of another kind") as refusal:
            make_plan(made.spec, made.store)
        assert f"probe.kind: {kind}" in str(refusal.value)


def test_an_objective_at_a_scale_of_guidance_needs_that_scale(bench):
    text = SPEC.replace("[psnr]", "[gfd_cfg1.5]").replace(
        "probe: null", "probe: {size: pico}\n  generation: {cfg_scales: [1, 1.5]}"
    )
    made = bench(text)
    make_plan(made.spec, made.store)
    made = bench(text.replace("[1, 1.5]", "[1, 3]"))
    with pytest.raises(ConfigError, match="another scale of guidance") as refusal:
        make_plan(made.spec, made.store)
    assert "[1, 3]" in str(refusal.value)


@pytest.mark.parametrize("measure", ["probe_loss", "probe_bits"])
def test_pruning_by_intermediate_probes_needs_some(bench, measure):
    text = SPEC + f"  pruner: {{measure: {measure}}}\n"
    with pytest.raises(ConfigError, match="there are none") as refusal:
        make_plan(bench(text).spec, bench(text).store)
    assert "trial.training.probe_every" in str(refusal.value)
    made = bench(text.replace("  probe: null", "  probe: null\n  training: {probe_every: 10k}"))
    make_plan(made.spec, made.store)


def test_a_measure_that_no_stage_of_this_version_takes_is_named_with_the_first_result(bench):
    made = bench(SPEC.replace("[psnr]", "[lpips]"))
    with made.rounds() as rounds:
        plan = rounds.advance({})
        finish(made.store, plan.trials[0], psnr=20.0)
        with pytest.raises(ConfigError, match="has no lpips") as refusal:
            rounds.advance(made.store.statuses(plan.stages.values()))
    assert "study.yaml:12" in str(refusal.value)
    assert "psnr" in str(refusal.value)


def test_an_edited_spec_keeps_what_is_still_its_own(bench):
    made = bench()
    made.run()
    wider = SPEC.replace("trials: 12", "trials: 15").replace("[2, 4, 8, 16]", "[2, 4, 8, 16, 32]")
    made.spec.write_text(wider)
    assert len(made.run().trials) == 15
    made.spec.write_text(SPEC.replace("patch: 8", "patch: 16"))
    edited = make_plan(made.spec, made.store)
    assert edited.trials == ()
    assert "15 of an earlier spec left out" in edited.asked
    assert len(made.run().trials) == 12
    made.spec.write_text(wider)
    assert len(make_plan(made.spec, made.store).trials) == 15


def test_one_process_asks_and_another_follows_and_takes_over(bench):
    made = bench()
    first, second = made.rounds(), made.rounds()
    plan = first.advance({})
    assert [trial.id for trial in second.advance({}).trials] == [trial.id for trial in plan.trials]
    finish(made.store, plan.trials[0], psnr=20.0)
    statuses = made.store.statuses(plan.stages.values())
    assert len(second.advance(statuses).trials) == 1  # it does not ask
    assert second.asker().endswith(f":{os.getpid()}")
    assert first.asker() is None
    assert len(first.advance(statuses).trials) == 2
    assert len(second.advance(statuses).trials) == 2
    first.close()
    finish(made.store, first.plan.trials[1], psnr=20.0)
    assert len(second.advance(made.store.statuses(first.plan.stages.values())).trials) == 3
    second.close()

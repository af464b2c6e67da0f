"""Identity of stages: a hash of what matters and of nothing else, stable for ever."""

from typing import Any

import pytest
from pydantic import Field

from tokscale.config import Config, TrialConfig
from tokscale.parsing import parse
from tokscale.stage import KINDS, StageFolder, TrialStages, canonical, identity_values, stages_of, trial_id

SMALL: dict[str, Any] = {"tokenizer": {"encoder": "nano", "decoder": "micro", "patch": 8}}


def ids(**changes):
    return {stage.kind: stage.id for stage in stages_of(parse(TrialConfig, {**SMALL, **changes}))}


def changed(before, after):
    return {kind for kind in before if before[kind] != after.get(kind)}


def test_a_trial_is_a_graph_with_parents_first():
    taught = {"semantic": {"layer": 1, "features": {"kind": "classifier"}}}
    stages = stages_of(parse(TrialConfig, {**SMALL, "losses": taught, "linear_probe": {}, "decoder_finetune": {}}))
    assert tuple(stage.kind for stage in stages) == KINDS
    assert [stage.kind for stage in stages_of(parse(TrialConfig, SMALL))] == [
        kind for kind in KINDS if kind not in ("teacher", "decoder_finetune", "linear_probe")
    ]
    seen = {}
    for stage in stages:
        assert all(seen[kind] == identity for kind, identity in stage.parents.items())
        seen[stage.kind] = stage.id


@pytest.mark.parametrize(
    ("change", "rerun"),
    [
        ({"seed": 1}, {"tokenizer", "reconstruction", "latents", "probe", "generation"}),
        ({"training": {"lr": 3e-4}}, {"tokenizer", "reconstruction", "latents", "probe", "generation"}),
        ({"evaluation": {"pictures": 4}}, {"reconstruction", "generation"}),
        ({"data": {"validation_images": 10}}, {"reconstruction", "latents", "probe", "generation"}),
        ({"latents": {"images": 10}}, {"latents", "probe", "generation"}),
        ({"probe": {"mixtures": 3}}, {"probe", "generation"}),
        ({"generation": {"images": 30}}, {"generation"}),
        ({"generation": None}, {"generation"}),
        ({"probe": None}, {"latents", "probe", "generation"}),
        ({"linear_probe": {"epochs": 20}}, set()),
        ({"decoder_finetune": {}}, {"reconstruction", "generation"}),
        ({"training": {"ema": 0.999}}, {"tokenizer", "reconstruction", "latents", "probe", "generation"}),
    ],
)
def test_a_change_runs_again_only_what_stands_on_it(change, rerun):
    assert changed(ids(), ids(**change)) == rerun


def test_a_stand_in_teacher_is_a_stage_that_trials_share():
    def taught(weight=0.5, seed=0, **teacher):
        semantic = {"weight": weight, "layer": 1, "features": {"kind": "classifier", **teacher}}
        return ids(losses={"semantic": semantic}, seed=seed)

    first = taught()
    assert first.keys() - ids().keys() == {"teacher"}
    assert {other["teacher"] for other in (taught(weight=0.1), taught(seed=1))} == {first["teacher"]}
    assert taught(weight=0)["tokenizer"] not in (first["tokenizer"], ids()["tokenizer"])
    assert "teacher" not in taught(weight=0)
    assert changed(first, taught(images=1000)) == set(first)
    named = ids(losses={"semantic": {"layer": 1, "features": "dinov2-s"}})
    assert "teacher" not in named


def test_many_finetuned_decoders_stand_on_one_tokenizer_and_share_its_latents():
    def finetuned(weight, **changes):
        losses = {"gan": {"weight": weight, "discriminator": {"channel_base": 512}}}
        return ids(decoder_finetune={"losses": losses}, **changes)

    one, other = finetuned(0.05), finetuned(0.1)
    assert changed(one, other) == {"decoder_finetune", "reconstruction", "generation"}
    assert changed(one, finetuned(0.05, data={"validation_images": 10})) == set(one) - {"tokenizer", "decoder_finetune"}
    assert changed(one, finetuned(0.05, seed=1)) == set(one)
    assert changed(one, finetuned(0.05, linear_probe={})) == set()
    trial = parse(TrialConfig, {**SMALL, "decoder_finetune": {}, "linear_probe": {}})
    stages = {stage.kind: stage for stage in stages_of(trial)}
    assert stages["decoder_finetune"].parents == {"tokenizer": stages["tokenizer"].id}
    both = {kind: stages[kind].id for kind in ("tokenizer", "decoder_finetune")}
    assert stages["reconstruction"].parents == both
    assert stages["generation"].parents == {**both, "probe": stages["probe"].id}
    assert stages["linear_probe"].parents.keys() == {"tokenizer", "probe"}


def test_a_later_section_is_in_the_id_of_trials_that_have_it():
    plain, with_section = (parse(TrialConfig, {**SMALL, **more}) for more in ({}, {"linear_probe": {}}))
    assert trial_id(plain) == "f8a83fdb5e1741b0"
    assert trial_id(with_section) != trial_id(plain)
    stages = {stage.kind: stage for stage in stages_of(with_section)}
    assert stages["linear_probe"].parents == {kind: stages[kind].id for kind in ("tokenizer", "probe")}


def test_how_a_value_is_written_does_not_matter():
    assert ids(training={"lr": 1, "images": "1k"}) == ids(training={"lr": 1.0, "images": 1000})
    assert ids(tokenizer={**SMALL["tokenizer"], "encoder": {"width": 64, "depth": 1, "heads": 2}}) == ids()


def test_stages_of_many_trials_are_those_of_each():
    builder = TrialStages()
    trials = [parse(TrialConfig, {**SMALL, "seed": seed}) for seed in range(3)]
    for trial in trials:
        assert builder.stages_of(trial) == stages_of(trial)
        assert builder.trial_id(trial) == trial_id(trial)


def test_a_later_field_leaves_old_ids_alone_while_it_has_its_default():
    class Before(Config):
        lr: float = 1.0

    class After(Config):
        lr: float = 1.0
        ema: float = Field(default=0.0, json_schema_extra={"since": "0.2"})

    assert identity_values(After()) == identity_values(Before())
    assert identity_values(After(ema=0.5)) == {"lr": 1.0, "ema": 0.5}


def test_the_canonical_text_ignores_order_and_number_type():
    assert canonical({"b": 1.0, "a": [2, 3.5]}) == canonical({"a": [2.0, 3.5], "b": 1}) == '{"a":[2,3.5],"b":1}'
    assert canonical(True) != canonical(1)


def test_a_folder_knows_its_neighbours(tmp_path):
    folder = StageFolder(tmp_path / "probe" / "ab")
    assert folder.kind == "probe"
    assert folder.parent("latents", "cd").path == tmp_path / "latents" / "cd"
    assert folder.attempt(3).name == "03"


GOLDEN_TRIALS = {
    "defaults": {},
    "small kl": {
        "tokenizer": {"encoder": "nano", "decoder": "micro", "patch": 8, "bottleneck": {"kind": "kl", "channels": 4}},
        "seed": 1,
    },
    "vq and photographs": {
        "data": {"kind": "image_folder", "root": "/data/imagenet"},
        "tokenizer": {"encoder": "B", "decoder": "L", "bottleneck": {"kind": "vq"}},
    },
    "fsq and shards": {
        "data": {"kind": "shards", "pattern": "/d/{000..127}.tar", "validation_pattern": "/d/val.tar"},
        "tokenizer": {"bottleneck": {"kind": "fsq", "levels": [8, 5, 5]}},
        "probe": None,
    },
}
# These never change: a finished stage is found by its id. A config field that is added later needs ``since``.
GOLDEN_IDS = {
    ("defaults", "tokenizer"): "9145c7c4adb87bd0",
    ("defaults", "reconstruction"): "014687539948c4b2",
    ("defaults", "latents"): "42feeb4993e3796d",
    ("defaults", "probe"): "7e7519a66bfef784",
    ("defaults", "generation"): "5ce28fd659ce8d49",
    ("small kl", "tokenizer"): "29a1f6516e4b9229",
    ("vq and photographs", "tokenizer"): "2198a8b580e59b7f",
    ("fsq and shards", "tokenizer"): "3950b9f1355a8925",
    ("small kl", "probe"): "4158d596601fc998",
    ("small kl", "generation"): "fae1baff920e32c8",
}


@pytest.mark.parametrize(("trial", "kind"), GOLDEN_IDS)
def test_golden_ids_stay(trial, kind):
    found = {stage.kind: stage.id for stage in stages_of(parse(TrialConfig, GOLDEN_TRIALS[trial]))}
    assert found[kind] == GOLDEN_IDS[trial, kind]

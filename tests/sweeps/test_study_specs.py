"""The spec files that are published studies: they expand to the studies' trials, and cost what their comments say."""

from __future__ import annotations

import csv
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from slurm.profiles import ClusterProfile
from sweeps.grid import expand
from sweeps.planning import make_plan
from sweeps.resources import Allocator
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale import cost
from tokscale.config import AutoregressiveProbe, ClassifierTeacher, LossesConfig, TrialConfig
from tokscale.parsing import parse

SPECS = Path(str(files("sweeps") / "specs"))
STUDIES = [
    "vitok-bottleneck", "vitok-scaling", "gigatok-sizes", "gigatok-layout", "gigatok-halves", "gigatok-alignment",
    "gigatok-entropy", "gigatok-codebook", "gigatok-probes", "vitok-losses", "vitok-generation",
    "vitok-video", "vitok-resolution", "vitok-latent",
]  # fmt: skip
H100, A100, V100 = 200e12, 120e12, 40e12
"""FLOP/s that training is assumed to reach; docs/costs.md says why"""


def trials(name):
    return expand(*load_spec(SPECS / f"{name}.yaml"))


def hours(found, kind, rate=H100):
    """GPU hours of one kind of stage, each stage once."""
    flops = {
        stage.key: cost.stage_cost(kind, trial.config).flops
        for trial in found
        for stage in trial.stages
        if stage.kind == kind
    }
    return sum(flops.values()) / rate / 3600


def planned_hours(name, folder):
    """GPU hours by kind of stage, as ``tokscale plan`` has them, in whole hours."""
    plan = make_plan(SPECS / f"{name}.yaml", Store(folder))
    h100s = ClusterProfile("h100", gpus_per_node=8, gpu_memory_gb=80, max_minutes=1440, tflops=H100 / 1e12)
    allocator, found = Allocator(h100s, plan, Store(folder)), Counter()
    for key, stage in plan.stages.items():
        found[stage.kind] += allocator.of(key).gpu_hours
    return {kind: round(value) for kind, value in found.items()}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_costs_what_its_comment_and_its_plan_say(name, tmp_path):
    comment = (SPECS / f"{name}.yaml").read_text().split("name:")[0].replace("\n#", "")
    said = re.search(
        r"(\d+) trials\. On H100s that reach 200 TFLOP/s: ([\d,]+) GPU hours of tokenizers, ([\d,]+) of probes"
        r"(?:, (\d+) of finetuned decoders)?(?:, (\d+) of sampling)?",
        comment,
    )
    assert said is not None, comment
    number, tokenizers, probes, decoders, sampling = (int((word or "0").replace(",", "")) for word in said.groups())
    found = trials(name)
    assert len(found) == number
    assert hours(found, "tokenizer") == pytest.approx(tokenizers, abs=2), "work over rate"
    assert hours(found, "probe") == pytest.approx(probes, abs=2)
    planned = planned_hours(name, tmp_path)
    assert (planned["tokenizer"], planned["probe"], planned.get("decoder_finetune", 0)) == (
        tokenizers,
        probes,
        decoders,
    )
    assert sampling in (0, planned["generation"])


def published(name):
    table = files("analysis") / "published_tables" / f"{name}.csv"
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_bottlenecks_are_those_of_vitok_figure_2():
    points = {(int(row["patch"]), int(row["c"])) for row in published("vitok_fig2_bottleneck_256p")}
    found = trials("vitok-bottleneck")
    assert {(t.config.tokenizer.patch, t.config.tokenizer.bottleneck.channels) for t in found} == points
    assert {trial.config.training.steps for trial in found} == {100_000}


def test_the_tokenizers_that_are_generated_with_are_those_of_vitok_figure_5():
    points = {(int(row["patch"]), int(row["c"])) for row in published("vitok_fig5_generation_vs_E")}
    found = trials("vitok-generation")
    for kind in ("diffusion", "autoregressive"):
        chosen = [trial.config for trial in found if trial.config.probe.kind == kind]
        assert {(one.tokenizer.patch, one.tokenizer.bottleneck.channels) for one in chosen} == points
        assert len(chosen) == len(points)
    diffusion = next(trial.config for trial in found if trial.config.probe.kind == "diffusion")
    assert (diffusion.probe.training.steps, diffusion.probe.training.batch_size) == (500_000, 256)
    assert (diffusion.generation.cfg_scales, diffusion.generation.sampler_steps) == ((1.5, 3.0), 250)
    stages = Counter(kind for kind, _ in {(stage.kind, stage.id) for trial in found for stage in trial.stages})
    assert (stages["tokenizer"], stages["latents"], stages["probe"]) == (14, 14, 28)


def test_the_pairs_are_those_of_vitok_figures_6_to_9():
    pairs = {
        f"{cost.encoder_name(trial.config)}-{cost.decoder_name(trial.config)}" for trial in trials("vitok-scaling")
    }
    assert pairs == {"S-S", "S-B", "S-L", "B-S", "B-B", "B-L", "L-L"}


def test_patches_and_learned_tokens_are_those_of_vitok_figures_19_and_20():
    found: dict[str, set[int]] = {}
    for trial in trials("vitok-latent"):
        found.setdefault(cost.layout(trial.config), set()).add(trial.sizes["bottleneck_floats"])
    points: dict[str, set[int]] = {}
    for name in ("vitok_fig19_simple_vs_latent", "vitok_fig20_masking"):
        for row in published(name):
            points.setdefault(row["model"].split(" ViTok")[0], set()).add(int(row["E"]))
    assert found == {
        "patches": points["Simple"], "latent tokens": points["Latent"],
        "patches, masked tails": points["Mask Simple"], "latent tokens, masked tails": points["Mask Latent"],
    }  # fmt: skip
    trained = {stage.key for trial in trials("vitok-latent") for stage in trial.stages if stage.kind == "tokenizer"}
    assert len(trained) == 12, "one for all lengths of a masked tokenizer"
    shared = {stage.key for trial in trials("vitok-bottleneck") for stage in trial.stages}
    assert len(trained & shared) == 5


def test_both_resolutions_meet_at_equal_floats_per_pixel_and_at_equal_floats():
    found = trials("vitok-resolution")
    assert Counter(trial.sizes["pixels_per_float"] for trial in found) == {192: 2, 96: 2, 48: 2, 24: 2, 12: 2}
    floats = Counter(trial.sizes["bottleneck_floats"] for trial in found)
    assert floats == {1024: 1, 2048: 1, 4096: 2, 8192: 2, 16384: 2, 32768: 1, 65536: 1}
    shared = {stage.key for trial in trials("vitok-bottleneck") for stage in trial.stages}
    assert len({stage.key for trial in found for stage in trial.stages} & shared) == 5 * 5


def test_images_and_clips_of_every_tubelet_meet_at_equal_floats_per_pixel():
    found = trials("vitok-video")
    rows = Counter(trial.sizes["pixels_per_float"] for trial in found)
    assert rows == {192: 4, 96: 4, 48: 4, 24: 4}
    clips = [trial for trial in found if trial.config.data.frames == 16]
    assert Counter(trial.sizes["bottleneck_floats"] for trial in clips) == {2**power: 3 for power in (14, 15, 16, 17)}
    assert {cost.label(trial.config).split()[0] for trial in clips} == {"S-B/16", "S-B/2x16", "S-B/4x16"}
    assert {trial.config.training.steps for trial in found} == {100_000}
    for trial in found:
        training, frames = trial.config.training, trial.config.data.frames
        assert training.lr == pytest.approx(1e-4 * training.batch_size * frames / 256)


def test_the_ladder_is_that_of_gigatok_table_9():
    epoch, found = 5000 * 256, trials("gigatok-sizes")
    with_alignment = [trial for trial in found if trial.config.losses.semantic.weight > 0]
    rows = [
        (cost.label(trial.config).split()[1], round((sizes["tokenizer_params"] + aligned) / 1e6),
         trial.config.training.images / epoch, trial.config.training.batch_size)
        for trial in with_alignment
        for sizes in [trial.sizes]
        for aligned in [sizes["training_only_params"] - 2_765_633]  # without the discriminator
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["S-S", "S-B", "S-L", "B-L", "XL-XXL"]
    assert [row[1] for row in rows] == pytest.approx([136, 232, 533, 622, 2896], rel=0.005)
    assert [row[2:] for row in rows] == [(100, 128), (200, 128), (200, 256), (200, 256), (300, 256)]
    for trial in found:
        training = trial.config.training
        assert training.warmup * training.images == pytest.approx(epoch, rel=1e-3)
        assert trial.config.losses.gan.start == 20_000 * training.batch_size


def test_the_losses_are_those_of_vitok_on_one_tokenizer():
    found = trials("vitok-losses")
    kinds = Counter(stage.kind for stage in {stage.key: stage for trial in found for stage in trial.stages}.values())
    assert (kinds["tokenizer"], kinds["latents"], kinds["probe"]) == (1, 1, 1)
    assert (kinds["decoder_finetune"], kinds["reconstruction"], kinds["generation"]) == (8, 8, 8)
    tried = {(trial.config.decoder_finetune.losses.gan.weight, trial.config.decoder_finetune.losses.gan.lr)
             for trial in found}  # fmt: skip
    assert tried - {(0, 2e-5)} == {(0.05, 1e-5), (0.05, 2e-5), (0.05, 4e-5), (0.1, 1e-5), (1.0, 2e-5)}
    for trial in found:
        second = trial.config.decoder_finetune
        assert (second.training.steps, second.training.batch_size, second.training.ema) == (100_000, 256, 0.9999)
        assert round(second.losses.gan.lr_warmup * second.training.steps) == 25_000


def test_both_studies_of_gigatok_share_their_stages():
    sizes, layouts = ({stage.key for trial in trials(name) for stage in trial.stages} for name in STUDIES[2:4])
    assert len(sizes & layouts) == 3 * 6
    probed = {stage.key for trial in trials("gigatok-probes") for stage in trial.stages if stage.kind == "tokenizer"}
    assert len(probed) == 3
    assert probed <= sizes


# --- against the hours that the papers print ---


def planned(size, rate, epochs=300):
    """GPU hours of training an autoregressive model of LlamaGen's on ImageNet's codes."""
    probe = AutoregressiveProbe(size=size, training={"images": epochs * 1_281_167})
    trial = parse(TrialConfig, {"data": {"resolution": 256}, "tokenizer": {"bottleneck": {"kind": "vq"}}})
    return cost.stage_cost("probe", trial.model_copy(update={"probe": probe})).flops / rate / 3600


def test_vitok_stage_1_takes_the_hours_of_its_paper():
    (spec,) = [trial.config for trial in trials("vitok-scaling") if cost.label(trial.config).startswith("S-B/")]
    published_loss = spec.model_copy(update={"losses": LossesConfig(perceptual={"weight": 1.0})})
    found = cost.stage_cost("tokenizer", published_loss).flops / H100 / 3600 / 8
    assert found == pytest.approx(5.84, abs=0.01)
    assert 6 / 2 < found < 12  # 6 to 12 hours on 8 H100


def test_vitok_stage_2_takes_the_hours_of_its_paper():
    found = [hours([trial], "decoder_finetune") / 8 for trial in trials("vitok-losses")]
    assert found[-1] == pytest.approx(4.59, abs=0.01)
    assert 3 < found[-1] < 6  # hours on 8 H100, with LPIPS and the discriminator


@pytest.mark.parametrize(
    ("size", "published_hours", "ratio"),
    [("B", 8 * 24, 0.73), ("L", 8 * 48, 1.20), ("XL", 16 * 72, 0.92), ("XXL", 32 * 96, 0.63), ("3B", 32 * 120, 1.10)],
)
def test_llamagen_takes_the_gpu_hours_of_its_authors(size, published_hours, ratio):
    found = planned(size, A100) / published_hours
    assert found == pytest.approx(ratio, abs=0.01)
    assert 0.5 <= found <= 2


def test_gigatok_s_hours_on_v100s_are_missed():
    # 170 hours on 64 V100 for 343 M parameters: an eighth of what they should reach. Nothing in the count explains it.
    assert planned("L", V100) / (64 * 170) == pytest.approx(0.13, abs=0.01)


# --- small forms ---


@pytest.mark.parametrize("name", [*(name for name in STUDIES if name.startswith("gigatok")), "vitok-generation"])
def test_a_small_form_needs_no_weights_and_no_more_than_half_an_hour_of_a_laptop(name, tmp_path):
    plan = make_plan(SPECS / f"{name}.yaml", Store(tmp_path), small=True)
    flops = sum(plan.costs[key].flops for key in plan.stages)
    assert flops < 150e12, "two cores at 40 GFLOP/s"
    for trial in plan.trials:
        config = trial.config
        assert (config.data.kind, config.losses.perceptual, config.losses.gan) == ("procedural", None, None)
        if name.startswith("gigatok"):
            assert config.losses.semantic is not None
            assert isinstance(config.losses.semantic.features, ClassifierTeacher)


@pytest.mark.parametrize(
    ("name", "number"),
    [("vitok-bottleneck", 45), ("vitok-scaling", 21), ("vitok-resolution", 10), ("vitok-latent", 48),
     ("vitok-video", 48), ("vitok-generation", 36)],
)  # fmt: skip
def test_a_small_form_of_vitok_s_sweeps_is_minutes_of_two_idle_cores(name, number, tmp_path):
    plan = make_plan(SPECS / f"{name}.yaml", Store(tmp_path), small=True)
    assert sum(plan.costs[key].flops for key in plan.stages) < 75e12, "two cores at 40 GFLOP/s"
    assert len(plan.trials) == number
    for trial in plan.trials:
        config = trial.config
        assert (config.data.kind.removesuffix("_video"), config.losses.perceptual, config.evaluation.features) == (
            "procedural", None, "random-conv",
        )  # fmt: skip
    kept = make_plan(SPECS / f"{name}.yaml", Store(tmp_path))
    stages = [{stage.kind for stage in form.stages.values()} for form in (plan, kept)]
    assert stages[0] == stages[1], "the same code path"


def test_the_small_scaling_has_vitok_s_seven_pairs_and_three_seeds(tmp_path):
    plan = make_plan(SPECS / "vitok-scaling.yaml", Store(tmp_path), small=True)
    pairs = Counter(f"{cost.encoder_name(trial.config)}-{cost.decoder_name(trial.config)}" for trial in plan.trials)
    small, medium, large = "pico", "nano", "micro"
    assert pairs == {
        f"{encoder}-{decoder}": 3
        for encoder, decoder in [
            (small, small), (small, medium), (small, large), (medium, small), (medium, medium), (medium, large),
            (large, large),
        ]
    }  # fmt: skip
    assert {trial.config.seed for trial in plan.trials} == {0, 1, 2}


def test_vitok_s_second_stage_has_a_small_form_without_weights(tmp_path):
    plan = make_plan(SPECS / "vitok-losses.yaml", Store(tmp_path), small=True)
    assert sum(plan.costs[key].flops for key in plan.stages) < 150e12, "two cores at 40 GFLOP/s"
    for trial in plan.trials:
        config = trial.config
        kinds = {losses.perceptual.kind for losses in (config.losses, config.decoder_finetune.losses)}
        assert (config.data.kind, config.evaluation.features, kinds) == ("procedural", "random-conv", {"random-vgg"})
    assert sum(stage.kind == "tokenizer" for stage in plan.stages.values()) == 3  # one for each seed


def test_small_forms_do_not_bear_the_title_of_the_study(tmp_path):
    for name in STUDIES:
        whole, small = (make_plan(SPECS / f"{name}.yaml", Store(tmp_path), small=small).spec for small in (False, True))
        assert small.title != whole.title
        assert not re.search(r"ImageNet|256|\bS-[SB]\b|XL", small.title)

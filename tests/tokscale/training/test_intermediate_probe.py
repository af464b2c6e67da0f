"""Intermediate probes: they say how hard the tokens of the moment are, and the training never notices."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tests.tokscale.training import rank_tasks
from tests.tokscale.training.rank_tasks import Step
from tokscale import cost
from tokscale.bottlenecks.draws import seed_for
from tokscale.config import IntermediateProbe, ProceduralData, TrialConfig, VitTokenizer
from tokscale.data import open_images
from tokscale.errors import StoppedError
from tokscale.models.tokenizer import build_tokenizer
from tokscale.probes.encoding import spec_of
from tokscale.probes.intermediate import encoded, intermediate_images, probe_tokens
from tokscale.record import read_record
from tokscale.stage import stages_of, trial_id
from tokscale.stages import run

TINY = IntermediateProbe(size="pico", images=48, epochs=2)
KL, FSQ, VQ = 0, 1, 2


@pytest.fixture
def folder_of(small_spec, tmp_path):
    """The tokenizer stage of a trial of the small sweep, ten steps long, with or without intermediate probes."""
    text = small_spec.read_text().replace("images: 640,", "images: 160,").replace("revive_after: 10", "revive_after: 3")
    watch = ", probe_every: 40, probe: {size: pico, images: 48, epochs: 2}"

    def make(name, number, watched):
        small_spec.write_text(text.replace("lr: 2e-3}\n  latents", f"lr: 2e-3{watch if watched else ''}}}\n  latents"))
        stage = expand(*load_spec(small_spec))[number].stages[0]
        assert bool(stage.watch) == watched
        return Store(tmp_path / name).prepare(stage)

    return make


def lines(folder):
    return [json.loads(line) for line in folder.progress.read_text().splitlines()]


@pytest.mark.parametrize("number", [KL, FSQ, VQ], ids=["kl", "fsq", "vq"])
def test_a_watched_training_is_the_unwatched_one_bit_by_bit(folder_of, number):
    plain, watched = folder_of("plain", number, False), folder_of("watched", number, True)
    assert plain.path.name == watched.path.name, "watching is no part of what a stage is"
    for folder in (plain, watched):
        run(str(folder.path), progress_seconds=0.0)
    weights, expected = (load_file(folder.artifacts / "tokenizer.safetensors") for folder in (watched, plain))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    names = set(lines(plain)[0]) - {"time", "per_second"}
    losses = [[{name: line[name] for name in names} for line in lines(folder)] for folder in (plain, watched)]
    assert losses[0] == losses[1]
    told = {line["done"]: (line["probe_loss"], line["probe_bits"]) for line in lines(watched) if "probe_loss" in line}
    # Every 40 images, in batches of 16: the steps that pass 40, 80, 120 and 160.
    assert list(told) == [48, 80, 128, 160]
    assert all(math.isfinite(value) for values in told.values() for value in values)
    assert any("intermediate probes" in note for note in read_record(watched.path).notes)


def test_a_resumed_training_tells_what_the_unbroken_one_did(folder_of, monkeypatch):
    unbroken, broken = folder_of("unbroken", VQ, True), folder_of("broken", VQ, True)
    run(str(unbroken.path), progress_seconds=0.0)
    monkeypatch.setattr("tokscale.training.loop.Budget", rank_tasks.Eventful)
    monkeypatch.setattr(rank_tasks.Eventful, "event", staticmethod(rank_tasks.signalled))
    with pytest.raises(StoppedError):  # at step 3, at which a probe is due: it is cut short
        run(str(broken.path), progress_seconds=0.0)
    monkeypatch.setattr(rank_tasks.Eventful, "event", None)
    run(str(broken.path), progress_seconds=0.0)
    values = [
        {line["done"]: line["probe_loss"] for line in lines(f) if "probe_loss" in line} for f in (unbroken, broken)
    ]
    assert list(values[1]) == [80, 128, 160]
    assert values[1].items() <= values[0].items()


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "shared out"])
def test_two_ranks_tell_what_one_does(folder_of, shard):
    alone, together = folder_of("alone", FSQ, True), folder_of("together", FSQ, True)
    run(str(alone.path), progress_seconds=0.0)
    step = Step(together, 2, shard=shard)
    assert step.finish() == [0, 0], step.output
    ours, theirs = ([line["probe_loss"] for line in lines(f) if "probe_loss" in line] for f in (together, alone))
    assert ours == pytest.approx(theirs, rel=0.02)
    assert len(ours) == 4


def probed(tokenizer, images, config):
    return probe_tokens(encoded(tokenizer, *images), spec_of(tokenizer), config, seed_for("watching", 0))


def small_tokenizer(bottleneck):
    torch.manual_seed(0)
    config = VitTokenizer(encoder="pico", decoder="pico", patch=4, bottleneck=bottleneck)
    return build_tokenizer(config, 16).train()


@pytest.mark.parametrize(
    "bottleneck", [{"kind": "kl", "channels": 3}, {"kind": "vq", "codebook_size": 16, "code_dim": 4}]
)
def test_a_measurement_leaves_no_trace_and_repeats(bottleneck):
    tokenizer = small_tokenizer(bottleneck)
    frozen = tokenizer.encoder.eval()
    for parameter in tokenizer.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    images = intermediate_images(open_images(ProceduralData(resolution=16), "train"), TINY)
    assert len(images[0]) == 48 + 12
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = [probed(tokenizer, images, TINY) for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert found[0] == found[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())
    assert all((parameter.grad == 1).all() for parameter in tokenizer.parameters())
    assert tokenizer.training
    assert not frozen.training
    assert tokenizer.decoder.training


def test_codes_that_say_less_are_easier():
    """Of a tokenizer that has one code for everything, which is why the loss is nothing to seek by itself."""
    images = intermediate_images(open_images(ProceduralData(resolution=16), "train"), TINY)
    tokenizer = small_tokenizer({"kind": "vq", "codebook_size": 16, "code_dim": 4})
    varied = probed(tokenizer, images, TINY)
    assert varied["probe_bits"] == pytest.approx(16 * varied["probe_loss"] / math.log(2))
    with torch.no_grad():
        tokenizer.bottleneck.codebook.copy_(torch.ones(16, 4))
    longer = TINY.model_copy(update={"epochs": 80})
    assert probed(tokenizer, images, longer)["probe_loss"] < 0.5 < 2 < varied["probe_loss"]


def test_watching_is_planned_and_no_part_of_what_a_trial_is():
    settings = {
        "tokenizer": {"encoder": "nano", "decoder": "nano", "patch": 8},
        "training": {"images": 1000, "batch_size": 100},
    }
    plain = TrialConfig.model_validate(settings)
    training = {**settings["training"], "probe_every": 250, "probe": {"size": "pico", "images": 64, "epochs": 3}}
    watched = TrialConfig.model_validate({**settings, "training": training})
    assert trial_id(plain) == trial_id(watched)
    assert [stage.id for stage in stages_of(plain)] == [stage.id for stage in stages_of(watched)]
    stage = stages_of(watched)[0]
    assert stage.watch["training"]["probe_every"] == 250
    assert "probe_every" not in stage.config["training"]
    encode = cost.tokenizer_flops(plain.tokenizer, 32)["encode"]
    probe = TrialConfig.model_validate({**settings, "probe": {"size": "pico"}}).probe
    passes = cost.probe_flops(probe, plain.tokenizer.bottleneck, 16)
    added = cost.stage_cost("tokenizer", watched).flops - cost.stage_cost("tokenizer", plain).flops
    assert added == 4 * (80 * encode + (3 * 3 * 64 + 16) * passes)
    assert cost.trial_sizes(watched)["train_flops"] == cost.trial_sizes(plain)["train_flops"]

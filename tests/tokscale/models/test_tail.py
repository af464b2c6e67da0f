"""Random tail masking: what is hidden, who draws it, and what a chosen length leaves to measure and to pay for."""

from __future__ import annotations

import pytest
import torch

from tokscale import cost
from tokscale.bottlenecks.draws import Draws
from tokscale.config import FSQBottleneck, KLBottleneck, TrialConfig, VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.tail import Tail
from tokscale.models.tokenizer import build_tokenizer
from tokscale.parsing import parse
from tokscale.stage import TrialStages

LENGTHS = [2, 4, 16]


def tailed(length=None, **others):
    settings = {"encoder": "nano", "decoder": "pico", "patch": 4, "bottleneck": {"kind": "kl", "channels": 8}}
    masking = {"lengths": LENGTHS, "evaluation_length": length}
    return VitTokenizer.model_validate({**settings, "tail_masking": masking, **others})


def built(config, resolution=16):
    torch.manual_seed(0)
    return build_tokenizer(config, resolution)


# --- training ---


def test_each_image_keeps_its_first_tokens_and_every_length_is_as_likely():
    masked = Tail((2, 4, 8, 16)).drawn(torch.ones(4096, 16, 1), Draws(7))[..., 0]
    kept = masked.sum(1)
    assert torch.equal(masked, (torch.arange(16) < kept[:, None]).float())
    counts = torch.stack([(kept == length).sum() for length in (2, 4, 8, 16)]).double()
    assert counts.sum() == 4096
    assert ((counts - 1024) ** 2 / 1024).sum() < 16.3  # chi squared of 3 degrees: 0.1 %


def test_an_image_draws_its_length_whichever_rank_and_pass_it_falls_into():
    latents = torch.randn(24, 16, 3)
    tail = Tail((2, 4, 8, 16))
    whole = tail.drawn(latents, Draws(5))
    parts = [tail.drawn(latents[first : first + 5], Draws(5, first)) for first in range(0, 24, 5)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, tail.drawn(latents, Draws(6)))


def test_what_is_hidden_gets_no_gradient_from_the_pixels():
    model = built(tailed(bottleneck={"kind": "kl", "channels": 8, "weight": 0.0}))
    model.bottleneck.draws = Draws(1)
    features = []
    model.encoder.register_forward_hook(lambda *seen: features.append(seen[2]) or seen[2].retain_grad())
    images = torch.rand(12, 3, 16, 16)
    made, result, _ = model(images)
    made.square().sum().backward()
    seen = result.latents.abs().sum(-1) > 0
    assert set(seen.sum(1).tolist()) == set(LENGTHS)
    assert torch.equal(features[0].grad.abs().sum(-1) > 0, seen)
    assert result.mean.shape == (12, 16, 8)


# --- a chosen length ---


@pytest.mark.parametrize("bottleneck", [KLBottleneck(channels=8), FSQBottleneck(kind="fsq", levels=(8, 5))])
@pytest.mark.parametrize("latent", [None, 16])
def test_a_length_is_the_first_tokens_and_zeros_behind_them(bottleneck, latent):
    config = {"bottleneck": bottleneck.model_dump(), "latent_tokens": latent}
    model, images = built(tailed(4, **config)).eval(), torch.rand(2, 3, 16, 16) * 2 - 1
    result = model.encode(images)
    assert model.grid == (1, 4)
    assert model.num_latent_tokens == 4
    model.tail.kept = None
    whole = model.encode(images)
    assert model.grid == ((4, 4) if latent is None else (1, 16))
    for part, full in ((result.latents, whole.latents), (result.mean, whole.mean), (result.indices, whole.indices)):
        assert (part is None) == (full is None)
        assert part is None or torch.equal(part, full[:, :4])
    zeroed = torch.cat((result.latents, torch.zeros_like(whole.latents[:, 4:])), dim=1)
    expected = model.decoder(zeroed, (4, 4))[0]
    assert torch.equal(model.decode(result.latents), expected)
    model.tail.kept = 4
    assert torch.equal(model(images)[0], expected)


@pytest.mark.parametrize(("length", "grid"), [(2, (1, 2)), (4, (1, 4)), (8, (2, 4)), (16, (4, 4)), (None, (4, 4))])
def test_first_tokens_lie_where_they_lay_in_the_whole(length, grid):
    masking = {"lengths": [2, 4, 8, 16], "evaluation_length": length}
    assert built(tailed(tail_masking=masking)).grid == grid
    row = built(tailed(tail_masking=masking, latent_tokens=16))
    assert row.grid == (1, length or 16)


def test_the_bottleneck_is_what_is_measured_and_the_tokenizer_what_is_built():
    masking = {"lengths": [32, 64, 128, 256], "evaluation_length": 32}
    short = tailed(encoder="S", decoder="B", patch=16, bottleneck={"channels": 16}, tail_masking=masking)
    plain = VitTokenizer()
    assert cost.bottleneck_sizes(short, 256)["bottleneck_floats"] == 512  # the first point of ViTok's Figure 20
    assert cost.tokenizer_params(short, 256) == cost.tokenizer_params(plain, 256)
    assert cost.tokenizer_flops(short, 256) == cost.tokenizer_flops(plain, 256)
    assert cost.training_flops(short, 256) == cost.training_flops(plain, 256)
    trial = parse(TrialConfig, {"tokenizer": tailed(4).model_dump(), "data": {"resolution": 16}})
    assert (cost.label(trial), cost.layout(trial)) == ("nano-pico/4 tail n4 kl8", "patches, masked tails")
    whole = parse(TrialConfig, {"tokenizer": tailed().model_dump(), "data": {"resolution": 16}})
    assert cost.stage_cost("probe", trial).flops < 0.3 * cost.stage_cost("probe", whole).flops


def test_all_lengths_share_the_tokenizer_and_none_its_measures():
    stages = TrialStages()
    trials = [
        parse(TrialConfig, {"tokenizer": tailed(length).model_dump(), "data": {"resolution": 16},
                            "decoder_finetune": {}, "linear_probe": {}})
        for length in (None, 2, 4)
    ]  # fmt: skip
    ids = [{stage.kind: stage.id for stage in stages.stages_of(trial)} for trial in trials]
    assert len({stages.trial_id(trial) for trial in trials}) == 3
    for kind in ids[0]:
        distinct = len({found[kind] for found in ids})
        assert distinct == (1 if kind in ("tokenizer", "decoder_finetune") else 3), kind


# --- what is refused ---


@pytest.mark.parametrize(
    ("masking", "message"),
    [
        ({"lengths": [2, 3, 16]}, "powers of two that rise"),
        ({"lengths": [16, 4]}, "powers of two that rise"),
        ({"lengths": [2, 4]}, "must end at the 16 latent tokens of an image, not at 4"),
        ({"lengths": [2, 16], "evaluation_length": 4}, "evaluation_length 4 is none of the lengths"),
        ({"lengths": []}, "lengths"),
    ],
)
def test_impossible_lengths_are_refused(masking, message):
    sections = {"tokenizer": {"patch": 8, "tail_masking": masking}}
    with pytest.raises(ConfigError, match=message):
        parse(TrialConfig, sections)


def test_clips_are_refused():
    sections = {"tokenizer": {"patch": 8, "tail_masking": {"lengths": [16, 128]}}, "data": {"kind": "procedural_video"}}
    with pytest.raises(ConfigError, match=r"is of images, and data\.frames is 8"):
        parse(TrialConfig, sections)

"""GigaTok's tokenizers and losses in a spec: planned like anything else, refused in words where they cannot be."""

from __future__ import annotations

import pytest

from tokscale import cost
from tokscale.config import TrialConfig
from tokscale.errors import ConfigError
from tokscale.parsing import parse
from tokscale.stage import stages_of


def written(tokenizer=None, **losses):
    data = {"kind": "image_folder", "root": "/photos", "resolution": 256}
    return parse(TrialConfig, {"data": data, "tokenizer": tokenizer or {}, "losses": losses}, where="trial")


def test_a_gigatok_trial_is_planned_with_all_its_stages():
    config = written({"kind": "gigatok", "encoder": "B", "decoder": "L", "bottleneck": {"kind": "vq"}})
    assert cost.label(config) == "gigatok B-L 1d n256 vq16384x8"
    sizes = cost.trial_sizes(config)
    assert (sizes["bottleneck_tokens"], sizes["bottleneck_bits"]) == (256, 256 * 14.0)
    for stage in stages_of(config):
        assert cost.stage_cost(stage.kind, config).flops > 0
    assert parse(TrialConfig, config.model_dump(mode="json")) == config


def test_small_convolutions_are_in_the_label_and_in_the_number_of_cells():
    convolution = {"channels": 16, "multipliers": [1, 2, 2]}
    small = {"kind": "gigatok", "encoder": "nano", "decoder": "micro", "layout": "2d", "tokens": 4096,
             "convolution": convolution, "bottleneck": {"kind": "lfq", "bits": 12}}  # fmt: skip
    config = written(small)
    assert (cost.label(config), cost.layout(config)) == ("gigatok nano-micro 2d conv16/4 n4096 lfq12", "2d")
    assert cost.trial_sizes(config)["codebook_size"] == 4096
    for stage in stages_of(config):
        assert cost.stage_cost(stage.kind, config).flops > 0


def test_losses_without_weight_take_no_part():
    weightless = written({}, perceptual={"weight": 0}, gan={"weight": 0}, semantic={"weight": 0})
    assert cost.trial_sizes(weightless)["training_only_params"] == 0
    assert cost.stage_cost("tokenizer", weightless) == cost.stage_cost("tokenizer", written())


@pytest.mark.parametrize(
    ("tokenizer", "losses", "words"),
    [
        ({"kind": "gigatok", "tokens": 100}, {}, "layout 1d takes a power of two, up to 512"),
        ({"kind": "gigatok", "tokens": 1024}, {}, "layout 1d takes a power of two, up to 512"),
        ({"kind": "gigatok", "layout": "2d", "tokens": 128}, {}, "one token for each of 256 cells"),
        (
            {"kind": "gigatok", "encoder": "M"},
            {},
            "no gigatok size 'M'; one of: pico, nano, micro, mini, tiny, S, B, L, XL, XXL",
        ),
        ({"kind": "gigatok", "patch": 16}, {}, "unknown key 'patch'"),
        ({"kind": "gigatok", "convolution": {"multipliers": [1] * 10}}, {}, "10 levels .* that 512 divides, not 256"),
        ({"kind": "gigatok", "convolution": {"channels": 30}}, {}, "multiple of 4"),
        ({"kind": "gigatok", "convolution": {"chanels": 32}}, {}, "did you mean 'channels'"),
        ({}, {"semantic": {"layer": 13}}, "losses.semantic.layer 13 is beyond the 12 blocks"),
        ({}, {"gan": {"start": "many"}}, "k, M or G"),
        ({}, {"gan": {"discriminator": {"depth": 7}}}, "depth 7 leaves nothing to judge of data.resolution 256"),
        ({}, {"semantic": {"features": "dinov3-b"}}, "'dinov2-b'"),
        ({}, {"semantic": {"features": {"kind": "classifier", "patch": 7}}}, "patch 7 does not divide"),
        ({}, {"semantic": {"features": {"kind": "clasifier"}}}, "did you mean 'classifier'"),
        ({}, {"perceptual": {"wieght": 1}}, "did you mean 'weight'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tokenizer, losses, words):
    with pytest.raises(ConfigError, match=words):
        written(tokenizer, **losses)


def test_more_codes_than_training_has_latents_are_refused():
    tokenizer = {"kind": "gigatok", "bottleneck": {"kind": "vq"}}
    few = {"data": {"resolution": 256}, "training": {"images": 63, "batch_size": 1}, "tokenizer": tokenizer}
    with pytest.raises(ConfigError, match=r"16,384 codes, which 63 training\.images of 256 tokens cannot fill"):
        parse(TrialConfig, few)
    assert parse(TrialConfig, {**few, "training": {"images": 64, "batch_size": 1}}).tokenizer.bottleneck.codes == 16384


def test_later_fields_at_their_defaults_change_no_identity():
    def ids(config):
        return [stage.id for stage in stages_of(config)]

    vq = {"bottleneck": {"kind": "vq"}}
    spelled = {"bottleneck": {"kind": "vq", "entropy_weight": 0.0, "entropy_temperature": 0.01}}
    assert ids(written(vq)) == ids(written(spelled, perceptual=None, gan=None, semantic=None))
    assert ids(written(vq)) != ids(written(vq, perceptual={}))
    published = {"multipliers": [1, 1, 2, 2, 4], "map_channels": 256}
    gigatok = {"kind": "gigatok", **vq}
    assert ids(written(gigatok)) == ids(written({**gigatok, "convolution": published}))
    assert ids(written(gigatok)) != ids(written({**gigatok, "convolution": {"channels": 64}}))


def test_a_refusal_names_the_path_as_the_spec_has_it():
    with pytest.raises(ConfigError) as refusal:
        written({"kind": "gigatok", "encoder": "M"})
    assert refusal.value.where == "trial.tokenizer.encoder"

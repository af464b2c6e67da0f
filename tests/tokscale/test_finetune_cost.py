"""What a decoder's second training takes, by hand, against what is built, and in a spec that cannot be."""

import pytest
import torch

from tests.tokscale.saved_tensors import kept_for_backward
from tokscale import cost, loss_formulas
from tokscale.config import (
    DecoderFinetuneConfig,
    GigaTokTokenizer,
    KLBottleneck,
    ProceduralData,
    TrainingConfig,
    TrialConfig,
    VitTokenizer,
    VQBottleneck,
)
from tokscale.errors import ConfigError
from tokscale.models.tokenizer import build_tokenizer
from tokscale.parsing import parse
from tokscale.training.optimization import transformer_blocks

VIT = VitTokenizer(encoder="mini", decoder="tiny", patch=4, bottleneck=KLBottleneck(channels=16))
GIGATOK = GigaTokTokenizer(kind="gigatok", encoder="mini", decoder="tiny", tokens=64,
                           convolution={"channels": 16, "multipliers": [1, 2, 2]},
                           bottleneck=VQBottleneck(kind="vq"))  # fmt: skip


def trial(tokenizer=VIT, *, ema=None, gan=None, perceptual=None, **training):
    training = {"images": 1000, "batch_size": 100, "ema": ema, **training}
    second = {"training": training, "losses": {"perceptual": perceptual, "gan": gan}}
    return TrialConfig(data=ProceduralData(resolution=32), tokenizer=tokenizer,
                       decoder_finetune=DecoderFinetuneConfig.model_validate(second))  # fmt: skip


def flops(**changes):
    return cost.stage_cost("decoder_finetune", trial(**changes)).flops


@pytest.mark.parametrize("tokenizer", [VIT, GIGATOK], ids=["vit", "gigatok"])
def test_the_encoder_passes_once_the_decoder_thrice(tokenizer):
    each = cost.tokenizer_flops(tokenizer, 32)
    assert flops(tokenizer=tokenizer, images=950) == 1000 * (each["encode"] + 3 * each["decode"])  # whole batches


def test_what_stands_beside_it_costs_its_passes():
    small = {"discriminator": {"channel_base": 256, "channel_max": 16}}
    judge = loss_formulas.discriminator(trial(gan=small).decoder_finetune.losses.gan.discriminator, 32)
    extra = flops(gan=small) - flops()
    assert extra == pytest.approx(1000 * 8 * judge.flops)
    assert flops(gan={**small, "start": 301}) - flops() == pytest.approx(600 * 8 * judge.flops)
    penalised = flops(gan={**small, "start": 301, "r1": {"every": 4}}) - flops(gan={**small, "start": 301})
    assert penalised == pytest.approx(2 * 100 * 6 * judge.flops)  # in the first and the fifth of six steps
    seen = loss_formulas.distance_network(loss_formulas.RANDOM_VGG, 32)
    assert flops(perceptual={"kind": "random-vgg"}) - flops() == pytest.approx(3000 * seen.flops)


def test_gradients_and_moments_are_the_decoder_s_alone():
    plain, averaged = (cost.stage_cost("decoder_finetune", trial(ema=ema)) for ema in (None, 0.999))
    sizes = build_tokenizer(VIT, 32).sizes
    decoder = sizes["decoder_params"]
    assert plain.fixed_bytes == 16 * decoder + 4 * (sizes["tokenizer_params"] - decoder)
    assert averaged.fixed_bytes - plain.fixed_bytes == 4 * decoder
    assert averaged.disk_bytes - plain.disk_bytes == 12 * decoder
    blocks = [sum(one.numel() for one in block.parameters())
              for block in transformer_blocks(build_tokenizer(VIT, 32).decoder)]  # fmt: skip
    assert (plain.blocks_bytes, plain.block_bytes) == (16 * sum(blocks), 4 * blocks[0])
    assert averaged.blocks_bytes == 20 * sum(blocks)


@pytest.mark.parametrize("tokenizer", [VIT, GIGATOK], ids=["vit", "gigatok"])
def test_memory_of_an_image_is_what_autograd_keeps_of_the_decoder(tokenizer):
    module = build_tokenizer(tokenizer, 32).eval()
    with torch.no_grad():
        latents = module.encode(torch.rand(4, 3, 32, 32)).latents
    kept = kept_for_backward(module, lambda: module.decode(latents).square().mean(), bf16=False)
    found = cost.stage_cost("decoder_finetune", trial(tokenizer))
    assert found.image_bytes == pytest.approx(kept / 4, rel=0.15)
    assert found.recomputed_bytes < found.image_bytes


def test_an_average_of_a_tokenizer_is_planned_too():
    plain, averaged = (
        cost.stage_cost("tokenizer", TrialConfig(training=TrainingConfig(ema=ema))) for ema in (None, 0.999)
    )
    params = cost.tokenizer_params(TrialConfig().tokenizer, 32)["tokenizer_params"]
    assert averaged.fixed_bytes - plain.fixed_bytes == 4 * params
    assert averaged.disk_bytes - plain.disk_bytes == 12 * params
    assert averaged.blocks_bytes * 16 == plain.blocks_bytes * 20


def test_columns_of_the_second_training_stand_apart():
    sizes, without = cost.trial_sizes(trial(gan={})), cost.trial_sizes(TrialConfig(tokenizer=VIT))
    assert {name: sizes[name] for name in without} == without
    assert sizes.keys() - without.keys() == {"finetune_images", "finetune_flops", "finetune_only_params"}
    judge = loss_formulas.discriminator(trial(gan={}).decoder_finetune.losses.gan.discriminator, 32)
    assert sizes["finetune_only_params"] == judge.params


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"losses": {"gan": {"discriminator": {"kind": "patchgan", "depth": 5}}}},
         "depth 5 leaves nothing to judge"),
        ({"losses": {"semantic": {}}}, "unknown key 'semantic'"),
        ({"losses": {"gan": {"r1": {"evry": 3}}}}, "did you mean 'every'"),
        ({"losses": {"gan": {"discriminator": {"kind": "stylgan"}}}}, "did you mean 'stylegan'"),
        ({"training": {"ema": 1.0}}, "less than 1"),
        ({"training": {"probe_every": 5}}, "unknown key 'probe_every'"),
        ({"posterior": "mean"}, "'sample'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(second, words):
    with pytest.raises(ConfigError, match=words):
        parse(TrialConfig, {"decoder_finetune": second}, where="trial")


def test_images_that_stylegan_cannot_halve_are_refused():
    values = {"data": {"resolution": 100}, "tokenizer": {"patch": 4}, "decoder_finetune": {}}
    with pytest.raises(ConfigError, match=r"finetune\.losses\.gan\.discriminator: stylegan.* 16 does not divide"):
        parse(TrialConfig, values)

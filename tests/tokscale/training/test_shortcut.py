"""Early help past a tokenizer's transformers: the plain loop's weights while it lasts and after, costs, refusals."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale import cost
from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.config import ShortcutLoss, TrialConfig
from tokscale.data import open_images, to_model_range, train_batches
from tokscale.errors import ConfigError
from tokscale.gigatok_formulas import convolutional_decoder
from tokscale.models.tokenizer import build_tokenizer
from tokscale.parsing import parse
from tokscale.stages import run
from tokscale.training.shortcut import Shortcut

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: shortcut
trial:
  data: {kind: procedural, resolution: 16, validation_images: 16}
  tokenizer:
    kind: gigatok
    encoder: pico
    decoder: pico
    tokens: 8
    convolution: {channels: 8, multipliers: [1, 2], encoder_blocks: 1, decoder_blocks: 1, map_channels: 16}
    bottleneck: {kind: fsq, levels: [4, 4]}
  losses: {reconstruction: l1, shortcut: {weight: 0.5, until: 40}}
  training: {images: 96, batch_size: 16, lr: 2e-3, warmup: 0, schedule: constant, gradient_clip: 0.5}
  probe: null
"""
STEPS, HELPED = 6, 3  # 40 images are passed in the third step of 16


@pytest.fixture
def prepared(tmp_path):
    """Makes the tokenizer's stage in a store of its own, ready to run."""

    def prepare(name):
        path = tmp_path / f"{name}.yaml"
        path.write_text(SPEC)
        trial = expand(*load_spec(path))[0]
        return Store(tmp_path / name).prepare(trial.stages[0]), trial.config

    return prepare


def plain_loop(config):
    """The same training, written out part by part."""
    torch.manual_seed(seed_for("initialisation", 0))
    tokenizer = build_tokenizer(config.tokenizer, 16)
    parameters = list(tokenizer.parameters())
    groups = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.training.weight_decay},
              {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=config.training.lr, betas=config.training.betas)
    batches = train_batches(open_images(config.data, "train"), batch_size=16, seed=0)
    for step in range(STEPS):
        images = to_model_range(batches.batch(step)[0])
        tokenizer.bottleneck.draws = Draws(seed_for("step", 0, step))
        made = tokenizer.encoder.convolutions(images)
        latents = tokenizer.bottleneck(tokenizer.encoder.head(tokenizer.encoder.transformer(made))).latents
        passed_on, _ = tokenizer.decoder.transformer(tokenizer.decoder.embedding(latents))
        loss = F.l1_loss(tokenizer.decoder.convolutions(passed_on), images)
        if step < HELPED:
            loss = loss + 0.5 * F.l1_loss(tokenizer.decoder.convolutions(made), images)
            loss = loss + 0.5 * F.mse_loss(passed_on, made.detach())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
    return tokenizer.state_dict()


def test_a_run_is_the_plain_loop_with_help_and_without(prepared):
    folder, config = prepared("run")
    run(str(folder.path), progress_seconds=0.0)
    lines = [json.loads(line) for line in folder.progress.read_text().splitlines()]
    assert [{"direct", "feature_map"} <= line.keys() for line in lines] == [True] * HELPED + [False] * HELPED
    found = load_file(folder.artifacts / "tokenizer.safetensors")
    for name, tensor in plain_loop(config).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=2e-5)


def test_passes_of_any_size_are_one(prepared):
    whole, parts = prepared("whole")[0], prepared("parts")[0]
    run(str(whole.path))
    run(str(parts.path), micro_batch=5)
    expected = load_file(whole.artifacts / "tokenizer.safetensors")
    for name, tensor in load_file(parts.artifacts / "tokenizer.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=2e-5)


def test_the_encoders_map_is_an_aim_and_is_not_moved_by_it(prepared):
    tokenizer = build_tokenizer(prepared("run")[1].tokenizer, 16)
    shortcut = Shortcut(tokenizer, ShortcutLoss(), F.l1_loss)
    images = torch.randn(2, 3, 16, 16)
    tokenizer(images)
    direct = tokenizer.encoder.convolutions(images)
    losses = shortcut.losses(images)
    losses["feature_map"].backward()
    # What is left of a gradient came through the tokens, by way of the decoder's map.
    through = [p.grad.clone() for p in tokenizer.encoder.convolutions.parameters()]
    tokenizer.zero_grad()
    F.mse_loss(tokenizer.decoder.transformer(tokenizer.decoder.embedding(tokenizer.encode(images).latents))[0],
               direct.detach()).backward()  # fmt: skip
    for parameter, expected in zip(tokenizer.encoder.convolutions.parameters(), through, strict=True):
        torch.testing.assert_close(parameter.grad, expected)


def test_a_closed_shortcut_holds_on_to_nothing(prepared):
    tokenizer = build_tokenizer(prepared("run")[1].tokenizer, 16)
    shortcut = Shortcut(tokenizer, ShortcutLoss(until=32), F.l1_loss)
    shortcut.close_after(31)
    assert shortcut.is_open
    shortcut.close_after(32)
    tokenizer(torch.randn(2, 3, 16, 16))
    with pytest.raises(IndexError):
        shortcut.losses(torch.randn(2, 3, 16, 16))


def test_it_costs_a_second_pass_through_the_decoders_convolutions(prepared):
    config = prepared("run")[1]
    plain = config.model_copy(update={"losses": config.losses.model_copy(update={"shortcut": None})})
    second = convolutional_decoder(config.tokenizer.convolution, 16)
    with_help, without = (cost.stage_cost("tokenizer", each) for each in (config, plain))
    assert with_help.flops - without.flops == pytest.approx(48 * 3 * second.flops)
    assert with_help.image_bytes - without.image_bytes == second.kept_bytes(4)
    weightless = plain.losses.model_copy(update={"shortcut": ShortcutLoss(weight=0)})
    assert cost.stage_cost("tokenizer", config.model_copy(update={"losses": weightless})) == without


def test_a_tokenizer_without_convolutions_has_no_way_past_its_transformers():
    with pytest.raises(ConfigError, match=r"losses\.shortcut .* gigatok tokenizer, and tokenizer\.kind is vit"):
        parse(TrialConfig, {"losses": {"shortcut": {}}})
    assert parse(TrialConfig, {"losses": {"shortcut": {"weight": 0}}}).losses.shortcut is not None

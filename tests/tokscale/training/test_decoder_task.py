"""A decoder's second training: nothing before it moves, and its steps are those that are written out here."""

import copy
import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tests.tokscale.training.rank_tasks import Step
from tokscale import cost
from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.config import DecoderFinetuneConfig
from tokscale.data import open_images, to_model_range, train_batches
from tokscale.models.tokenizer import build_tokenizer
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.training.checkpoints import FolderCheckpoints
from tokscale.training.decoder_task import DecoderTask

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: second
trial:
  data: {kind: procedural, resolution: 16, validation_images: 16}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, bottleneck: {kind: kl, channels: 4}}
  training: {images: 64, batch_size: 16, lr: 2e-3}
  decoder_finetune:
    training: {images: 96, batch_size: 16, lr: 1e-3, warmup: 0, ema: 0.8}
    losses:
      perceptual: {kind: random-vgg, weight: 0.7}
      gan:
        weight: 0.2
        start: 32
        lr: 1e-3
        warmup: 0.5
        lr_warmup: 0.5
        discriminator: {channel_base: 128, channel_max: 8}
        r1: {weight: 0.5, every: 2}
        lecam: {weight: 0.1, decay: 0.5}
  probe: null
"""
PLAIN = SPEC.replace("weight: 0.2", "weight: 0").replace("perceptual: {kind", "perceptual: null #")
SEED = seed_for("decoder finetune", 0)


def trial_of(text, folder):
    path = folder / "second.yaml"
    path.write_text(text)
    return expand(*load_spec(path))[0]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A store in which the tokenizer is trained."""
    folder = tmp_path_factory.mktemp("first")
    store = Store(folder / "runs")
    run(str(store.prepare(trial_of(SPEC, folder).stages[0]).path))
    return store


@pytest.fixture
def prepared(first, tmp_path):
    """Makes the second stage in a store of its own, ready to run."""

    def prepare(name, text=SPEC):
        shutil.copytree(first.root, tmp_path / name)
        folder = Store(tmp_path / name).prepare(trial_of(text, tmp_path).stages[1])
        assert folder.kind == "decoder_finetune"
        return folder

    return prepare


def weights_of(folder):
    return load_file(folder.artifacts / "decoder.safetensors")


def lines_of(folder):
    return [json.loads(line) for line in folder.progress.read_text().splitlines()]


def first_tokenizer(folder, config):
    tokenizer = build_tokenizer(config.tokenizer, config.data.resolution)
    trained = next((folder.path.parent.parent / "tokenizer").iterdir()) / "artifacts" / "tokenizer.safetensors"
    tokenizer.load_state_dict(load_file(trained))
    return tokenizer


# --- what learns ---


def task_on(tokenizer, **changes):
    losses = {"perceptual": None, "gan": None, **changes.pop("losses", {})}
    config = DecoderFinetuneConfig(training={"images": 64, "batch_size": 16, **changes}, losses=losses)
    return DecoderTask(tokenizer, config, 16, 0)


@pytest.mark.parametrize("bottleneck", ["kl", "vq"])
def test_only_the_decoder_is_part_of_the_task(bottleneck, tmp_path):
    kind = "{kind: vq, codebook_size: 32, code_dim: 4, revive_after: 1}" if bottleneck == "vq" else "{channels: 4}"
    config = trial_of(SPEC.replace("{kind: kl, channels: 4}", kind), tmp_path).config
    tokenizer = build_tokenizer(config.tokenizer, 16)
    before = copy.deepcopy(tokenizer.state_dict())
    task = task_on(tokenizer)
    assert {name.split(".")[0] for name in task.state_dict()} == {"decoder", "average"}
    (optimizer,) = task.configure_optimizers()
    task.train()
    reconstruction, _, _ = task.reconstructed(torch.rand(4, 3, 16, 16) * 2 - 1, Draws(0))
    reconstruction.square().mean().backward()
    optimizer.step()
    task.finish_step()
    task.after_step()
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(tensor, before[name]) is not name.startswith("decoder."), name
    assert all(one.grad is None for half in (tokenizer.encoder, tokenizer.bottleneck) for one in half.parameters())


def test_what_is_frozen_keeps_nothing_for_a_backward_pass(tmp_path):
    tokenizer = build_tokenizer(trial_of(SPEC, tmp_path).config.tokenizer, 16)
    task, images = task_on(tokenizer), torch.rand(4, 3, 16, 16) * 2 - 1

    def saved(forward):
        storages, alive = {}, []

        def keep(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = forward()
        assert out.requires_grad
        return sum(storages.values())

    latents = task.latents(images, Draws(0))
    assert not latents.requires_grad
    assert saved(lambda: task.reconstructed(images, Draws(0))[0]) == saved(lambda: tokenizer.decode(latents))


def test_the_decoder_is_given_a_sample_or_the_mode(tmp_path):
    tokenizer = build_tokenizer(trial_of(SPEC, tmp_path).config.tokenizer, 16)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    task = task_on(tokenizer)
    result = tokenizer.bottleneck(tokenizer.encoder(images))
    noise = Draws(5).normal("posterior", result.mean.shape, result.mean.device)
    assert torch.equal(task.latents(images, Draws(5)), result.mean + (0.5 * result.logvar).exp() * noise)
    config = DecoderFinetuneConfig(posterior="mode", losses={"perceptual": None, "gan": None})
    assert torch.equal(DecoderTask(tokenizer, config, 16, 0).latents(images, Draws(5)), result.mean)


# --- the plain loop ---


def test_without_a_discriminator_steps_are_plain_ones(prepared, tmp_path):
    text = PLAIN.replace("images: 96", "images: 32")
    folder = prepared("run", text)
    run(str(folder.path), progress_seconds=0.0)
    config = trial_of(text, tmp_path).config
    tokenizer = first_tokenizer(folder, config).eval()
    decoder = tokenizer.decoder
    parameters = list(decoder.parameters())
    groups = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 1e-4},
              {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
    average = [parameter.detach().clone() for parameter in parameters]
    batches = train_batches(open_images(config.data, "train"), batch_size=16, seed=SEED)
    for step, rate in enumerate((1e-3, 0.5e-3)):
        images = to_model_range(batches.batch(step)[0])
        with torch.no_grad():
            result = tokenizer.encode(images)
            noise = Draws(seed_for("step", SEED, step)).normal("posterior", result.mean.shape, result.mean.device)
            latents = result.mean + (0.5 * result.logvar).exp() * noise
        loss = F.mse_loss(tokenizer.decode(latents), images)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        average = [0.8 * old + 0.2 * new.detach() for old, new in zip(average, parameters, strict=True)]
        assert lines_of(folder)[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    found = weights_of(folder)
    for (name, _), expected in zip(decoder.named_parameters(), average, strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


# --- layouts and interruptions ---


def test_ranks_passes_and_shared_blocks_are_one_process(prepared, assert_close):
    alone, passes, together, shared = (prepared(name) for name in ("alone", "passes", "together", "shared"))
    run(str(alone.path), progress_seconds=0.0)
    run(str(passes.path), micro_batch=6, progress_seconds=0.0)  # rounded down to a group of 4
    for folder, layout in ((together, {}), (shared, {"shard": True, "recompute": True})):
        step = Step(folder, 2, micro_batch=4, **layout)
        assert step.finish() == [0, 0], step.output
    for other in (passes, together, shared):
        assert_close(other, alone)
        for line, expected in zip(lines_of(other), lines_of(alone), strict=True):
            assert line.keys() == expected.keys()
            for name in expected.keys() - {"time", "per_second"}:
                assert line[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-5), name


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(prepared, run_four_steps):  # two with the discriminator
    unbroken, broken = prepared("unbroken"), prepared("broken")
    run(str(unbroken.path), progress_seconds=0.0)
    run_four_steps(broken)
    state = FolderCheckpoints("").load_checkpoint(next(broken.checkpoints.iterdir()))["state_dict"]
    assert {name.split(".")[0] for name in state} == {"decoder", "average", "adversary"}
    assert state["adversary.logit_means"].abs().min() > 0
    run(str(broken.path), progress_seconds=0.0)
    first, second = weights_of(unbroken), weights_of(broken)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for line, expected in zip(lines_of(broken), lines_of(unbroken), strict=True):
        for name in expected.keys() - {"time", "per_second"}:
            assert line[name] == expected[name], name


def test_bf16_trains_about_the_same(prepared):
    exact, rounded = prepared("exact"), prepared("rounded", SPEC.replace("ema: 0.8", "ema: 0.8, precision: bf16"))
    for folder in (exact, rounded):
        run(str(folder.path), progress_seconds=0.0)
    for line, expected in zip(lines_of(rounded), lines_of(exact), strict=True):
        assert line.keys() == expected.keys()
        for name in expected.keys() & {"reconstruction", "perceptual", "discriminator", "r1"}:
            assert line[name] == pytest.approx(expected[name], rel=0.1), name


# --- records ---


def test_the_record_says_what_was_spent_apart_from_the_first_training(prepared, tmp_path):
    folder = prepared("run")
    run(str(folder.path))
    record, planned = read_record(folder.path), cost.trial_sizes(trial_of(SPEC, tmp_path).config)
    for name in ("finetune_only_params", "finetune_images", "finetune_flops"):
        assert record.measures[name] == planned[name], name
    assert record.measures.keys().isdisjoint({"train_images", "train_flops", "tokenizer_params"})
    assert set(record.artifacts) == {"decoder.safetensors"}
    assert record.parents.keys() == {"tokenizer"}
    words = " ".join(record.notes)
    assert "stand-in for LPIPS" in words
    assert "averaged weights, which are measured, still hold 26%" in words

"""Training with all that can stand beside a tokenizer: the plain loop's weights, in any layout, however interrupted."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tests.tokscale.training import rank_tasks
from tests.tokscale.training.rank_tasks import STEP, Step
from tokscale import cost
from tokscale.bottlenecks.draws import Draws, seed_for
from tokscale.data import open_images, to_model_range, train_batches
from tokscale.losses.perceptual import random_vgg
from tokscale.losses.semantic import Alignment
from tokscale.models.discriminator import Discriminator
from tokscale.models.tokenizer import build_tokenizer
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.stages.teacher import load_teacher
from tokscale.training.checkpoints import FolderCheckpoints

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: beside
trial:
  data: {kind: procedural, resolution: 16, validation_images: 16}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, bottleneck: {kind: fsq, levels: [4, 4]}}
  losses:
    perceptual: {kind: random-vgg, weight: 0.7}
    gan: {weight: 0.5, start: 32, lr: 1e-3, discriminator: {width: 8, depth: 1, norm_images: 4}}
    semantic: {weight: 0.5, layer: 1, features: {kind: classifier, size: pico, patch: 8, images: 64, batch_size: 32}}
  training: {images: 96, batch_size: 16, lr: 2e-3, gradient_clip: 0.5}
  probe: null
"""
STEPS = 6


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A store in which the teacher is trained; the spec's text may be changed in what the teacher does not know."""
    folder = tmp_path_factory.mktemp("taught")
    store, trial = Store(folder / "runs"), trial_of(SPEC, folder)
    run(str(store.prepare(trial.stages[0]).path))
    return store


def trial_of(text, folder):
    path = folder / "beside.yaml"
    path.write_text(text)
    return expand(*load_spec(path))[0]


@pytest.fixture
def prepared(taught, tmp_path):
    """Makes the tokenizer's stage in a store of its own, ready to run."""

    def prepare(name, **changes):
        text = SPEC
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        shutil.copytree(taught.root, tmp_path / name)
        folder = Store(tmp_path / name).prepare(trial_of(text, tmp_path).stages[1])
        assert folder.kind == "tokenizer"
        return folder

    return prepare


def lines_of(folder):
    return [json.loads(line) for line in folder.progress.read_text().splitlines()]


def weights_of(folder):
    return load_file(folder.artifacts / "tokenizer.safetensors")


# --- the plain loop ---


def optimizer(modules, lr, training):
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": training.weight_decay},
              {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    return torch.optim.AdamW(groups, lr=lr, betas=training.betas), parameters


def fresh(purpose, build):
    torch.manual_seed(seed_for(purpose, 0))
    return build()


def plain_loop(config, teacher):
    """GigaTok's training, written out: the tokenizer's step on all losses, the discriminator's on hinge losses."""
    losses, training = config.losses, config.training
    tokenizer = fresh("initialisation", lambda: build_tokenizer(config.tokenizer, 16))
    judge = fresh("discriminator", lambda: Discriminator(losses.gan.discriminator))
    mlp = fresh("alignment", lambda: Alignment(32, 32))
    network, batches = random_vgg(), train_batches(open_images(config.data, "train"), batch_size=16, seed=0)
    (own, parameters), (its, others) = (
        optimizer([tokenizer, mlp], training.lr, training), optimizer([judge], losses.gan.lr, training)
    )  # fmt: skip
    found = []
    for step in range(STEPS):
        images = to_model_range(batches.batch(step)[0])
        shape = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / STEPS)).item())
        own.param_groups[0]["lr"] = own.param_groups[1]["lr"] = training.lr * shape
        its.param_groups[0]["lr"] = its.param_groups[1]["lr"] = losses.gan.lr * shape
        tokenizer.bottleneck.draws = Draws(seed_for("step", 0, step))
        reconstruction, _, features = tokenizer(images, losses.semantic.layer)
        total = F.mse_loss(reconstruction, images) + 0.7 * network(reconstruction, images).mean()
        aims = teacher.features(images).transpose(1, 2).reshape(16, -1, 2, 2)
        aims = F.interpolate(aims, size=4, mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
        total -= 0.5 * F.cosine_similarity(mlp(features), aims, dim=-1).mean()
        judged = 16 * step >= losses.gan.start
        if judged:
            total -= 0.5 * judge(reconstruction).mean()
        gradients = torch.autograd.grad(total, parameters)
        line = {"loss": total.item()}
        if judged:
            real, fake = judge(images), judge(reconstruction.detach())
            loss = (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
            line |= {"discriminator": loss.item(), "logits_real": real.mean().item(), "logits_fake": fake.mean().item()}
            line["discriminator_gradient_norm"] = stepped(its, others, torch.autograd.grad(loss, others))
        line["gradient_norm"] = stepped(own, parameters, gradients)
        found.append(line)
    return tokenizer, found


def stepped(optimizer, parameters, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, 0.5)
    optimizer.step()
    return norm.item()


def test_a_run_is_the_plain_loop(prepared):
    folder = prepared("run", warmup=("gradient_clip: 0.5", "gradient_clip: 0.5, warmup: 0"))
    run(str(folder.path), progress_seconds=0.0)
    store_root = folder.path.parent.parent.parent
    config = trial_of(SPEC.replace("gradient_clip: 0.5", "gradient_clip: 0.5, warmup: 0"), store_root).config
    teacher_folder = next((store_root / "stages" / "teacher").iterdir())
    teacher = load_teacher(read_record(teacher_folder), type(folder)(teacher_folder))
    tokenizer, expected = plain_loop(config, teacher)
    for line, plain in zip(lines_of(folder), expected, strict=True):
        assert plain.keys() <= line.keys()
        assert ("discriminator" in line) == ("discriminator" in plain)
        for name, value in plain.items():
            assert line[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    for name, tensor in tokenizer.state_dict().items():
        torch.testing.assert_close(weights_of(folder)[name], tensor, rtol=1e-4, atol=2e-5)


# --- layouts and interruptions ---


def test_two_ranks_and_passes_of_whole_groups_are_one_process(prepared, assert_close):
    alone, together, passes, shared = (prepared(name) for name in ("alone", "together", "passes", "shared"))
    run(str(alone.path), progress_seconds=0.0)
    for folder, layout in ((together, {}), (shared, {"shard": True})):
        step = Step(folder, 2, micro_batch=6, **layout)  # rounded down to a group of 4
        assert step.finish() == [0, 0], step.output
    run(str(passes.path), micro_batch=8, progress_seconds=0.0)
    for other in (together, passes, shared):
        assert_close(other, alone)
        for line, expected in zip(lines_of(other), lines_of(alone), strict=True):
            assert line.keys() == expected.keys()
            for name in expected.keys() - {"time", "per_second"}:
                assert line[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-5), name
    assert not any("batch norm" in note for note in read_record(together.path).notes)
    assert read_record(together.path).provenance["micro_batch"] == 4


def test_passes_of_less_than_a_group_are_noted(prepared):
    folder = prepared("small")
    run(str(folder.path), micro_batch=2)
    assert any("statistics over 4 images at a time, and passes held 2" in n for n in read_record(folder.path).notes)


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(prepared, run_four_steps):  # two with the discriminator
    unbroken, broken = prepared("unbroken"), prepared("broken")
    run(str(unbroken.path), progress_seconds=0.0)
    run_four_steps(broken)
    checkpoint = next(broken.checkpoints.iterdir())
    state = FolderCheckpoints("").load_checkpoint(checkpoint)
    kept = {name.split(".")[0] for name in state["state_dict"]}
    assert kept == {"tokenizer", "adversary", "alignment"}  # and no frozen network
    judge = state["optimizer_states"][1]["state"]
    assert {float(moments["step"]) for moments in judge.values()} == {2.0}
    run(str(broken.path), progress_seconds=0.0)
    first, second = weights_of(unbroken), weights_of(broken)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for line, expected in zip(lines_of(broken), lines_of(unbroken), strict=True):
        for name in expected.keys() - {"time", "per_second"}:
            assert line[name] == expected[name], name


def test_ranks_that_are_stopped_go_on_as_one(prepared, assert_close):
    alone, together = prepared("alone"), prepared("together")
    run(str(alone.path))
    step = Step(together, 2, events={1: rank_tasks.signalled})
    assert step.finish() == [1, 0], step.output
    assert [path.name for path in together.checkpoints.iterdir()] == [f"{STEP * 16:015d}"]
    run(str(together.path), micro_batch=4)
    assert_close(together, alone)


def test_parts_of_before_the_discriminator_joined_are_gone_on_from(prepared, assert_close):
    alone, shared = prepared("alone"), prepared("shared")
    run(str(alone.path))
    step = Step(shared, 2, events={0: rank_tasks.signalled_early}, shard=True)
    assert step.finish() == [1, 0], step.output
    step = Step(shared, 2, job="78", shard=True)
    assert step.finish() == [0, 0], step.output
    assert read_record(shared.path).provenance["attempts"] == 2
    assert_close(shared, alone)


# --- records ---


def test_the_record_tells_stand_ins_and_what_is_left_behind(prepared):
    folder = prepared("run")
    run(str(folder.path))
    record = read_record(folder.path)
    trial = trial_of(SPEC, folder.path)
    planned = cost.trial_sizes(trial.config)
    for name in ("training_only_params", "tokenizer_params", "train_flops"):
        assert record.measures[name] == planned[name], name
    assert planned["training_only_params"] > 0
    assert sum("stand-in for LPIPS" in note or "stand-in for DINOv2" in note for note in record.notes) == 2
    assert "teacher" in record.parents


def test_bf16_trains_about_the_same(prepared):
    exact = prepared("exact")
    rounded = prepared("rounded", precision=("gradient_clip: 0.5", "gradient_clip: 0.5, precision: bf16"))
    for folder in (exact, rounded):
        run(str(folder.path))
    last, expected = lines_of(rounded)[-1], lines_of(exact)[-1]
    for name in ("reconstruction", "perceptual", "discriminator"):
        assert last[name] == pytest.approx(expected[name], rel=0.05), name


@pytest.mark.parametrize(("norm", "loss"), [("group", "non-saturating"), ("none", "hinge")])
def test_other_norms_and_the_other_loss_in_any_passes(prepared, assert_close, norm, loss):
    change = ("norm_images: 4}", f"norm: {norm}}}, loss: {loss}")
    whole, parts = prepared("whole", gan=change), prepared("parts", gan=change)
    run(str(whole.path))
    run(str(parts.path), micro_batch=3)
    assert_close(parts, whole)


def test_a_collapse_is_in_the_progress_and_in_the_record(prepared, monkeypatch):
    from tokscale.training import tokenizer_task

    seen = []

    def collapsed(points, **facts):
        seen.append((len(points), facts))
        return ["the codebook collapses"] if len(points) > 3 else []

    monkeypatch.setattr(tokenizer_task, "signs", collapsed)
    folder = prepared("run")
    run(str(folder.path), progress_seconds=0.0)
    assert [line.get("warning") for line in lines_of(folder)] == [None] * 3 + ["the codebook collapses"] * 3
    assert "the codebook collapses" in read_record(folder.path).notes
    assert seen[-1] == (STEPS, {"codes": 16, "latents": 16 * 16, "warmup": 0.03, "entropy": False})

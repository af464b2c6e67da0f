"""A stage's training is that of a bare loop, bit by bit: Lightning adds nothing, and what is spared was nothing."""

import pytest
import torch
from torch.utils.data import DataLoader

from sweeps.grid import expand
from sweeps.spec import load_spec
from tokscale.bottlenecks.draws import Draws, seed_device, seed_for
from tokscale.data import open_images, train_batches
from tokscale.models.tokenizer import build_tokenizer
from tokscale.parsing import parse
from tokscale.stage import StageFolder
from tokscale.stages.configs import TokenizerStage
from tokscale.training.loop import Runtime, Setting, train
from tokscale.training.optimization import learning_rate
from tokscale.training.stopping import StopFlag
from tokscale.training.team import Team
from tokscale.training.tokenizer_task import TokenizerTask

STEPS = 6


def task_of(config):
    torch.manual_seed(seed_for("initialisation", config.seed))
    return TokenizerTask(build_tokenizer(config.tokenizer, *config.data.extent), config, config.seed)


def batches(config, step=0):
    images = open_images(config.data, "train")
    return train_batches(images, batch_size=config.training.batch_size, seed=config.seed, start_batch=step)


def bare_loop(config):
    """Every operation outright, each gradient scaled in every step, and ``torch.manual_seed`` before each pass."""
    task, training = task_of(config), config.training
    (optimizer,) = task.configure_optimizers()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step, batch in zip(range(STEPS), DataLoader(batches(config), batch_size=None), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, training)
        optimizer.zero_grad()
        torch.manual_seed(seed_for("training", config.seed, step, 0))
        losses, _ = task.losses_of(batch, Draws(seed_for("step", config.seed, step)))
        (torch.stack(list(losses.values())).sum() * 1.0).backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
        task.tokenizer.bottleneck.finish_step()
        optimizer.step()
        if task.average is not None:
            for ours, theirs in zip(task.average.parameters(), task.tokenizer.parameters(), strict=True):
                ours.lerp_(theirs.detach(), 1 - training.ema)
            for ours, theirs in zip(task.average.buffers(), task.tokenizer.buffers(), strict=True):
                ours.copy_(theirs)
    return task


@pytest.mark.parametrize(("number", "clip"), [(0, 1.0), (0, 0.05), (1, 1.0), (2, 1.0)])
def test_a_trained_tokenizer_is_that_of_the_bare_loop(small_spec, tmp_path, number, clip):
    values = expand(*load_spec(small_spec))[number].stages[0].config
    training = {**values["training"], "images": 16 * STEPS, "ema": 0.9, "gradient_clip": clip}
    config = parse(TokenizerStage, {**values, "training": training})
    folder = StageFolder(tmp_path / "tokenizer" / "x")
    setting = Setting("x", folder, Runtime(progress_seconds=0.0), StopFlag(), Team(), 1, lambda: None)
    trained = train(task_of(config), lambda step: batches(config, step), setting)
    expected = bare_loop(config)
    for name in ("tokenizer", "average"):
        for key, value in getattr(expected, name).state_dict().items():
            assert torch.equal(trained[name][key], value), f"{name}.{key}"


def test_a_seed_gives_a_processor_the_numbers_that_it_gives_torch():
    for seed in (0, 17, 2**63 - 1):
        seed_device(seed, torch.device("cpu"))
        ours = torch.rand(5), torch.randperm(9)
        torch.manual_seed(seed)
        assert all(
            torch.equal(mine, plain) for mine, plain in zip(ours, (torch.rand(5), torch.randperm(9)), strict=True)
        )

"""What a training step costs beside a bare loop of the same parts, and beside a loop as one is written in haste.

    python benchmarks/training_loop.py [--steps 150] [--rounds 7]

The tokenizer of the quickstart is trained in several ways, turn by turn, and each turn is timed between two steps,
after a few that warm up. `tokscale`: the stage's own path, through Lightning, in a worker that trained on the same
images before, as it does for all trials but the first; `first trial`: in one that did not. `by hand`: the same batches,
model, losses, random numbers, clipping and optimizer in a bare loop; it must come to the same weights, bit by bit.
`plain`: the same model and loss in float32 with a shuffling `DataLoader` over the same images, AdamW as it comes,
`clip_grad_norm_`, a schedule of `torch.optim`, `.item()` in every step, and an average of the weights parameter by
parameter; its data set makes each image when it is asked for, or has them all in memory (`in memory`).

The first table is of one thread. The second is of the whole machine, in steps a second: a sweep gives each core a trial
of its own, with one thread; a plain loop is alone and has as many threads as torch takes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sweeps.planning import make_plan
from sweeps.store import Store
from tokscale.bottlenecks.draws import Draws, seed_device, seed_for
from tokscale.config import ProceduralData
from tokscale.data import ImageSet, open_images, procedural, train_batches
from tokscale.data.dead_leaves import render, scenes
from tokscale.losses.reconstruction import reconstruction_loss
from tokscale.models.tokenizer import Tokenizer, build_tokenizer
from tokscale.parsing import parse
from tokscale.stage import StageFolder
from tokscale.stages.configs import TokenizerStage
from tokscale.training import averaging
from tokscale.training.loop import Runtime, Setting, train
from tokscale.training.optimization import learning_rate
from tokscale.training.stopping import StopFlag
from tokscale.training.team import Team
from tokscale.training.tokenizer_task import TokenizerTask

WARM_UP = 30  # steps
FIRST = 2**40  # number of the first training image
ROOT = Path(__file__).parents[1]
Times = tuple[float, float]  # processor and wall seconds


class Clock:
    """Times what lies between the end of the warm-up and the end of the last step."""

    def __init__(self, steps: int) -> None:
        self.steps, self._passed = steps, 0
        self._start = self._end = (0.0, 0.0)

    def tick(self) -> None:
        """A step is over."""
        self._passed += 1
        if self._passed == WARM_UP:
            self._start = (time.process_time(), time.perf_counter())
        elif self._passed == self.steps:
            self._end = (time.process_time(), time.perf_counter())

    @property
    def per_step(self) -> Times:
        counted = self.steps - WARM_UP
        return (self._end[0] - self._start[0]) / counted, (self._end[1] - self._start[1]) / counted


class Ticking(pl.Callback):
    """Has a clock tick when a step of Lightning's is over."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, *_: object) -> None:
        self.clock.tick()


class OneByOne(Dataset[tuple[Tensor, int]]):
    """The training images, each made when it is asked for."""

    def __init__(self, config: TokenizerStage) -> None:
        assert isinstance(config.data, ProceduralData)
        self.data, self.count = config.data, config.training.images

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        which = scenes(self.data.seed, "train", np.array([FIRST + index]), self.data.classes)
        image = torch.from_numpy(render(which, self.data.resolution)[0])
        return image.float() / 127.5 - 1, int(which.labels[0])


def in_memory(config: TokenizerStage) -> TensorDataset:
    """The training images, ready to be taken."""
    indices = range(FIRST, FIRST + config.training.images)
    images, labels = open_images(config.data, "train").images(indices)
    return TensorDataset(images.float() / 127.5 - 1, labels)


def configured(steps: int, ema: float | None) -> TokenizerStage:
    """The quickstart's tokenizer with a KL bottleneck of four channels, for so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(ROOT / "sweeps/specs/quickstart.yaml", Store(Path(folder)))
    stages = [stage for trial in plan.trials for stage in trial.stages if stage.kind == "tokenizer"]
    config: dict[str, Any] = dict(next(
        stage.config for stage in stages if stage.config["tokenizer"]["bottleneck"].get("channels") == 4
    ))  # fmt: skip
    training = {**config["training"], "images": steps * config["training"]["batch_size"], "ema": ema}
    return parse(TokenizerStage, {**config, "training": training})


def built(config: TokenizerStage) -> Tokenizer:
    """Its model, from the same first weights each time."""
    torch.manual_seed(seed_for("initialisation", config.seed))
    return build_tokenizer(config.tokenizer, *config.data.extent)


def by_tokscale(config: TokenizerStage, clock: Clock) -> Mapping[str, Tensor]:
    """As the stage does; what it has trained, and averaged."""
    images = open_images(config.data, "train")
    task = TokenizerTask(built(config), config, config.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = StageFolder(Path(name) / "tokenizer" / "benchmark")
        setting = Setting("benchmark", folder, Runtime(), StopFlag(), Team(), 1, lambda: None)
        trained = train(task, lambda step: _batches(config, images, step), setting, [Ticking(clock)])
    return trained.get("average") or trained["tokenizer"]


def first_trial(config: TokenizerStage, clock: Clock) -> Mapping[str, Tensor]:
    """As the stage does in a process that has not rendered these images before."""
    kept, procedural.rendered_here = procedural.rendered_here, procedural.RenderedBlocks(0)
    weights = by_tokscale(config, clock)
    procedural.rendered_here = kept
    return weights


def by_hand(config: TokenizerStage, clock: Clock) -> Mapping[str, Tensor]:
    """The same work without a framework."""
    images = open_images(config.data, "train")
    training, device = config.training, torch.device("cpu")
    task = TokenizerTask(built(config), config, config.seed)
    (optimizer,) = task.configure_optimizers()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step, batch in enumerate(_loaded(_batches(config, images, 0), training.steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, training)
        optimizer.zero_grad()
        seed_device(seed_for("training", config.seed, step, 0), device)
        losses, _ = task.losses_of(batch, Draws(seed_for("step", config.seed, step)))
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
        optimizer.step()
        if task.average is not None:
            assert training.ema is not None
            averaging.take_in(task.average, task.tokenizer, training.ema)
        clock.tick()
    return (task.average or task.tokenizer).state_dict()


def plain(config: TokenizerStage, clock: Clock, data: Dataset[Any] | None = None) -> Mapping[str, Tensor]:
    """The same training as it is written in haste."""
    training, model = config.training, built(config)
    loss_of = reconstruction_loss(config.losses)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, betas=training.betas,
                                  weight_decay=training.weight_decay)  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, training) / training.lr)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    for batch, _ in DataLoader(data or OneByOne(config), batch_size=training.batch_size, shuffle=True):
        reconstruction, bottleneck, _ = model(batch)
        loss = loss_of(reconstruction, batch) + sum(bottleneck.losses.values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
        optimizer.step()
        schedule.step()
        if training.ema is not None:
            for name, value in model.state_dict().items():
                average[name] = training.ema * average[name] + (1 - training.ema) * value
        seen.append(loss.item())
        clock.tick()
    return average


def _batches(config: TokenizerStage, images: ImageSet, step: int) -> Any:
    return train_batches(images, batch_size=config.training.batch_size, seed=config.seed, start_batch=step)


def _loaded(batches: Any, steps: int) -> Iterator[Any]:
    return islice(DataLoader(batches, batch_size=None), steps)


WAYS: Mapping[str, Callable[[TokenizerStage, Clock], Mapping[str, Tensor]]] = {
    "tokscale": by_tokscale,
    "by hand": by_hand,
    "tokscale, first trial": first_trial,
    "plain, in memory": lambda config, clock: plain(config, clock, in_memory(config)),
    "plain": plain,
}


def compare(steps: int, rounds: int, ema: float | None) -> dict[str, list[Times]]:
    """Seconds a step of each way, turn by turn."""
    config = configured(steps, ema)
    found: dict[str, list[Times]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        weights = {}
        for name, way in WAYS.items():
            clock = Clock(steps)
            weights[name] = way(config, clock)
            found[name].append(clock.per_step)
        for name in ("tokscale", "tokscale, first trial"):
            assert all(torch.equal(weights[name][key], value) for key, value in weights["by hand"].items())
    return found


def in_a_process(name: str, steps: int, threads: int, together: Any, found: Any) -> None:
    """Train twice, so that images are rendered and caches warm, the second time when all others begin theirs too."""
    torch.set_num_threads(threads)
    config = configured(steps, None)
    WAYS[name](config, Clock(steps))
    clock = Clock(steps)
    together.wait()
    WAYS[name](config, clock)
    found.put(clock.per_step[1])


def on_all_cores(name: str, steps: int, processes: int, threads: int) -> float:
    """Steps a second of all processes together."""
    context = multiprocessing.get_context("spawn")
    together, found = context.Barrier(processes), context.Queue()
    started = [context.Process(target=in_a_process, args=(name, steps, threads, together, found))
               for _ in range(processes)]  # fmt: skip
    for process in started:
        process.start()
    rate = sum(1 / found.get() for _ in started)
    for process in started:
        process.join()
    return rate


def main() -> None:
    """Print two tables with date and hardware."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores, 1 thread, Python "
          f"{sys.version.split()[0]}, torch {torch.__version__}; a step of the quickstart's tokenizer, medians of "
          f"{arguments.rounds} turns")  # fmt: skip
    print(f"{'':24} processor      wall   against tokscale")
    for ema in (None, 0.999):
        found = compare(arguments.steps, arguments.rounds, ema)
        medians = {name: [statistics.median(column) for column in zip(*turns, strict=True)]
                   for name, turns in found.items()}  # fmt: skip
        print("without an average" if ema is None else f"with an average of the weights (ema {ema:g})")
        for name, (processor, wall) in medians.items():
            print(f"  {name:22} {1000 * processor:6.2f} ms {1000 * wall:6.2f} ms   "
                  f"{processor / medians['tokscale'][0]:.2f}")  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    layouts = {"tokscale": (cores, 1), "plain, in memory": (1, cores), "plain": (1, cores)}
    rates = {name: statistics.median(on_all_cores(name, arguments.steps, *layout) for _ in range(arguments.rounds))
             for name, layout in layouts.items()}  # fmt: skip
    print(f"on all {cores} cores")
    for name, rate in rates.items():
        processes, threads = layouts[name]
        print(f"  {name:22} {rate:6.1f} steps a second, {rate / rates['tokscale']:.2f} of tokscale's; processes x "
              f"threads: {processes} x {threads}")  # fmt: skip


if __name__ == "__main__":
    main()

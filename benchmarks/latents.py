"""What encoding data and training a probe on it cost beside the arithmetic that cannot be spared.

    python benchmarks/latents.py [--rounds 5] [--seconds 2]

Images of 64 pixels, one thread; images a second of processor time, medians over rounds in which all ways take turns.

`stage` is the stage that encodes, as a sweep runs it, from its claim to its record, on pictures that an earlier trial
rendered; `new pictures` has to render them. `encoder` runs the encoder alone, in inference mode, over the same images
in memory in batches of the size that suits it best. `data`, `encode` and `write` are parts of the stage: batches, the
encoder at the stage's batch, files with description and hashes.

Below each tokenizer, probes are trained on its latents: `stage` through Lightning on the memory-mapped files, `by hand`
in a bare loop over one batch in memory with the same probe, clipping and optimizer; `data` only reads the batches.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.data import procedural
from tokscale.data.latent_batches import latent_batches
from tokscale.data.latent_writer import LatentWriter
from tokscale.data.latents import Latents, finish_latents, open_latents
from tokscale.data.variants import open_variants
from tokscale.memory import images_at_once
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.probes import AutoregressiveProbe, build_probe, draw_tokens
from tokscale.probes.encoding import encode, spec_of
from tokscale.record import read_record
from tokscale.stage import StageFolder
from tokscale.stages import run
from tokscale.stages.configs import LatentsStage
from tokscale.stages.tokenizer import load_tokenizer
from tokscale.training.loop import Runtime, Setting, train
from tokscale.training.optimization import build_optimizer
from tokscale.training.stopping import StopFlag
from tokscale.training.tasks import ProbeTask
from tokscale.training.team import Team

CPU = torch.device("cpu")
RESOLUTION, VALIDATION, MOST = 64, 64, 4096
BATCHES = (8, 16, 32, 64)
WARM_UP, STEPS, PROBE_BATCH = 3, 20, 64
TOKENIZERS = {
    "ViT micro/8, KL 16": "{encoder: micro, decoder: pico, patch: 8, bottleneck: {kind: kl, channels: 16}}",
    "ViT mini/8, KL 16": "{encoder: mini, decoder: pico, patch: 8, bottleneck: {kind: kl, channels: 16}}",
    "GigaTok micro, VQ 1024": "{kind: gigatok, encoder: micro, decoder: pico, layout: 2d, tokens: 64, convolution: "
    "{channels: 16, multipliers: [1, 2, 2, 2]}, bottleneck: {kind: vq, codebook_size: 1024}}",
}
SPEC = """\
name: benchmark
trial:
  data: {{kind: procedural, resolution: {resolution}, validation_images: {validation}}}
  tokenizer: {tokenizer}
  training: {{images: 16, batch_size: 16}}
  latents: {{images: {images}}}
  probe: {{size: pico, training: {{images: 64, batch_size: 64}}}}
"""
Way = Callable[[], int]
"""does some work, and says of how many images it was"""


def rates(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Images a processor second of each way."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            count = way()
            found[name].append(count / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in found.items()}


# --- encoding ---


class Encoding:
    """A tokenizer of one training step, its images in memory, and the stage that encodes them."""

    def __init__(self, root: Path, text: str, seconds: float) -> None:
        self.root, self.text = root, text
        stages = self._stages(MOST)
        self.store = Store(root / "runs")
        folder = self.store.prepare(stages["tokenizer"])
        run(str(folder.path))
        record = read_record(folder.path)
        assert record is not None
        self.tokenizer: Tokenizer = load_tokenizer(record, folder, CPU)[0]
        few = torch.randint(256, (128, 3, RESOLUTION, RESOLUTION), dtype=torch.uint8)
        tried = rates({str(size): lambda size=size: self.encoded(few, size) for size in BATCHES}, 3)  # type: ignore[misc]
        self.best = int(max(tried, key=lambda size: tried[size]))
        self.count = min(MOST, max(256, int(seconds * tried[str(self.best)]) // 64 * 64))
        self.stage = self._stages(self.count)["latents"]
        self.config = parse(LatentsStage, self.stage.config)
        self.size = images_at_once(RESOLUTION)
        self.ready = list(self._batches())
        self.images = torch.cat([images for images, _, _ in self.ready])

    def _stages(self, images: int) -> dict[str, Any]:
        path = self.root / "benchmark.yaml"
        path.write_text(SPEC.format(resolution=RESOLUTION, validation=VALIDATION, tokenizer=self.text, images=images))
        return {stage.kind: stage for stage in expand(*load_spec(path))[0].stages}

    def _batches(self) -> Any:
        return open_variants(self.config.data, "train", "none").batches(self.size, self.count)

    def staged(self) -> int:
        """The stage from nothing to its record."""
        folder = self.store.prepare(self.stage)
        shutil.rmtree(folder.path)
        run(str(self.store.prepare(self.stage).path))
        return self.count + VALIDATION

    def rendering(self) -> int:
        """The same in a process that has not seen the pictures before."""
        kept, procedural.rendered_here = procedural.rendered_here, procedural.RenderedBlocks(0)
        count = self.staged()
        procedural.rendered_here = kept
        return count

    def encoded(self, images: Tensor, size: int) -> int:
        """The encoder alone."""
        with torch.inference_mode():
            return sum(len(next(iter(encode(self.tokenizer, part).values()))) for part in torch.split(images, size))

    def read(self) -> int:
        """The batches alone."""
        return sum(len(images) for images, _, _ in self._batches())

    def written(self) -> int:
        """Files, description and hashes alone; few batches, again and again."""
        spec = spec_of(self.tokenizer)
        with tempfile.TemporaryDirectory() as name, torch.inference_mode():
            some = [{**encode(self.tokenizer, images), "labels": labels} for images, labels, _ in self.ready[:2]]
            start = time.process_time()
            for split in ("train", "validation"):
                with LatentWriter(Path(name), split, spec, MOST) as writer:
                    for number in range(MOST // self.size):
                        writer.write(**some[number % 2])
            finish_latents(Path(name), spec, 10)
            self.write_seconds = time.process_time() - start
        return 2 * MOST

    def measured(self, rounds: int) -> dict[str, float]:
        """Images a second of the stage, of the encoder alone, and of the stage's parts."""
        self.staged()  # renders what is kept
        ways: dict[str, Way] = {
            "stage": self.staged, "encoder": lambda: self.encoded(self.images, self.best),
            "new pictures": self.rendering, "data": self.read, "encode": lambda: self.encoded(self.images, self.size),
        }  # fmt: skip
        found, writes = rates(ways, rounds), []
        for _ in range(rounds):
            writes.append(self.written() / self.write_seconds)
        return found | {"write": statistics.median(writes)}

    @property
    def latents(self) -> Latents:
        return open_latents(self.store.prepare(self.stage).artifacts)


# --- training a probe ---


class Clock(pl.Callback):
    """Processor seconds of a step, the first ones left out."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def tick(self) -> None:
        """A step is over."""
        self.ends.append(time.process_time())

    def on_train_batch_end(self, *_: object) -> None:
        self.tick()

    @property
    def per_step(self) -> float:
        return (self.ends[-1] - self.ends[WARM_UP]) / (len(self.ends) - 1 - WARM_UP)


class Training(NamedTuple):
    """A probe of some size that is to be trained on latents."""

    latents: Latents
    config: ProbeConfig

    def probe(self) -> AutoregressiveProbe:
        torch.manual_seed(0)
        return build_probe(self.config, self.latents.spec, self.latents.num_classes)

    def batches(self) -> Any:
        return latent_batches(self.latents.train, batch_size=PROBE_BATCH, seed=0)

    def by_stage(self, clock: Clock) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = StageFolder(Path(name) / "probe" / "benchmark")
            setting = Setting("benchmark", folder, Runtime(), StopFlag(), Team(), 1, lambda: None)
            train(ProbeTask(self.probe(), self.config.training, 0), lambda _: self.batches(), setting, [clock])

    def by_hand(self, clock: Clock) -> None:
        probe, training = self.probe(), self.config.training
        parameters, optimizer = list(probe.parameters()), build_optimizer(probe, training)
        batch = next(iter(self.batches()))
        for _ in range(training.steps):
            optimizer.zero_grad()
            probe.loss(draw_tokens(batch), batch["labels"]).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
            optimizer.step()
            clock.tick()

    def measured(self, rounds: int) -> dict[str, float]:
        """Images a second of the stage's training, of the bare loop, and of reading batches."""
        seconds: dict[str, list[float]] = {"stage": [], "by hand": []}
        for _ in range(rounds):
            for name, way in (("stage", self.by_stage), ("by hand", self.by_hand)):
                clock = Clock()
                way(clock)
                seconds[name].append(clock.per_step)
        found = {name: PROBE_BATCH / statistics.median(values) for name, values in seconds.items()}
        read = rates({"data": lambda: sum(len(part["labels"]) for part in islice(self.batches(), 100))}, rounds)
        return found | read


def training(latents: Latents, size: str) -> Training:
    """For a few steps."""
    settings = {"images": PROBE_BATCH * (WARM_UP + STEPS), "batch_size": PROBE_BATCH}
    return Training(latents, ProbeConfig.model_validate({"size": size, "training": settings}))


def line(name: str, found: dict[str, float], ours: str, floor: str) -> str:
    """One row of a table: images a second, and the share that ours has of its floor."""
    numbers = "".join(f"{key} {value:,.0f}   " for key, value in found.items())
    return f"{name:26} {found[ours] / found[floor]:4.2f} of {floor}:   {numbers}"


def main() -> None:
    """Print a table with date and hardware."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="that encoding takes, in each round and way")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{date.today()}, {platform.machine()}, {len(os.sched_getaffinity(0))} cores, 1 thread, Python "
          f"{sys.version.split()[0]}, torch {torch.__version__}; images a processor second, medians of "
          f"{arguments.rounds} rounds")  # fmt: skip
    for name, text in TOKENIZERS.items():
        with tempfile.TemporaryDirectory() as folder:
            encoding = Encoding(Path(folder), text, arguments.seconds)
            found = encoding.measured(arguments.rounds)
            print(
                line(name, found, "stage", "encoder"),
                f"({encoding.count} images; best batch {encoding.best})",
                flush=True,
            )
            for size in ("micro", "mini"):
                found = training(encoding.latents, size).measured(arguments.rounds)
                print(line(f"  its probe, {size}", found, "stage", "by hand"), flush=True)


if __name__ == "__main__":
    main()

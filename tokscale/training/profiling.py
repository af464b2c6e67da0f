"""Where the time of a stage goes: a few of its steps under torch's profiler, and a page of what was found.

A step is an optimizer step of a training, or one pass of a stage that measures. Some are let go by first, in the last
of which FLOPs are counted, and numbers that are read off tensors; then some are recorded, with next to nothing between
them; what follows runs as ever. Nothing that comes out of a stage depends on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch.profiler import ProfilerActivity, profile

from tokscale.record import write_atomically
from tokscale.training.counting import Counting
from tokscale.training.tasks import Task

LET_BY, RECORDED = 5, 10
"""steps before the recorded ones, and recorded steps"""
_SHOWN = 20  # operations on the page
_PEAK_SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices whose product is the device's peak
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
"""calls in which the processor waits for the device"""
_READ = "numbers read"


class Operation(NamedTuple):
    """One kind of operation: how often a step has it, and its own milliseconds in a step, of device or processor."""

    name: str
    calls: float
    milliseconds: float


class Findings(NamedTuple):
    """What a profile found; per step where nothing else is said."""

    device: str
    steps: int
    milliseconds: float
    images: int | None
    flops: int
    peak_flops: float
    """of a second, measured here on a matrix product in the stage's precision"""
    waits: dict[str, float]
    """of the processor for the device; ``numbers read`` off a tensor are waits wherever that is on a device"""
    memory_bytes: int | None
    """at most allocated on the device; None on a processor"""
    operations: list[Operation]

    @property
    def flops_per_second(self) -> float:
        return 1000 * self.flops / self.milliseconds

    def page(self, stage: str) -> str:
        """The findings on one page."""
        share = self.flops_per_second / self.peak_flops
        waits = ", ".join(f"{name} {count:.3g}" for name, count in self.waits.items()) or "none"
        lines = [
            f"profile of {stage}: {self.steps} steps on {self.device}",
            f"a step            {self.milliseconds:.3g} ms",
            *([f"images a second   {1000 * self.images / self.milliseconds:,.0f}"] if self.images else []),
            f"FLOPs of a step   {self.flops:.4g}",
            f"FLOP/s            {self.flops_per_second:.3g}, {share:.1%} of a matrix product's {self.peak_flops:.3g}",
            f"waits in a step   {waits}",
            *([f"memory            {self.memory_bytes / 2**30:.2f} GiB at most"] if self.memory_bytes else []),
            "",
            f"{'own time':>10} {'share':>7} {'calls':>7}  operation",
        ]  # fmt: skip
        whole = sum(operation.milliseconds for operation in self.operations) or 1.0
        for operation in self.operations[:_SHOWN]:
            lines.append(f"{operation.milliseconds:7.3g} ms {operation.milliseconds / whole:7.1%} "
                         f"{operation.calls:7.4g}  {operation.name}")  # fmt: skip
        return "\n".join(lines) + "\n"


class StageProfile:
    """Watches the steps of one attempt; ``step`` is called at the end of each, ``close`` at the end of the stage.

    Leaves ``trace.json.gz``, which Perfetto and Chrome open, ``profile.json`` and ``profile.txt`` in ``folder``.
    """

    def __init__(self, folder: Path, stage: str, device: torch.device, *, trains: bool) -> None:
        self.folder, self.stage, self.device, self.trains = folder, stage, device, trains
        self.precision = "fp32"
        self.images: int | None = None
        """of one step, where they are known"""
        self._passed = 0
        self._counting: Counting | None = None
        self._recorder: profile | None = None
        self._flops, self._reads, self._started = 0, 0, 0.0

    def passed(self) -> None:
        """One more pass of a stage has ended; in one that trains, passes are not what counts."""
        if not self.trains:
            self.step()

    def step(self) -> None:
        """One more step has ended."""
        self._passed += 1
        self._stop_counting()
        if self._passed == LET_BY - 1:
            self._counting = Counting()
        elif self._passed == LET_BY:
            self._begin()
        elif self._recorder is not None and self._passed == LET_BY + RECORDED:
            self._end(RECORDED)

    def close(self) -> None:
        """The stage is over; what it had of recorded steps is told."""
        self._stop_counting()
        if self._recorder is not None:
            self._end(self._passed - LET_BY)

    def _stop_counting(self) -> None:
        if self._counting is not None:
            self._counting.off()
            self._flops, self._reads = self._counting.flops, self._counting.reads
            self._counting = None

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.reset_peak_memory_stats(self.device)
        self._recorder = profile(activities=activities)
        self._recorder.start()
        self._wait()
        self._started = time.perf_counter()

    def _end(self, steps: int) -> None:
        assert self._recorder is not None
        self._wait()
        seconds = time.perf_counter() - self._started
        recorder, self._recorder = self._recorder, None
        recorder.stop()
        if not steps:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        recorder.export_chrome_trace(str(self.folder / "trace.json.gz"))
        on_gpu, threads = self.device.type == "cuda", torch.get_num_threads()
        # Before matrices of our own are multiplied, which take memory too.
        memory = torch.cuda.max_memory_allocated(self.device) if on_gpu else None
        averages = recorder.key_averages()
        found = Findings(
            device=torch.cuda.get_device_name(self.device) if on_gpu else f"a processor, {threads} threads",
            steps=steps, milliseconds=1000 * seconds / steps, images=self.images, flops=self._flops,
            peak_flops=matrix_product_flops(self.device, self.precision),
            waits=({_READ: float(self._reads)} if self._reads else {})
            | {name: count / steps for name, count in _counts(averages, _WAITS).items()},
            memory_bytes=memory,
            operations=_operations(averages, steps, on_gpu),
        )  # fmt: skip
        kept = found._asdict() | {"operations": [operation._asdict() for operation in found.operations]}
        write_atomically(self.folder / "profile.json", json.dumps(kept, indent=1).encode())
        write_atomically(self.folder / "profile.txt", found.page(self.stage).encode())
        print(found.page(self.stage), flush=True)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class ProfiledSteps(pl.Callback):
    """Tells a profile of the steps of a training."""

    def __init__(self, stage_profile: StageProfile) -> None:
        self.profile = stage_profile

    def on_train_start(self, trainer: pl.Trainer, task: Any) -> None:
        assert isinstance(task, Task)
        self.profile.images = task.training_config.batch_size // trainer.world_size
        self.profile.precision = task.training_config.precision

    def on_train_batch_end(self, trainer: pl.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.profile.step()

    def on_train_end(self, trainer: pl.Trainer, task: Any) -> None:
        self.profile.close()


def matrix_product_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of a large square matrix product in this precision: the best of several, two per multiply-accumulate."""
    side = _PEAK_SIDE[device.type]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = torch.ones(2, side, side, device=device, dtype=kind)  # random numbers belong to the stage
    best = float("inf")
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _counts(averages: Iterable[Any], names: Sequence[str]) -> dict[str, int]:
    """How often each of these operations was recorded, and only those that were."""
    found = {average.key: average.count for average in averages}
    return {name: found[name] for name in names if name in found}


def _operations(averages: Iterable[Any], steps: int, on_gpu: bool) -> list[Operation]:
    """All operations by their own time, the longest first."""
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = [
        Operation(average.key, average.count / steps, getattr(average, own) / 1000 / steps) for average in averages
    ]
    return sorted((one for one in found if one.milliseconds > 0), key=lambda one: -one.milliseconds)

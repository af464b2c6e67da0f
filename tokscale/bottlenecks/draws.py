"""Random numbers of a training step that belong to images, not to processes.

An image draws the same numbers whichever rank and micro-batch it falls into, so that a run on eight GPUs, or one that
was resumed with half the micro-batch, is the run on one GPU up to rounding. Nothing is kept between steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Images whose numbers are drawn at once, from one seed. Seeding for each image would cost a GPU more than the numbers;
# a larger block would draw more numbers in vain at the borders of micro-batches.
BLOCK = 8


def seed_for(purpose: str, *parts: int) -> int:
    """A seed of its own for each purpose, trial seed, step and place, so that no two uses draw the same numbers.

    As it depends on nothing else, a resumed run draws what the unbroken one would have. SplitMix64's finaliser (Steele,
    Lea & Flood 2014) over the parts.
    """
    mask = (1 << 64) - 1
    state = 0
    for part in (zlib.crc32(purpose.encode()), *parts):
        state = (state + 0x9E3779B97F4A7C15 + part) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 1  # torch takes signed 64 bits


def seed_device(seed: int, device: torch.device) -> None:
    """Seed what draws numbers on a device when it is given no generator.

    ``torch.manual_seed`` seeds every kind of device that there may be, and writes down the stack for each that was not
    used yet: on a processor that is a tenth of a small model's step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


class Draws:
    """The numbers of one step, for consecutive images of the global batch from place ``first`` on.

    ``key`` names the step: a seed of the trial's seed and the step's number.
    """

    def __init__(self, key: int, first: int = 0) -> None:
        self.key, self.first = key, first

    def normal(self, purpose: str, shape: Sequence[int], device: torch.device) -> Tensor:
        """Standard normal numbers of a shape whose first dimension counts images; float32."""
        return self._of_images(lambda rows, generator: rows.normal_(generator=generator), purpose, shape, device)

    def uniform(self, purpose: str, shape: Sequence[int], device: torch.device) -> Tensor:
        """Numbers in [0, 1) of a shape whose first dimension counts images; float32."""
        return self._of_images(lambda rows, generator: rows.uniform_(generator=generator), purpose, shape, device)

    def integers(self, purpose: str, below: int, count: int, device: torch.device) -> Tensor:
        """``count`` numbers in [0, below), int64, which belong to no image: equal on all ranks."""
        generator = torch.Generator(device).manual_seed(seed_for(purpose, self.key))
        return torch.randint(below, (count,), generator=generator, device=device)

    def _of_images(
        self, fill: Callable[[Tensor, torch.Generator], object], purpose: str, shape: Sequence[int],
        device: torch.device,
    ) -> Tensor:  # fmt: skip
        count, *rest = shape
        blocks = range(self.first // BLOCK, -(-(self.first + count) // BLOCK))
        values = torch.empty((len(blocks) * BLOCK, *rest), device=device)
        generator = torch.Generator(device)
        for rows, block in zip(torch.split(values, BLOCK), blocks, strict=True):
            fill(rows, generator.manual_seed(seed_for(purpose, self.key, block)))
        skipped = self.first % BLOCK
        return values[skipped : skipped + count]

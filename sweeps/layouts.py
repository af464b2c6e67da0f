"""How a stage is laid out on devices so that it fits their memory: as it is, or with one or both of two savings.

Sharing out the transformers' blocks among the devices saves weights, gradients and moments and costs traffic;
recomputing their activations in the backward pass saves activations and costs work. Neither changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokscale.stage_cost import StageCost

RECOMPUTED_WORK = 4 / 3
"""of a training step whose forward pass is made twice: four passes in place of three, at most"""


@dataclass(frozen=True)
class Layout:
    """One way to lay a stage out on each of some devices, with the bytes that it takes there.

    ``fixed_bytes`` do not grow with the images that pass at once, each of which takes ``image_bytes``.
    """

    shard: bool
    recompute: bool
    fixed_bytes: int
    image_bytes: int

    @property
    def least_bytes(self) -> int:
        """Bytes for a single image at once."""
        return self.fixed_bytes + self.image_bytes

    @property
    def work(self) -> float:
        """Work over that of the layout which saves nothing."""
        return RECOMPUTED_WORK if self.recompute else 1.0


def layouts(cost: StageCost, devices: int) -> list[Layout]:
    """The ways to lay a stage out on so many devices, the one that costs least first."""
    fixed = [(False, cost.fixed_bytes)]
    if cost.batch and devices > 1 and cost.blocks_bytes:
        fixed.append((True, cost.shared_bytes(devices)))
    images = [(False, cost.image_bytes)]
    if cost.batch and cost.recomputed_bytes:
        images.append((True, cost.recomputed_bytes))
    return [Layout(shard, recompute, weights, each) for recompute, each in images for shard, weights in fixed]


def layout_on(cost: StageCost, devices: int, budget: float | None) -> Layout | None:
    """The first layout whose single image fits a device of ``budget`` bytes (None: any); None where none does."""
    found = layouts(cost, devices)
    return next((one for one in found if budget is None or one.least_bytes <= budget), None)

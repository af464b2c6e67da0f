"""What one stage takes, for whoever plans or places it."""

from __future__ import annotations

from typing import NamedTuple


class StageCost(NamedTuple):
    """What one stage takes: FLOPs in all, bytes of memory, bytes on disk at most.

    A stage that trains may split its batch over devices and micro-batches: it needs ``fixed_bytes`` on each device and
    ``image_bytes`` for each image of the micro-batch there. One that only measures takes its images at its own pace:
    its ``batch`` is 0 and ``fixed_bytes`` is all it needs.
    """

    flops: float
    fixed_bytes: int
    """weights, gradients, moments: whatever does not grow with the batch"""
    image_bytes: int
    """of each image in memory at once"""
    batch: int
    """images of one optimizer step, on however many devices; 0 where nothing is trained"""
    disk_bytes: int
    blocks_bytes: int = 0
    """of ``fixed_bytes``, those of transformer blocks, which devices may share out among themselves"""
    block_bytes: int = 0
    """of the largest block's weights: where blocks are shared out, a device has one or two of them whole at a time"""

    recomputed_bytes: int = 0
    """what ``image_bytes`` become where blocks make their activations again in the backward pass; 0: they cannot"""
    gradient_bytes: int = 0
    """of ``fixed_bytes``, those of gradients"""
    rounded_bytes: int = 0
    """of ``fixed_bytes``, those of weights as autocast rounds them, and of a piece of the logits where they are made in
    pieces, which go with the activations"""
    host_bytes: int = 0
    """of host memory, wherever the rest is: pictures that the process keeps for the trial's other stages"""
    work: str = ""
    """what kind of work it is, where it reaches another rate than its kind of stage usually does"""

    def shared_bytes(self, devices: int) -> int:
        """What ``fixed_bytes`` become on each of several devices that share out the blocks.

        A device holds its part of all blocks, and whole those of the block that computes: its weights, the next one's,
        which are fetched meanwhile, and its gradients.
        """
        return self.fixed_bytes - self.blocks_bytes + -(-self.blocks_bytes // devices) + 3 * self.block_bytes

    def at_once_bytes(self, images: int, image_bytes: int) -> int:
        """Bytes of a device that is alone and passes all its images at once, each of so many bytes.

        Its gradients come as activations go: it never has all of both. In the second of several passes it does, and so
        it does where the buffers in which devices exchange gradients stay.
        """
        lasting = self.fixed_bytes - self.gradient_bytes - self.rounded_bytes
        return lasting + max(self.gradient_bytes, self.rounded_bytes + images * image_bytes)

    @property
    def memory_bytes(self) -> int:
        """Bytes for the whole batch at once on one device."""
        return self.at_once_bytes(self.batch, self.image_bytes)

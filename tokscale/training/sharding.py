"""Training of a model that fits no single device: its transformer blocks are shared out among the ranks (FSDP2).

Each rank holds an equal part of every block's weights, gradients and moments; a block is whole only while it computes
(Zhao et al. 2023, arXiv 2304.11277; ``torch.distributed.fsdp.fully_shard``). What is in no block (convolutions,
codebooks, embeddings, a discriminator) is small and whole on every rank, as under DDP, and its gradients are averaged
once a step. Blocks are gathered in float32, and autocast rounds as it does elsewhere, so a run gives the same weights
as under DDP or alone, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tokscale.training import parts
from tokscale.training.checkpoints import FolderCheckpoints
from tokscale.training.optimization import transformer_blocks


class ShardingStrategy(DDPStrategy):
    """DDP's processes and collectives, with shared-out blocks in place of a copy of the model on every rank."""

    def configure_ddp(self) -> None:
        """Share out the blocks, before the optimizers are made of their parameters."""
        assert self.model is not None
        shard(self.model, self.root_device)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True  # when there are parts to load into

    @property
    def lightning_restore_optimizer(self) -> bool:
        return False  # ``load_checkpoint`` does

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Every rank writes its parts, rank 0 the rest."""
        assert isinstance(self.checkpoint_io, FolderCheckpoints)
        optimizers = checkpoint["optimizer_states"]
        tensors = parts.named_tensors(checkpoint.pop("state_dict"), optimizers)
        checkpoint["optimizer_states"] = [{"param_groups": state["param_groups"]} for state in optimizers]
        self.checkpoint_io.save_parts(checkpoint, tensors, Path(filepath), self.is_global_zero)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Nothing to hold back: parts of gradients are added up as they come, whole ones averaged at the end."""
        yield

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load this rank's parts in place, of a checkpoint in parts or of a whole one; returns the rest."""
        assert isinstance(self.checkpoint_io, FolderCheckpoints)
        assert self.lightning_module is not None
        for optimizer in self.optimizers:
            _prepare_moments(optimizer)
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        tensors = parts.named_tensors(self.lightning_module.state_dict(), states)
        return self.checkpoint_io.load_parts(Path(checkpoint_path), tensors)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Nothing: ``load_checkpoint`` has loaded in place."""

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Nothing: ``load_checkpoint`` has loaded in place."""


def shard(module: nn.Module, device: torch.device) -> None:
    """Share out every block of every list called ``blocks`` among all ranks; gradients are means over the ranks."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in transformer_blocks(module):
        # Said outright: a block that is nobody's child would stay whole from its forward pass to its backward.
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether some of these parameters are shared out among ranks."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)


def average_whole_gradients(parameters: Iterable[Tensor]) -> None:
    """Average over the ranks the gradients of parameters that every rank has whole; of the parts, this is done."""
    whole = [parameter.grad for parameter in parameters
             if parameter.grad is not None and not isinstance(parameter, DTensor)]  # fmt: skip
    for kind in {gradient.dtype for gradient in whole}:
        some = [gradient for gradient in whole if gradient.dtype == kind]
        flat = torch.cat([gradient.flatten() for gradient in some])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        pieces = torch.split(flat, [gradient.numel() for gradient in some])
        for gradient, piece in zip(some, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))


def clip_gradients(parameters: Iterable[Tensor], bound: float) -> Tensor:
    """Scale gradients to a norm of at most ``bound`` over all ranks' parts; the norm before, equal on all ranks."""
    known = [parameter.grad for parameter in parameters if parameter.grad is not None]
    whole, local = known, []
    if is_sharded(known):
        local = [gradient.to_local() for gradient in known if isinstance(gradient, DTensor)]
        whole = [gradient for gradient in known if not isinstance(gradient, DTensor)]
    norm = _norm(whole)
    if local:
        squares = _norm(local).square()
        dist.all_reduce(squares)
        norm = (norm.square().to(squares.device) + squares).sqrt()
    factor = (bound / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([*local, *whole], factor)
    return norm


def _norm(gradients: list[Tensor]) -> Tensor:
    """Of all of them together, as ``torch.nn.utils.get_total_norm`` has it, which sorts them by device first."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else torch.tensor(0.0)


def whole_state(module: nn.Module, *, kept: bool) -> dict[str, Tensor]:
    """A module's state with every tensor whole, on the processor, for those who keep it; all ranks ask together."""
    state = {}
    for name, tensor in module.state_dict().items():
        put_together = parts.whole(tensor.detach())
        if kept:
            state[name] = put_together.cpu()
    return state


def _prepare_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give AdamW's state its place before there was a step, so that it can be loaded into."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

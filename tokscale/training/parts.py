"""Tensors that several ranks hold in parts: written by all of them, read by as many as there are then, or by one.

A part is what a rank has of a ``DTensor``; a tensor that all have whole is written once. The files are those of
``torch.distributed.checkpoint``, which knows where each part belongs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_in_place
from torch.distributed.checkpoint.state_dict_saver import save as save_together
from torch.distributed.tensor import DTensor, distribute_tensor

from tokscale.errors import StoreError
from tokscale.record import digest

FOLDER = "parts"
PartsError = CheckpointException
"""what ``save`` raises, on all ranks, when one of them cannot write"""


def are_in(folder: Path) -> bool:
    """Whether a checkpoint's tensors were written in parts."""
    return (folder / FOLDER).is_dir()


def save(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, dict[str, Any]]:
    """Write this rank's parts, with all other ranks, and the digests of all files by their names below ``folder``."""
    target = folder / FOLDER
    save_together(dict(tensors), storage_writer=FileSystemWriter(target, sync_files=True))
    rank = dist.get_rank()
    found: dict[str, dict[str, Any]] = {}
    for path in target.iterdir():
        if path.name.startswith(f"__{rank}_") or (rank == 0 and path.name == ".metadata"):
            found[f"{FOLDER}/{path.name}"] = digest(path)
    everyone: list[dict[str, dict[str, Any]]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, found)
    return {name: value for files in everyone for name, value in files.items()}


def load(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Load this rank's parts in place, with all other ranks, however many wrote them."""
    reader = FileSystemReader(folder / FOLDER)
    load_in_place(stored(tensors, reader.read_metadata().state_dict_metadata), storage_reader=reader)


def stored(tensors: Mapping[str, Tensor], known: Collection[str]) -> dict[str, Tensor]:
    """Those of some named tensors that a checkpoint has: all but the moments of an optimizer that had not stepped."""
    if missing := [name for name in tensors if name not in known and not name.startswith("optimizer/")]:
        raise StoreError("a checkpoint lacks weights of this model", given=missing[0])
    return {name: tensor for name, tensor in tensors.items() if name in known}


def load_whole(folder: Path) -> dict[str, Tensor]:
    """All tensors whole, on the processor, for a process that asks nobody else."""
    reader = FileSystemReader(folder / FOLDER)
    known = reader.read_metadata().state_dict_metadata
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in known.items()
               if isinstance(entry, TensorStorageMetadata)}  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # so it was meant
        load_in_place(tensors, storage_reader=reader, no_dist=True)
    return tensors


def named_tensors(model: Mapping[str, Tensor], optimizers: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of a model and of its optimizers' states, by names that say whose they are."""
    named = {f"model/{name}": tensor for name, tensor in model.items()}
    for number, state in enumerate(optimizers):
        for index, moments in state["state"].items():
            named.update({f"optimizer/{number}/{index}/{name}": tensor for name, tensor in moments.items()})
    return named


def put_back(named: Mapping[str, Tensor], state: dict[str, Any]) -> None:
    """Put named tensors into a checkpoint's state, where Lightning looks for them; the inverse of ``named_tensors``."""
    state["state_dict"] = {}
    for optimizer in state["optimizer_states"]:
        optimizer["state"] = {}
    for name, tensor in named.items():
        owner, _, rest = name.partition("/")
        if owner == "model":
            state["state_dict"][rest] = tensor
        else:
            number, index, moment = rest.split("/")
            state["optimizer_states"][int(number)]["state"].setdefault(int(index), {})[moment] = tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is shared out, put together on every rank; another as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def fill(target: Tensor, source: Tensor) -> None:
    """Copy a whole tensor, equal on all ranks, into one that is whole or shared out."""
    with torch.no_grad():
        source = source.to(target.device)
        if isinstance(target, DTensor):
            source = distribute_tensor(source, target.device_mesh, target.placements)
        target.copy_(source)


@contextlib.contextmanager
def agreeing() -> Iterator[None]:
    """What one rank raises inside, all raise, with the words of the first that did; a meeting of all at the end."""
    error: Exception | None = None
    try:
        yield
    except (OSError, RuntimeError) as raised:
        error = raised
    words: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(words, None if error is None else str(error))
    if error is not None:
        raise error
    if failed := [said for said in words if said is not None]:
        raise OSError(failed[0])

"""Checkpoints: a folder with weights as safetensors, the rest as tensors and plain values, and a manifest of hashes.

Written to a temporary name, flushed, renamed; the newest two are kept. Resuming takes the newest that verifies and that
belongs to the stage; a torn or foreign one is passed over, and said so. What ranks hold in parts they also write in
parts (``tokscale.training.parts``), for whatever layout goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokscale.record import cannot_write, digest, sync_folder
from tokscale.training import parts

KEPT = 2
LAYOUT = 2
"""of what is in the files; one of another layout is passed over"""
WEIGHTS, STATE = "weights.safetensors", "training.pt"
_logger = logging.getLogger(__name__)


class FolderCheckpoints(CheckpointIO):
    """How Lightning's checkpoints are written and read here; ``owner`` is the id of the stage they belong to."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint folder so that it appears whole or not at all; raises ``StoreError`` when it cannot."""
        final = Path(path)
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
        state = {name: value for name, value in checkpoint.items() if name != "state_dict"}
        with _all_or_nothing(final, temporary):
            temporary.mkdir(parents=True)
            weights = {name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}
            save_file(weights, temporary / WEIGHTS)
            torch.save(state, temporary / STATE)
            for name in (WEIGHTS, STATE):
                _flush(temporary / name)
            self._publish(temporary, final, {name: digest(temporary / name) for name in (WEIGHTS, STATE)})

    def save_parts(self, checkpoint: dict[str, Any], tensors: Mapping[str, Tensor], path: Path, first: bool) -> None:
        """As ``save_checkpoint``, by all ranks together: each writes its parts of ``tensors``, the first the rest.

        Raises ``StoreError`` on all ranks when one of them cannot write.
        """
        temporary = path.with_name(f".{path.name}.parts")
        with _all_or_nothing(path, temporary if first else None), parts.agreeing():
            if first:
                shutil.rmtree(temporary, ignore_errors=True)  # of an attempt that was killed
                temporary.mkdir(parents=True)
        with _all_or_nothing(path, temporary if first else None):
            written = parts.save(tensors, temporary)
        with _all_or_nothing(path, temporary if first else None), parts.agreeing():
            if first:
                torch.save(checkpoint, temporary / STATE)
                _flush(temporary / STATE)
                self._publish(temporary, path, {**written, STATE: digest(temporary / STATE)})

    def _publish(self, temporary: Path, final: Path, files: Mapping[str, dict[str, Any]]) -> None:
        """Write the manifest, give the folder its name, and remove what is no longer kept."""
        manifest = temporary / "manifest.json"
        manifest.write_text(json.dumps({"layout": LAYOUT, "owner": self.owner, "files": files}, indent=1))
        _flush(manifest)
        if final.exists():  # an earlier attempt's, which did not verify, or it would have been resumed from
            shutil.rmtree(final)
        os.rename(temporary, final)
        sync_folder(final.parent)
        for old in _newest_first(final.parent)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint's content, whole, on the processor; nothing in it is executable (``weights_only``)."""
        folder = Path(path)
        state = _state(folder)
        if parts.are_in(folder):
            parts.put_back(parts.load_whole(folder), state)
        else:
            state["state_dict"] = load_file(folder / WEIGHTS)
        return state

    def load_parts(self, folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Load into this rank's parts of ``tensors``, from a checkpoint of any layout; returns the rest of it."""
        state = _state(folder)
        if parts.are_in(folder):
            parts.load(tensors, folder)
        else:
            state["state_dict"] = load_file(folder / WEIGHTS)
            known = parts.named_tensors(state.pop("state_dict"), state["optimizer_states"])
            for name, tensor in parts.stored(tensors, known).items():
                parts.fill(tensor, known[name])
        return state

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path, ignore_errors=True)


def newest_checkpoint(folder: Path, owner: str) -> Path | None:
    """The newest checkpoint that verifies and belongs to this stage; None when there is none yet."""
    for path in _newest_first(folder):
        fault = _fault(path, owner)
        if fault is None:
            return path
        _logger.warning("checkpoint %s is passed over: %s", path, fault)
    return None


def _state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return state


@contextlib.contextmanager
def _all_or_nothing(final: Path, temporary: Path | None) -> Iterator[None]:
    """Make a ``StoreError`` of whatever a full or failing disk makes the writers raise, and leave nothing behind."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, parts.PartsError) as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise cannot_write(final, cause) from error


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _fault(path: Path, owner: str) -> str | None:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        if manifest.get("layout") != LAYOUT:
            return "another version of tokscale wrote it"
        if manifest["owner"] != owner:
            return f"it belongs to stage {manifest['owner']}"
        for name, expected in manifest["files"].items():
            if digest(path / name) != expected:
                return f"{name} does not have the size or hash that was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"unreadable ({error})"
    return None


def _flush(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())

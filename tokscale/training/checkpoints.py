"""Checkpoints: a folder with weights as safetensors, the rest as tensors and plain values, and a manifest of hashes.

Written to a temporary name, flushed, renamed; the newest two are kept. Resuming takes the newest that verifies and that
belongs to the stage; a torn or foreign one is passed over, and said so.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tokscale.record import cannot_write, digest, sync_folder

KEPT = 2
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
        try:
            temporary.mkdir(parents=True)
            weights = {name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}
            save_file(weights, temporary / "weights.safetensors")
            torch.save(state, temporary / "training.pt")
            files = {name: digest(temporary / name) for name in ("weights.safetensors", "training.pt")}
            (temporary / "manifest.json").write_text(json.dumps({"owner": self.owner, "files": files}, indent=1))
            for file in temporary.iterdir():
                _flush(file)
            if final.exists():  # an earlier attempt's, which did not verify, or it would have been resumed from
                shutil.rmtree(final)
            os.rename(temporary, final)
            sync_folder(final.parent)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise cannot_write(final, error) from error
        except (RuntimeError, SafetensorError) as error:  # what the two writers make of a full disk
            shutil.rmtree(temporary, ignore_errors=True)
            raise cannot_write(final, OSError(str(error))) from error
        for old in _newest_first(final.parent)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """The checkpoint's content, on the processor; nothing in it is executable (``weights_only``)."""
        folder = Path(path)
        state: dict[str, Any] = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
        state["state_dict"] = load_file(folder / "weights.safetensors")
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


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _fault(path: Path, owner: str) -> str | None:
    try:
        manifest = json.loads((path / "manifest.json").read_text())
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

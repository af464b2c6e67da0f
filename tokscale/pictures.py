"""Strips and grids of images as PNG files, for reports: tiles without gaps, so that they can be cut apart again."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from tokscale.record import write_atomically


def save_pictures(images: Tensor, path: Path, columns: int | None = None) -> None:
    """Write uint8 images (b, 3, h, w) in so many columns, by default as a strip, or clips (b, 3, t, h, w) as a grid:
    a row for each clip's frames."""
    if images.ndim == 4:
        return save_grid(images, path, columns or len(images))
    return save_grid(images.transpose(1, 2).flatten(0, 1), path, columns=images.shape[2])


def save_grid(images: Tensor, path: Path, columns: int) -> None:
    """Write uint8 images (b, 3, h, w) row by row as one PNG; places left over in the last row are white.

    The PNG's text holds ``tile_width``, ``tile_height``, ``tiles`` (how many) and ``columns``. The file is whole or
    not there; ``StoreError`` when the folder cannot take it.
    """
    assert images.dtype == torch.uint8, "pictures are made of 8-bit images"
    assert images.ndim == 4, "images are (b, 3, h, w)"
    assert images.shape[1] == 3, "images have three colour channels"
    assert len(images) > 0, "a picture needs an image"
    assert columns > 0, "a grid needs a column"
    count, _, height, width = images.shape
    text = PngInfo()
    for key, value in {"tile_width": width, "tile_height": height, "tiles": count, "columns": columns}.items():
        text.add_text(key, str(value))
    buffer = io.BytesIO()
    Image.fromarray(_tiled(images.cpu(), columns).numpy()).save(buffer, format="PNG", pnginfo=text)
    write_atomically(path, buffer.getvalue())


def _tiled(images: Tensor, columns: int) -> Tensor:
    """(b, 3, h, w) -> (rows h, columns w, 3)."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    grid = images.new_full((rows * columns, channels, height, width), 255)
    grid[:count] = images
    grid = grid.reshape(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    return grid.reshape(rows * height, columns * width, channels)

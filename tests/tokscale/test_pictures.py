"""Strips and grids: what was put together can be cut apart again."""

import numpy as np
import pytest
import torch
from PIL import Image

from tokscale.errors import StoreError
from tokscale.pictures import save_grid, save_pictures


def noise(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def cut(path):
    """The tiles of a picture, by nothing but the file: (b, h, w, 3)."""
    with Image.open(path) as picture:
        width, height, tiles, columns = (
            int(picture.text[key]) for key in ("tile_width", "tile_height", "tiles", "columns")
        )
        pixels = np.asarray(picture)
    places = [divmod(i, columns) for i in range(tiles)]
    return np.stack([pixels[r * height : (r + 1) * height, c * width : (c + 1) * width] for r, c in places])


def test_a_strip_is_the_images_side_by_side(tmp_path):
    images = noise(5, 16, 24)
    save_pictures(images, tmp_path / "new" / "strip.png")
    with Image.open(tmp_path / "new" / "strip.png") as picture:
        assert picture.size == (5 * 24, 16)
        assert picture.mode == "RGB"
    assert np.array_equal(cut(tmp_path / "new" / "strip.png"), images.permute(0, 2, 3, 1).numpy())
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["strip.png"]


@pytest.mark.parametrize("columns", [1, 3, 7, 10])
def test_a_grid_goes_row_by_row_and_ends_in_white(tmp_path, columns):
    images = noise(7, 8, 12)
    save_grid(images, tmp_path / "grid.png", columns)
    assert np.array_equal(cut(tmp_path / "grid.png"), images.permute(0, 2, 3, 1).numpy())
    rows = -(-7 // columns)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (columns * 12, rows * 8)
        pixels = np.asarray(picture)
    left_over = rows * columns - 7
    if left_over:
        assert (pixels[-8:, -12 * left_over :] == 255).all()


def test_a_second_picture_replaces_the_first(tmp_path):
    first, second = noise(2, 4, 4), 255 - noise(2, 4, 4)
    save_pictures(first, tmp_path / "strip.png")
    save_pictures(second, tmp_path / "strip.png")
    assert np.array_equal(cut(tmp_path / "strip.png"), second.permute(0, 2, 3, 1).numpy())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "strip.png").mkdir()
    with pytest.raises(StoreError, match=r"cannot write strip\.png"):
        save_pictures(noise(1, 4, 4), tmp_path / "strip.png")
    assert [file.name for file in tmp_path.iterdir()] == ["strip.png"]

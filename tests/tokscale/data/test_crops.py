"""Square crops against the definition of the guided-diffusion preprocessing."""

import math

import numpy as np
import pytest
from PIL import Image

from tokscale.data.crops import center_crop, random_crop
from tokscale.data.decoding import UnreadableImage
from tokscale.data.randomness import hash64


def noise(width, height):
    return Image.fromarray(
        (hash64(1, np.arange(width * height * 3)) >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3)
    )


def defined_crop(image, size):
    """Halve by a box filter while the short side is at least twice the size, resize it to the size, take the middle."""
    for _ in range(max(0, int(math.log2(min(image.size) / size)))):
        image = image.resize(tuple(side // 2 for side in image.size), Image.BOX)
    factor = size / min(image.size)
    image = image.resize(tuple(round(side * factor) for side in image.size), Image.BICUBIC)
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (63, 65), (200, 131), (131, 200), (500, 333), (20, 47), (7, 9)])
def test_center_crop_is_the_defined_one(shape):
    image = noise(*shape)
    crop = center_crop(image, 32)
    assert crop.shape == (32, 32, 3)
    assert (crop == defined_crop(image, 32)).all()


def test_an_image_of_the_right_size_is_untouched():
    image = noise(32, 32)
    assert (center_crop(image, 32) == np.asarray(image)).all()


def assert_near(crop, expected):
    """Torch's bicubic filter and Pillow's differ by how they round in between."""
    apart = np.abs(crop.astype(int) - expected)
    assert apart.max() <= 2
    assert (apart > 0).mean() < 0.05


CORNERS = [(top, left) for top in (0, 1 - 2**-17) for left in (0, 1 - 2**-17)]


@pytest.mark.parametrize("shape", [(90, 70), (70, 90), (500, 333), (41, 41)])
@pytest.mark.parametrize("scale", [0, 0.5, 1 - 2**-17])
def test_random_crop_reaches_every_corner_at_every_scale(shape, scale):
    image = noise(*shape)
    pixels = np.array(image)
    short_side = 32 + int(scale * (math.ceil(32 / 0.8) - 32 + 1))
    while min(image.size) >= 2 * short_side:
        image = image.resize((image.width // 2, image.height // 2), Image.BOX)
    side = round(32 * min(image.size) / short_side)
    for top, left in CORNERS:
        column, row = bool(left) * (image.width - side), bool(top) * (image.height - side)
        cut = image.crop((column, row, column + side, row + side)).resize((32, 32), Image.BICUBIC)
        assert_near(random_crop(pixels, 32, scale, top, left), np.asarray(cut))


@pytest.mark.parametrize("shape", [(33, 45), (20, 47)])
def test_a_small_image_is_made_larger_before_it_is_cut(shape):
    image = noise(*shape)
    scale = math.ceil(32 / 0.8) / min(image.size)
    wide = np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC))
    for top, left in CORNERS:
        crop = random_crop(np.array(image), 32, 1 - 2**-17, top, left)
        row, column = bool(top) * (wide.shape[0] - 32), bool(left) * (wide.shape[1] - 32)
        assert_near(crop, wide[row : row + 32, column : column + 32])


def test_a_cut_shows_what_resizing_the_whole_image_shows_within_a_pixel_of_the_source():
    """Of a picture that rises evenly along both sides, as levels are places there."""
    width, height, resolution = 500, 375, 256
    ramp = np.stack(np.meshgrid(np.arange(width) / 2, np.arange(height) / 2), -1)
    pixels = np.concatenate([ramp, ramp[..., :1]], -1).round().astype(np.uint8)
    for scale, top, left in ((0.3, 0.2, 0.9), (0.8, 0.7, 0.1), (0.6, 0.5, 0.5)):
        short_side = 256 + int(scale * (320 - 256 + 1))
        size = round(width * short_side / height), short_side
        row, column = int(top * (size[1] - resolution + 1)), int(left * (size[0] - resolution + 1))
        whole = np.asarray(Image.fromarray(pixels).resize(size, Image.BICUBIC)).astype(int)
        apart = random_crop(pixels, resolution, scale, top, left).astype(int)
        apart -= whole[row : row + resolution, column : column + resolution]
        assert np.abs(apart).max() <= 2, "half a level is a pixel, and two filters round"


def test_random_crop_of_a_whole_square_is_the_middle_crop():
    image = noise(47, 47)
    assert_near(random_crop(np.array(image), 32, 0, 0.9, 0.45), center_crop(image, 32))


def test_an_image_of_the_right_size_is_untouched_in_training_too():
    pixels = np.array(noise(32, 32))
    assert (random_crop(pixels, 32, 0, 0, 0) == pixels).all()


def test_an_elongated_image_is_refused_before_it_fills_the_memory():
    with pytest.raises(UnreadableImage, match="elongated"):
        center_crop(Image.new("RGB", (40000, 1)), 256)
    with pytest.raises(UnreadableImage, match="elongated"):
        random_crop(np.zeros((1, 40000, 3), np.uint8), 256, 0, 0, 0)

"""Square crops against the definition of the guided-diffusion preprocessing, by Pillow and by compiled code."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from tokscale.data import crops
from tokscale.data.compiled_resampling import by_machine_code
from tokscale.data.crops import center_crop, random_crop
from tokscale.data.decoding import UnreadableImage
from tokscale.data.randomness import hash64
from tokscale.data.resampling import by_pillow

CROPS = {"Pillow": by_pillow, "compiled": by_machine_code}


@pytest.fixture(params=CROPS)
def way(request, monkeypatch):
    """Both ways to crop."""
    monkeypatch.setattr(crops._squares, "crop", CROPS[request.param])


def noise(width, height, seed=1):
    return Image.fromarray(
        (hash64(seed, np.arange(width * height * 3)) >> np.uint64(56)).astype(np.uint8).reshape(height, width, 3)
    )


def resized(image, size, kind):
    """Rows first, then columns, whatever Pillow's version would choose."""
    return image.resize((size[0], image.size[1]), kind).resize(size, kind)


def defined_crop(image, size):
    """Halve by a box filter while the short side is at least twice the size, resize it to the size, take the middle."""
    for _ in range(max(0, int(math.log2(min(image.size) / size)))):
        image = resized(image, tuple(side // 2 for side in image.size), Image.BOX)
    factor = size / min(image.size)
    image = resized(image, tuple(round(side * factor) for side in image.size), Image.BICUBIC)
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def centre(image, size, **settings):
    planes = np.empty((3, size, size), np.uint8)
    center_crop(planes, np.asarray(image), **settings)
    return planes.transpose(1, 2, 0)


def cropped(image, size, *draws, **settings):
    planes = np.empty((3, size, size), np.uint8)
    random_crop(planes, np.asarray(image), *draws, **settings)
    return planes.transpose(1, 2, 0)


SHAPES = [
    (32, 32),
    (64, 64),
    (63, 65),
    (200, 131),
    (131, 200),
    (500, 333),
    (20, 47),
    (7, 9),
    (1, 1),
    (1, 30),
    (333, 500),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_center_crop_is_the_defined_one(shape, way):
    image = noise(*shape)
    crop = centre(image, 32)
    assert crop.shape == (32, 32, 3)
    assert (crop == defined_crop(image, 32)).all()


@settings(max_examples=150, deadline=None)
@given(
    resolution=some.integers(1, 50), halvings=some.floats(-3, 3.2), longer=some.floats(1, 2.5),
    upright=some.booleans(), black_and_white=some.booleans(), seed=some.integers(0, 2**32), flip=some.booleans(),
)  # fmt: skip
def test_both_ways_give_the_defined_crop_of_any_image(
    resolution, halvings, longer, upright, black_and_white, seed, flip
):
    short = max(1, round(resolution * 2**halvings))
    shape = (short, round(short * longer))[:: 1 if upright else -1]
    image = noise(*shape, seed)
    if black_and_white:  # levels that the filters overshoot
        image = image.point(lambda level: 255 * (level > 127))
    expected = defined_crop(image, resolution)[:, :: -1 if flip else 1]
    with pytest.MonkeyPatch.context() as patch:
        for crop in CROPS.values():
            patch.setattr(crops._squares, "crop", crop)
            assert (centre(image, resolution, flip=flip) == expected).all()


@settings(max_examples=100, deadline=None)
@given(
    resolution=some.integers(1, 50), shape=some.tuples(some.integers(1, 200), some.integers(1, 200)),
    draws=some.tuples(*[some.floats(0, 1 - 2**-17)] * 3), flip=some.booleans(),
)  # fmt: skip
def test_both_ways_give_one_random_crop(resolution, shape, draws, flip):
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for crop in CROPS.values():
            patch.setattr(crops._squares, "crop", crop)
            found.append(cropped(noise(*shape), resolution, *draws, flip=flip))
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (1001, 749), (1200, 1600)])
def test_photographs_become_the_same_crop_both_ways(shape, monkeypatch):
    image = noise(*shape)
    for crop in CROPS.values():
        monkeypatch.setattr(crops._squares, "crop", crop)
        assert (centre(image, 256) == defined_crop(image, 256)).all()


def test_compiled_code_takes_over_after_some_images(monkeypatch):
    squares = crops._Squares()
    squares.few = 3 * 64 * 64
    monkeypatch.setattr(crops, "_squares", squares)
    image = noise(64, 64)
    for number in range(6):
        assert (squares.crop == by_machine_code) == (number > 3)
        assert (centre(image, 32) == defined_crop(image, 32)).all()
    squares.crop = squares._first
    assert crops.compiled_from_now_on()
    assert squares.crop == by_machine_code


def test_without_numba_pillow_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokscale.data.compiled_resampling", None)  # as when numba does not fit numpy
    squares = crops._Squares()
    squares.few = 0
    monkeypatch.setattr(crops, "_squares", squares)
    image = noise(64, 64)
    for _ in range(2):
        assert (centre(image, 32) == defined_crop(image, 32)).all()
        assert squares.crop is by_pillow
    assert not crops.compiled_from_now_on()


def test_an_image_of_the_right_size_is_untouched(way):
    image = noise(32, 32)
    assert (centre(image, 32) == np.asarray(image)).all()
    assert (cropped(image, 32, 0, 0, 0) == np.asarray(image)).all()
    assert (centre(image, 32, flip=True) == np.asarray(image)[:, ::-1]).all()
    wide = np.asarray(noise(47, 32))
    assert (centre(wide, 32) == wide[:, 7:39]).all()
    assert (centre(wide.swapaxes(0, 1), 32, flip=True) == wide.swapaxes(0, 1)[7:39, ::-1]).all()


CORNERS = [(top, left) for top in (0, 1 - 2**-17) for left in (0, 1 - 2**-17)]


@pytest.mark.parametrize("shape", [(90, 70), (70, 90), (500, 333), (41, 41)])
@pytest.mark.parametrize("scale", [0, 0.5, 1 - 2**-17])
def test_random_crop_reaches_every_corner_at_every_scale(shape, scale, way):
    image = noise(*shape)
    pixels = np.array(image)
    short_side = 32 + int(scale * (math.ceil(32 / 0.8) - 32 + 1))
    while min(image.size) >= 2 * short_side:
        image = resized(image, (image.width // 2, image.height // 2), Image.BOX)
    side = round(32 * min(image.size) / short_side)
    for top, left in CORNERS:
        column, row = bool(left) * (image.width - side), bool(top) * (image.height - side)
        cut = resized(image.crop((column, row, column + side, row + side)), (32, 32), Image.BICUBIC)
        assert (cropped(pixels, 32, scale, top, left) == np.asarray(cut)).all()


@pytest.mark.parametrize("shape", [(33, 45), (20, 47)])
def test_a_small_image_is_made_larger_before_it_is_cut(shape, way):
    image = noise(*shape)
    scale = math.ceil(32 / 0.8) / min(image.size)
    wide = np.asarray(resized(image, (round(image.width * scale), round(image.height * scale)), Image.BICUBIC))
    for top, left in CORNERS:
        row, column = bool(top) * (wide.shape[0] - 32), bool(left) * (wide.shape[1] - 32)
        crop = cropped(image, 32, 1 - 2**-17, top, left)
        assert (crop == wide[row : row + 32, column : column + 32]).all()


def test_a_cut_shows_what_resizing_the_whole_image_shows_within_a_pixel_of_the_source(way):
    """Of a picture that rises evenly along both sides, as levels are places there."""
    width, height, resolution = 500, 375, 256
    ramp = np.stack(np.meshgrid(np.arange(width) / 2, np.arange(height) / 2), -1)
    pixels = np.concatenate([ramp, ramp[..., :1]], -1).round().astype(np.uint8)
    for scale, top, left in ((0.3, 0.2, 0.9), (0.8, 0.7, 0.1), (0.6, 0.5, 0.5)):
        short_side = 256 + int(scale * (320 - 256 + 1))
        size = round(width * short_side / height), short_side
        row, column = int(top * (size[1] - resolution + 1)), int(left * (size[0] - resolution + 1))
        whole = np.asarray(Image.fromarray(pixels).resize(size, Image.BICUBIC)).astype(int)
        apart = cropped(pixels, resolution, scale, top, left).astype(int)
        apart -= whole[row : row + resolution, column : column + resolution]
        assert np.abs(apart).max() <= 2, "half a level is a pixel, and filters round"


def test_random_crop_of_a_whole_square_is_the_middle_crop(way):
    image = noise(47, 47)
    assert (cropped(image, 32, 0, 0.9, 0.45) == centre(image, 32)).all()


def test_an_elongated_image_is_refused_before_it_fills_the_memory(way):
    with pytest.raises(UnreadableImage, match="elongated: 40000 x 1 would"):
        centre(np.zeros((1, 40000, 3), np.uint8), 256)
    with pytest.raises(UnreadableImage, match="elongated"):
        cropped(np.zeros((1, 40000, 3), np.uint8), 256, 0, 0, 0)

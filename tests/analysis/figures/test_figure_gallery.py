"""Pictures are shown pixel by pixel, at their places, under their captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from analysis.figures import panel, pictures, rendered
from tokscale.errors import UsageError

NOISE = np.random.default_rng(0)


def test_pixels_are_the_files_and_the_arrays(axes: Axes, tmp_path: Path) -> None:
    first = NOISE.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    Image.fromarray(first).save(tmp_path / "a.png")
    grey = NOISE.random((8, 16))
    pictures([[tmp_path / "a.png", first[::-1]], [grey, None]], axes)
    drawn = [np.asarray(image.get_array()) for image in axes.images]
    np.testing.assert_array_equal(drawn[0], first)
    np.testing.assert_array_equal(drawn[1], first[::-1])
    np.testing.assert_array_equal(drawn[2], np.round(grey * 255))
    assert len(axes.collections) == 1, "the absent picture is a hatched place"
    extents = [image.get_extent() for image in axes.images]
    assert all((right - left) / (bottom - top) == pytest.approx(2) for left, right, bottom, top in extents)
    assert extents[1][0] > extents[0][1]
    assert extents[2][3] > extents[0][2]


@pytest.mark.parametrize("look", ["paper", "slides"])
def test_captions_stand_at_their_pictures(faults, look: str) -> None:
    image = NOISE.random((16, 16, 3))
    above, beside = [f"E {2**k}\n2{k}.1 dB" for k in range(8, 14)], ["original", "decoder L"]
    figure = panel(lambda axes: pictures([[image] * 6] * 2, axes, columns=above, rows=beside), look=look)
    assert faults(figure) == []
    axes = figure.axes[0]
    centres = [(image.get_extent()[0] + image.get_extent()[1]) / 2 for image in axes.images[:6]]
    assert axes.get_xticks() == pytest.approx(centres)


def test_the_figure_is_as_high_as_its_pictures(faults) -> None:
    image = NOISE.random((16, 16, 3))
    wide = panel(lambda axes: pictures([[image] * 8], axes))
    tall = panel(lambda axes: pictures([[image] * 2] * 4, axes))
    assert wide.get_figheight() < 0.25 * wide.get_figwidth()
    assert tall.get_figheight() > 1.5 * tall.get_figwidth()
    assert rendered(wide, "png").startswith(b"\x89PNG")


def test_none_and_what_is_no_picture(tmp_path: Path, texts, axes: Axes) -> None:
    assert "no pictures" in texts(panel(lambda axes: pictures([], axes)))
    assert "no pictures" in texts(panel(lambda axes: pictures([[None]], axes)))
    with pytest.raises(UsageError, match="cannot read a picture"):
        pictures([[tmp_path / "absent.png"]], axes)
    with pytest.raises(UsageError, match="an array is no picture"):
        pictures([[np.zeros((2, 3, 7))]], axes)

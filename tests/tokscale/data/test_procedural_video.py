"""Procedural clips: pure functions of their index, whose motion is what the config says."""

import hashlib

import numpy as np
import pytest
import torch

from tokscale.config import ProceduralData, ProceduralVideoData
from tokscale.data import open_images
from tokscale.data.dead_leaves import MOVING, Scenes, render, scenes
from tokscale.data.moving_leaves import clips, shown, velocities


def config(**settings):
    return ProceduralVideoData(kind="procedural_video", **settings)


def some(*indices):
    return scenes(0, "train", np.array(indices), 10)


def test_a_clip_is_a_pure_function_of_its_index_and_begins_with_its_image():
    clip_set = open_images(config(resolution=16, frames=5, validation_images=40), "validation")
    image_set = open_images(ProceduralData(resolution=16, validation_images=40), "validation")
    together, labels = clip_set.images(range(40))
    assert together.shape == (40, 3, 5, 16, 16)
    assert together.dtype == torch.uint8
    alone, label = clip_set.images([17])
    assert torch.equal(alone[0], together[17])
    assert label == labels[17] == 7
    assert torch.equal(together[:, :, 0], image_set.images(range(40))[0])
    assert clip_set.frames == 5
    assert clip_set.reference != image_set.reference
    assert open_images(config(speed=0.1), "train").reference != open_images(config(), "train").reference


def test_pixels_are_the_same_on_every_machine():
    found = clips(some(*range(10)), config(resolution=24, frames=4, cut_probability=0.3))
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "962916d4a07b54fd"


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 5), (-2, 4), (7, -7)])
def test_a_whole_picture_shifts_by_the_pixels_it_is_told(right, down):
    which, side = some(*range(20)), 48
    shifts = np.broadcast_to(np.array([right, down], np.float32) / side, (20, MOVING, 2))
    start, moved = render(which, side).astype(int), render(which, side, shifts).astype(int)
    inside = slice(8, 40)  # what came in from outside the frame is new
    earlier = np.roll(start, (down, right), axis=(2, 3))[..., inside, inside]
    assert (np.abs(moved[..., inside, inside] - earlier) <= 1).mean() > 0.999


def test_from_frame_to_frame_every_picture_moves_by_its_velocity():
    """With no parallax the shift that fits best between two frames is the velocity, in whole pixels."""
    side, speed = 64, 6 / 64
    which = some(*range(20))
    pixels = (velocities(which, speed, 0.0)[:, 0] * side).round().astype(int)
    assert (velocities(which, speed, 0.0) == velocities(which, speed, 0.0)[:, :1]).all()
    found = clips(which, config(resolution=side, frames=3, speed=speed, parallax=0.0)).astype(float).mean(1)
    reach, middle = range(-7, 8), slice(16, 48)
    for before, after in ((0, 1), (1, 2)):
        errors = {
            (right, down): np.abs(
                found[:, after, middle, middle]
                - found[:, before, 16 - down : 48 - down, 16 - right : 48 - right]
            ).mean((1, 2))
            for right in reach
            for down in reach
        }  # fmt: skip
        shifts, table = list(errors), np.stack(list(errors.values()), 1)
        best = np.array([shifts[row] for row in table.argmin(1)])
        assert np.abs(best - pixels).max() <= 1, "velocities are not of whole pixels"
        assert (best == pixels).mean() > 0.8


def test_speed_and_parallax_scale_the_velocities():
    which = some(*range(200))
    whole = velocities(which, 0.02, 0.0)
    np.testing.assert_allclose(np.hypot(whole[..., 0], whole[..., 1]), 0.02, rtol=1e-5)
    lengths = np.hypot(*np.moveaxis(velocities(which, 0.02, 0.5), -1, 0))
    assert 0.01 <= lengths.min() < 0.0105
    assert 0.0195 < lengths.max() <= 0.02
    np.testing.assert_allclose(velocities(which, 0.06, 0.5), 3 * velocities(which, 0.02, 0.5), rtol=1e-5)


def test_the_class_tells_the_direction():
    which = some(*range(300))
    x, y = np.moveaxis(velocities(which, 1.0, 0.0)[:, 0], -1, 0)
    off = (np.degrees(np.arctan2(y, x)) - 36 * which.labels + 180) % 360 - 180
    assert 25 < np.abs(off).max() <= 30.01


def test_still_clips_repeat_their_first_frame_and_faster_ones_differ_more():
    which = some(*range(20))
    changes = []
    for speed in (0.0, 0.005, 0.03, 0.2):
        found = clips(which, config(resolution=32, frames=4, speed=speed)).astype(float)
        changes.append(np.abs(np.diff(found, axis=2)).mean())
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert changes[1] > 0


def test_leaves_pass_one_another_where_layers_differ_in_speed():
    which = some(*range(10))
    together = velocities(which, 0.05, 0.0)
    apart = velocities(which, 0.05, 0.9)
    assert np.ptp(together, axis=1).max() == 0
    assert np.ptp(apart, axis=1).max() > 0.02


def test_cuts_come_as_often_as_asked_for_to_scenes_of_the_same_class():
    which = some(*range(2000))
    keys = shown(which, 9, 0.25).keys.reshape(2000, 9)
    cut = keys[:, 1:] != keys[:, :-1]
    assert cut.mean() == pytest.approx(0.25, abs=0.015)
    assert (keys[:, 0] == which.keys).all()
    never, always = shown(which, 5, 0.0), shown(which, 5, 1.0)
    assert (never.keys.reshape(-1, 5) == which.keys[:, None]).all()
    assert len(np.unique(always.keys)) == 5 * 2000
    assert isinstance(always, Scenes)
    assert (always.labels.reshape(-1, 5) == which.labels[:, None]).all()

"""Procedural images: pure functions of (seed, split, index), natural statistics, classes that can be told apart."""

import hashlib

import numpy as np
import pytest
import torch

from tokscale import cost, memory
from tokscale.config import ImageFolderData, ProceduralData, ProceduralVideoData, TrialConfig
from tokscale.data import open_images, procedural
from tokscale.data.dead_leaves import render, scenes
from tokscale.data.procedural import RenderedBlocks


def picture(*indices, seed=0, split="train", resolution=32, **keywords):
    return render(scenes(seed, split, np.array(indices), 10), resolution, **keywords)


def test_an_image_does_not_depend_on_its_batch():
    together = picture(*range(200))
    assert (picture(*range(199, -1, -1))[::-1] == together).all()
    for index in (0, 3, 57, 199):
        assert (picture(index)[0] == together[index]).all()
    wide = picture(*range(12), resolution=200)
    assert (picture(11, resolution=200)[0] == wide[11]).all()


def test_pixels_are_the_same_on_every_machine():
    """Only exactly rounded operations are used, so the bytes themselves can be fixed."""
    digest = hashlib.sha256(picture(*range(20), resolution=48).tobytes()).hexdigest()
    assert digest[:16] == "d68737c776b7c29a"


def test_seed_split_and_index_all_count():
    first = picture(0)
    for other in (picture(10), picture(0, seed=1), picture(0, split="validation")):
        assert (first != other).mean() > 0.8
    many = picture(*range(1000), resolution=8).reshape(1000, -1)
    assert len(np.unique(many, axis=0)) == 1000


def test_open_sets():
    config = ProceduralData(resolution=16, classes=4, seed=3, validation_images=50)
    train, validation = open_images(config, "train"), open_images(config, "validation")
    assert (train.size, validation.size) == (None, 50)
    assert train.num_classes == len(train.class_names) == 4
    assert validation.reference == "procedural-4c-s3-16px-validation-50"
    assert validation.skipped == []
    images, labels = validation.images(range(50))
    assert images.shape == (50, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [index % 4 for index in range(50)]
    far, _ = train.images([10**15])
    assert far.float().std() > 10
    with pytest.raises(IndexError):
        validation.images([50])


def test_amplitude_spectrum_falls_as_one_over_f():
    for resolution, count in ((32, 200), (128, 40)):
        grey = picture(*range(count), resolution=resolution).mean(1)
        window = np.hanning(resolution)[:, None] * np.hanning(resolution)
        power = (np.abs(np.fft.fft2((grey - grey.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
        frequency = np.fft.fftfreq(resolution) * resolution
        ring = np.hypot(frequency[:, None], frequency).round().astype(int).ravel()
        amplitude = np.sqrt(np.bincount(ring, power.ravel()) / np.bincount(ring))
        wanted = np.arange(2, resolution // 2)
        slope = np.polyfit(np.log(wanted), np.log(amplitude[wanted]), 1)[0]
        assert -1.3 < slope < -0.7


def features(images):
    """Mean and spread of the colours, and a histogram of gradient orientations: what a linear probe is given."""
    pixels = images.astype(np.float64) / 255
    grey = pixels.mean(1)
    down, right = np.gradient(grey, axis=(1, 2))
    size = np.hypot(down, right)
    bins = (np.arctan2(down, right) % np.pi / np.pi * 8).astype(int) % 8
    histogram = np.stack([(size * (bins == number)).mean((1, 2)) for number in range(8)], 1)
    return np.concatenate([pixels.mean((2, 3)), pixels.std((2, 3)), histogram / histogram.sum(1, keepdims=True)], 1)


def test_a_linear_probe_tells_the_classes():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, held_out = picture(*range(1000)), picture(*range(400), split="validation")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))

    def accuracy(view):
        probe.fit(features(view(train)), np.arange(1000) % 10)
        return probe.score(features(view(held_out)), np.arange(400) % 10)

    assert accuracy(lambda images: images) > 0.9
    # Not by colour alone: orientations tell many classes of grey images.
    assert accuracy(lambda images: np.repeat(images.mean(1, keepdims=True), 3, 1)) > 0.3


@pytest.mark.parametrize(("low", "high"), [(32, 64), (64, 256), (48, 96)])
def test_a_scene_is_the_same_at_every_resolution(low, high):
    coarse = picture(*range(60), resolution=low).astype(float)
    fine = picture(*range(60), resolution=high).astype(float)
    shrunk = fine.reshape(60, 3, low, high // low, low, high // low).mean((3, 5))
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(coarse, shrunk, strict=True)]
    assert np.mean(correlation) > 0.95
    assert np.abs((coarse - shrunk).mean((0, 2, 3))).max() < 1


def test_statistics_do_not_depend_on_the_place():
    """Leaves keep inside lattice cells; random offsets make sure that this shows nowhere on the average."""
    light = picture(*range(3000), resolution=16).astype(float).mean(1)
    error = light.std() / np.sqrt(3000)
    assert np.abs(light.mean(0) - light.mean()).max() < 5 * error
    spread = light.std(0)
    assert np.abs(spread / spread.mean() - 1).max() < 0.1


def test_images_that_a_process_keeps_are_those_that_it_would_render(monkeypatch):
    """Another set of the same images finds them, one of other images does not, and neither changes what is kept."""
    monkeypatch.setattr(procedural, "rendered_here", RenderedBlocks(1 << 22))
    rendered = []
    real = procedural.ProceduralImages._rendered
    monkeypatch.setattr(procedural.ProceduralImages, "_rendered",
                        lambda self, indices: (rendered.append(self.split), real(self, indices))[1])  # fmt: skip
    for _ in range(2):
        images = open_images(ProceduralData(resolution=32), "train")
        for start in range(0, 512, 128):
            found, labels = images.images(range(start, start + 128))
            assert (found.numpy() == picture(*range(start, start + 128))).all()
            assert labels.tolist() == [index % 10 for index in range(start, start + 128)]
            found.zero_()
    assert rendered == ["train"] * 2
    for change, split in (({}, "validation"), ({"seed": 1}, "train"), ({"classes": 2}, "train")):
        config = ProceduralData(resolution=32, **change)
        found, _ = open_images(config, split).images(range(16))
        which = scenes(config.seed, split, np.arange(16), config.classes)
        assert (found.numpy() == render(which, 32)).all()
    assert len(rendered) == 5


@pytest.mark.parametrize("config", [
    ProceduralData(resolution=64), ProceduralData(resolution=256), ProceduralData(resolution=528),
    ProceduralVideoData(kind="procedural_video", resolution=64, frames=3),
], ids=lambda config: f"{config.kind} {config.resolution}")  # fmt: skip
def test_the_plan_knows_how_much_memory_the_kept_pictures_take(monkeypatch, config):
    """Up to the last whole block that there is room for."""
    kept = RenderedBlocks(memory.KEPT_PICTURES)
    monkeypatch.setattr(procedural, "rendered_here", kept)
    monkeypatch.setattr(procedural.ProceduralImages, "_rendered", _unpainted)
    monkeypatch.setattr(procedural.ProceduralVideos, "_rendered", _unpainted)
    images, most = open_images(config, "train"), memory.KEPT_PICTURES // (3 * config.frames * config.resolution**2)
    for start, end in ((0, 10), (10, 100), (100, most + 300)):
        for first in range(start, end, 16):
            images.images(range(first, min(first + 16, end)))
        assert kept.bytes == memory.kept_pictures(config, end) <= memory.KEPT_PICTURES
    assert memory.kept_pictures(ImageFolderData(kind="image_folder", root="."), 10**6) == 0
    trial = TrialConfig(data=config)
    assert cost.stage_cost("tokenizer", trial).host_bytes == memory.kept_pictures(config, 10**9)


def _unpainted(image_set, indices):
    shape = (len(indices), 3, *([image_set.frames] if image_set.frames > 1 else []), *2 * [image_set.resolution])
    return torch.zeros(shape, dtype=torch.uint8), torch.zeros(len(indices), dtype=torch.int64)


@pytest.mark.parametrize("batch", [16, 64, 100], ids=["smaller", "a block", "larger"])
def test_batches_of_any_size_are_rendered_once(monkeypatch, batch):
    monkeypatch.setattr(procedural, "rendered_here", RenderedBlocks(1 << 22))
    rendered = []
    real = procedural.ProceduralImages._rendered
    monkeypatch.setattr(procedural.ProceduralImages, "_rendered",
                        lambda self, indices: (rendered.append(len(indices)), real(self, indices))[1])  # fmt: skip
    for _ in range(2):
        images = open_images(ProceduralData(resolution=64), "train")
        found = torch.cat([images.images(range(start, min(start + batch, 192)))[0] for start in range(0, 192, batch)])
        assert (found.numpy() == picture(*range(192), resolution=64)).all()
    assert rendered == [64] * 3


def test_kept_blocks_have_a_bound_and_those_in_use_stay():
    def block(number):
        return torch.full((100,), number, dtype=torch.uint8), torch.zeros(0)

    kept, used = RenderedBlocks(300), {"old 0", "old 1", "old 2"}
    assert [kept.keep(f"old {number}", block(number), used) for number in range(4)] == [True, True, True, False]
    used = {"old 1"}
    assert [kept.keep(f"new {number}", block(number), {*used, "new 0", "new 1"}) for number in range(3)] == [
        True, True, False]  # fmt: skip
    assert [kept.find(key) is not None for key in ("old 0", "old 1", "old 2", "new 0", "new 1")] == [
        False, True, False, True, True]  # fmt: skip
    assert kept.bytes == 300
    assert kept.find("old 1")[0].unique().tolist() == [1]
    assert not RenderedBlocks(99).keep("large", block(0), ())

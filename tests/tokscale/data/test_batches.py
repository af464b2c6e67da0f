"""Streams of batches: a batch is a pure function of seed and number, however it comes about."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from tokscale.config import ImageFolderData, ProceduralData
from tokscale.data import evaluation_batches, open_images, to_model_range, to_uint8, train_batches
from tokscale.data.batches import _STREAM
from tokscale.errors import ConfigError

# What a loader says on a machine with fewer cores than workers, and newer Pythons of any fork beside threads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 24, 20, 3)).astype(np.uint8)
    for number, image in enumerate(pixels):
        image[..., 0] = 8 * number
        path = root / "train" / str(number % 2) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (root / "val" / "0").mkdir(parents=True)
    Image.fromarray(pixels[0]).save(root / "val" / "0" / "0.png")
    return ImageFolderData(kind="image_folder", root=str(root), resolution=16)


@pytest.fixture(params=["procedural", "folder"])
def image_set(request, folder):
    return open_images(ProceduralData(resolution=16) if request.param == "procedural" else folder, "train")


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_same(left, right):
    assert len(left) == len(right)
    for (images, labels), (other_images, other_labels) in zip(left, right, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def stream(image_set, **options):
    return train_batches(image_set, **{"batch_size": 8, "seed": 4, **options})


def test_resume_sees_what_the_unbroken_run_would_have_seen(image_set):
    unbroken = take(stream(image_set), 9)
    assert_same(take(stream(image_set, start_batch=5), 4), unbroken[5:])
    assert_same(take(stream(image_set), 9), unbroken)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_do_not_change_the_order(image_set, workers):
    loader = torch.utils.data.DataLoader(stream(image_set, start_batch=2), batch_size=None, num_workers=workers)
    assert_same(take(loader, 7), take(stream(image_set, start_batch=2), 7))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_make_the_single_process_batch(image_set, world_size):
    ranks = [take(stream(image_set, rank=rank, world_size=world_size), 5) for rank in range(world_size)]
    joined = [
        (torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))
        for parts in zip(*ranks, strict=True)
    ]
    assert_same(joined, take(stream(image_set), 5))
    with pytest.raises(ConfigError, match="multiple"):
        stream(image_set, world_size=3)


def test_seeds_differ(image_set):
    ((first, _),), ((other, _),) = take(stream(image_set), 1), take(stream(image_set, seed=5), 1)
    assert not torch.equal(first, other)


def test_every_epoch_shows_every_image_once(folder):
    image_set = open_images(folder, "train")
    reds = torch.cat([images[:, 0, 8, 8] for images, _ in take(stream(image_set, batch_size=10), 9)]).reshape(3, 30)
    assert (reds.sort(1).values == 8 * torch.arange(30)).all()
    assert not torch.equal(reds[0], reds[1])


def test_infinite_sets_are_read_in_order():
    image_set = open_images(ProceduralData(resolution=16), "train")
    images = torch.cat([images for images, _ in take(train_batches(image_set, batch_size=5, seed=0), 4)])
    first = _STREAM  # seed 0; the images before are not trained on
    assert torch.equal(images, image_set.images(range(first, first + 20))[0])


def test_augmentation_is_new_every_epoch_and_can_be_left_out(folder):
    image_set = open_images(folder, "train")

    def views(image_set, **options):
        found = {}
        for images, _ in take(stream(image_set, batch_size=30, **options), 6):
            for image in images:
                found.setdefault(int(image[0, 8, 8]), []).append(image)
        return [torch.stack(images) for images in found.values()]

    assert sum(len(images.unique(dim=0)) for images in views(image_set)) > 150
    plain = {
        int(image[0, 8, 8]): image for images, _ in evaluation_batches(image_set, batch_size=9) for image in images
    }
    for images in views(image_set, augment=False):
        assert (images == plain[int(images[0, 0, 8, 8])]).all()
    flipped = open_images(folder.model_copy(update={"crop": "center"}), "train")
    for images in views(flipped):
        one = plain[int(images[0, 0, 8, 8])]
        assert all(torch.equal(image, one) or torch.equal(image, one.flip(-1)) for image in images)
    fixed = open_images(folder.model_copy(update={"crop": "center", "flip": False}), "train")
    assert all(len(images.unique(dim=0)) == 1 for images in views(fixed))


def test_evaluation_takes_each_image_once_in_order():
    image_set = open_images(ProceduralData(resolution=16, validation_images=23), "validation")
    whole = image_set.images(range(23))
    for batch_size in (1, 7, 50):
        parts = list(evaluation_batches(image_set, batch_size=batch_size))
        assert_same([(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))], [whole])
    assert sum(len(images) for images, _ in evaluation_batches(image_set, batch_size=7, limit=10)) == 10
    endless = open_images(ProceduralData(resolution=16), "train")
    assert sum(len(images) for images, _ in evaluation_batches(endless, batch_size=7, limit=10)) == 10
    with pytest.raises(ConfigError, match="limit"):
        next(evaluation_batches(endless, batch_size=7))


def test_range_conversion_round_trips_all_levels():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_model_range(levels)
    assert floats.dtype == torch.float32
    assert (floats[0], floats[255]) == (-1, 1)
    assert torch.equal(to_uint8(floats), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0, 0.5 / 127.5 + 1e-4 - 1])).tolist() == [0, 255, 1]

"""Folders of photographs: listing, classes, splits, and files that cannot be read."""

import logging
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tokscale.config import ImageFolderData
from tokscale.data import evaluation_batches, open_images, train_batches
from tokscale.data.folder import list_images
from tokscale.errors import DataError

# What a loader says on a machine with fewer cores than workers, and newer Pythons of any fork beside threads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


def write(path, level=0, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 100, 50)).save(path)
    return path


def config(root, **options):
    return ImageFolderData(kind="image_folder", root=str(root), **{"resolution": 16, **options})


def levels(image_set):
    """The red level of every image, which the tests give to tell files apart."""
    return [int(image[0, 0, 0]) for images, _ in evaluation_batches(image_set, batch_size=3) for image in images]


@pytest.fixture
def root(tmp_path):
    for number in range(40):
        write(tmp_path / "photos" / f"class{number % 3}" / "deeper" / f"{number:02d}.png", 5 * number)
    return tmp_path / "photos"


def test_split_by_hash_is_disjoint_whole_and_stable(root):
    train, validation = (open_images(config(root, validation_fraction=0.3), split) for split in ("train", "validation"))
    assert sorted(levels(train) + levels(validation)) == [5 * number for number in range(40)]
    assert 4 <= validation.size <= 20
    for number in range(40, 50):
        write(root / "class0" / f"{number}.png", 5 * number)
    grown = levels(open_images(config(root, validation_fraction=0.3), "validation"))
    assert set(levels(validation)) <= set(grown)
    other = levels(open_images(config(root, validation_fraction=0.3, seed=1), "validation"))
    assert set(other) != set(grown)


def test_class_is_the_first_folder(root):
    train = open_images(config(root), "train")
    assert train.class_names == ["class0", "class1", "class2"]
    assert train.num_classes == 3
    for images, labels in evaluation_batches(train, batch_size=7):
        assert (images[:, 0, 0, 0].long() // 5 % 3 == labels).all()
        assert labels.dtype == torch.int64
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 16, 16)


def test_images_without_folders_are_one_class(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.PNG", number)
    assert open_images(config(tmp_path), "train").num_classes == 1


@pytest.mark.parametrize("name", ["val", "validation"])
def test_train_and_validation_folders(tmp_path, name):
    for number in range(6):
        write(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", number)
    write(tmp_path / name / "b" / "x.png", 99)
    write(tmp_path / "elsewhere" / "a" / "y.png", 77)
    validation = open_images(config(tmp_path), "validation")
    assert levels(validation) == [99]
    assert validation.images([0])[1].tolist() == [1]
    assert validation.class_names == ["a", "b"]
    assert sorted(levels(open_images(config(tmp_path), "train"))) == list(range(6))
    given = config(tmp_path / "train", validation_root=str(tmp_path / "elsewhere"))
    assert levels(open_images(given, "validation")) == [77]


def test_unknown_validation_class_is_named(tmp_path):
    write(tmp_path / "train" / "cat" / "a.png")
    write(tmp_path / "val" / "dog" / "b.png")
    for split in ("train", "validation"):
        with pytest.raises(DataError, match="dog"):
            open_images(config(tmp_path), split)


def test_reasons_stand_beside_a_missing_class(tmp_path):
    write(tmp_path / "train" / "cat" / "a.png")
    (tmp_path / "train" / "dog").symlink_to(tmp_path / "train")
    write(tmp_path / "val" / "dog" / "b.png")
    with pytest.raises(DataError, match=r"dog; left out .*train/dog: a link back"):
        open_images(config(tmp_path), "train")


@pytest.mark.parametrize("way", ["same", "link", "hard", "file", "below"])
def test_files_in_both_splits_are_refused(root, way):
    other, photo = root.parent / "other", root / "class1" / "deeper" / "01.png"
    if way == "same":
        other = root
    elif way == "below":
        write(root / "class1" / "class1" / "x.png")
        other = root / "class1"
    elif way == "link":
        other.symlink_to(root)
    else:
        write(other / "class1" / "own.png", 3)
        (os.link if way == "hard" else os.symlink)(photo, other / "class1" / "x.png")
    count = {"same": 40, "link": 40, "below": 14}.get(way, 1)
    for split in ("train", "validation"):
        with pytest.raises(DataError, match=f"train and validation share {count} files"):
            open_images(config(root, validation_root=str(other)), split)


@pytest.mark.parametrize("seed", range(8))
def test_split_by_hash_leaves_no_class_untrained(tmp_path, seed):
    for number in range(24):  # twelve classes of one image, four of three
        write(tmp_path / f"class{number % 4 if number < 12 else number}" / f"{number}.png", 5 * number)
    given = {"validation_fraction": 0.5, "seed": seed}
    train, validation = (open_images(config(tmp_path, **given), split) for split in ("train", "validation"))
    assert sorted(levels(train) + levels(validation)) == [5 * number for number in range(24)]
    trained = {int(label) for _, labels in evaluation_batches(train, batch_size=5) for label in labels}
    assert trained == set(range(16))
    assert validation.size >= 1
    capped = open_images(config(tmp_path, **given, validation_images=4), "train")
    assert levels(capped) == levels(train)


def test_classes_of_one_image_cannot_be_split(tmp_path):
    for name in "abc":
        write(tmp_path / name / "x.png")
    with pytest.raises(DataError, match="3 images in 3 classes"):
        open_images(config(tmp_path), "train")


def test_listing_passes_over_what_is_hidden_and_follows_links_once(tmp_path):
    write(tmp_path / "a" / "1.png")
    write(tmp_path / "a" / "2.JPEG")
    write(tmp_path / ".hidden" / "3.png")
    write(tmp_path / "a" / "._4.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self.png").symlink_to(tmp_path / "a" / "self.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    listing = list_images(tmp_path)
    assert listing.paths == ["a/1.png", "a/2.JPEG", "b/1.png", "b/2.JPEG"]
    reasons = {os.path.relpath(item.path, tmp_path): item.reason for item in listing.skipped}
    assert set(reasons) == {f"{folder}/{name}" for folder in "ab" for name in ("up", "self.png", "gone.png")}


def test_no_images_and_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "a.tiff").write_bytes(b"II")
    for name, words in (("empty", "no images"), ("others", r"\.webp"), ("missing", "does not exist")):
        with pytest.raises(DataError, match=words):
            open_images(config(tmp_path / name), "train")
    write(tmp_path / "one" / "a.png")
    with pytest.raises(DataError, match="left for training"):
        open_images(config(tmp_path / "one"), "train")


def spoil(path):
    path.write_bytes(path.read_bytes()[:60])


def test_unreadable_files_are_named_replaced_in_training_and_left_out_in_evaluation(root, caplog):
    for name in ("class0/deeper/03.png", "class1/deeper/10.png"):
        spoil(root / name)
    (root / "class2" / "empty.jpg").write_bytes(b"")
    copy = shutil.copytree(root, root.parent / "copy")
    with caplog.at_level(logging.WARNING):
        train = open_images(config(root, validation_root=str(copy)), "train")
        assert train.size == 41
        assert train.skipped == []  # a million files are not decoded before training starts
        first, again = (train.images(range(41)) for _ in range(2))
    assert (first[0] == again[0]).all()
    assert (first[0][:, 0, 0, 0].long() // 5 % 3 == first[1]).all()
    assert {item.path[len(str(root)) + 1 :] for item in train.skipped} == {
        "class0/deeper/03.png", "class1/deeper/10.png", "class2/empty.jpg"
    }  # fmt: skip
    assert len(caplog.records) == 3
    good = sorted(set(range(0, 200, 5)) - {15, 50})
    assert sorted(levels(train)) == good
    validation = open_images(config(root, validation_root=str(copy)), "validation")
    assert validation.size == 38
    assert sorted(levels(validation)) == good
    assert len(validation.skipped) == 3
    capped = open_images(config(root, validation_root=str(copy), validation_images=10), "validation")
    assert levels(capped) == levels(validation)[:10]


def test_large_validation_sets_are_verified_as_they_are_read(root, monkeypatch):
    monkeypatch.setattr("tokscale.data.encoded.VERIFIED_AT_ONCE", 5)
    spoil(root / "class0/deeper/03.png")
    copy = shutil.copytree(root, root.parent / "copy")
    validation = open_images(config(root, validation_root=str(copy)), "validation")
    assert validation.size == 40
    assert sorted(levels(validation)) == sorted(set(range(0, 200, 5)) - {15})
    assert len(validation.skipped) == 1


def test_no_readable_image(root):
    for path in root.rglob("*.png"):
        spoil(path)
    with pytest.raises(DataError, match="can be read"):
        open_images(config(root), "validation")
    with pytest.raises(DataError, match="can be read"):
        open_images(config(root), "train").images([0])


def test_loader_workers_tell_what_they_skipped(root):
    spoil(root / "class0/deeper/03.png")
    copy = shutil.copytree(root, root.parent / "copy")
    train = open_images(config(root, validation_root=str(copy)), "train")
    loader = torch.utils.data.DataLoader(train_batches(train, batch_size=40, seed=0), batch_size=None, num_workers=2)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    assert [item.path for item in train.skipped] == [str(root / "class0/deeper/03.png")]
    assert "truncated" in train.skipped[0].reason or "broken" in train.skipped[0].reason


def test_reference_names_the_very_set(root):
    name = open_images(config(root), "validation").reference
    assert name.startswith("photos-16px-validation-")
    assert open_images(config(root), "validation").reference == name
    assert open_images(config(root, resolution=32), "validation").reference != name
    half = config(root, validation_fraction=0.5)
    capped = config(root, validation_fraction=0.5, validation_images=4)
    assert open_images(capped, "validation").reference != open_images(half, "validation").reference
    moved = root.rename(root.parent / "moved")
    moved.rename(root.parent / "photos")
    assert open_images(config(root), "validation").reference == name
    chosen = open_images(config(root), "validation").path(int(open_images(config(root), "validation").order[0]))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)).save(chosen)
    assert open_images(config(root), "validation").reference != name

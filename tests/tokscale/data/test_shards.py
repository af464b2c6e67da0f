"""WebDataset shards against the library's own writer, and against the same images in a folder."""

import io
import itertools
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from tokscale.config import ImageFolderData, ShardsData
from tokscale.data import evaluation_batches, open_images, train_batches
from tokscale.data.shards import expand
from tokscale.errors import DataError

# What a loader says on a machine with fewer cores than workers, and newer Pythons of any fork beside threads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


def encoded(level, form="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (21, 17), (level, 70, 90)).save(stream, form, quality=95)
    return stream.getvalue()


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def config(folder, **options):
    pattern, validation = str(folder / "train-{000..001}.tar"), str(folder / "val-*.tar")
    return ShardsData(
        kind="shards", **{"pattern": pattern, "validation_pattern": validation, "resolution": 16, **options}
    )


def contents(image_set):
    batches = list(evaluation_batches(image_set, batch_size=4))
    return sorted(
        (int(image[0, 0, 0]), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    )


@pytest.fixture
def folder(tmp_path):
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"train-{shard:03d}.tar")) as sink:
            for number in range(shard, 20, 2):
                sink.write({"__key__": f"sub/{number:04d}", "png": encoded(10 * number), "cls": number % 3})
    tar(tmp_path / "val-0.tar", [
        ("a.jpg", encoded(50, "JPEG")), ("a.json", json.dumps({"label": 2}).encode()),
        ("b.PNG", encoded(60)), ("b.json", json.dumps({"class": "1", "w": 3}).encode()),
    ])  # fmt: skip
    return tmp_path


def test_shards_of_the_library_and_of_tarfile(folder):
    train, validation = open_images(config(folder), "train"), open_images(config(folder), "validation")
    assert contents(train) == [(10 * number, number % 3) for number in range(20)]
    assert (train.num_classes, validation.num_classes, train.size, validation.size) == (3, 3, 20, 2)
    assert [label for _, label in contents(validation)] == [2, 1]
    assert train.skipped == validation.skipped == []
    assert validation.reference == open_images(config(folder), "validation").reference


def test_shards_equal_a_folder_of_the_same_images(folder, tmp_path):
    for number in range(20):
        path = tmp_path / "photos" / str(number % 3) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(10 * number))
    copy = shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    photos = ImageFolderData(
        kind="image_folder", root=str(tmp_path / "photos"), validation_root=str(copy), resolution=16
    )
    assert contents(open_images(photos, "train")) == contents(open_images(config(folder), "train"))


def test_loader_workers_read_shards(folder):
    batches = train_batches(open_images(config(folder), "train"), batch_size=6, seed=0)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=2)
    for number, (images, labels) in enumerate(itertools.islice(loader, 5)):
        assert torch.equal(images, batches.batch(number)[0])
        assert torch.equal(labels, batches.batch(number)[1])


@pytest.mark.parametrize("where", ["data", "header", "boundary"])
def test_a_cut_shard_gives_what_lies_before_the_cut(folder, where):
    path = folder / "train-001.tar"
    with tarfile.open(path) as archive:
        member = archive.getmember("sub/0011.png")
        cut = {"data": member.offset_data + 20, "header": member.offset + 100, "boundary": member.offset}[where]
    path.write_bytes(path.read_bytes()[:cut])
    train = open_images(config(folder), "train")
    expected = {(10 * number, number % 3) for number in (*range(0, 20, 2), *range(1, 11, 2))}
    assert expected <= {*contents(train)}
    assert 110 not in [level for level, _ in contents(train)]
    assert [item.path for item in train.skipped] == [str(path)]


def test_broken_images_and_labels_are_skipped(folder):
    tar(folder / "val-0.tar", [
        ("a.png", encoded(50)[:40]), ("a.cls", b"1"), ("b.png", encoded(60)), ("b.cls", b"2\n"),
        ("c.png", encoded(70)), ("c.cls", b"dog"), ("d.seg.png", encoded(80)), ("d.cls", b"0"),
    ])  # fmt: skip
    validation = open_images(config(folder), "validation")
    assert contents(validation) == [(60, 2)]
    reasons = {item.path.rpartition(":")[2]: item.reason for item in validation.skipped}
    assert set(reasons) == {"a.png", "c"}
    assert "dog" in reasons["c"]


def test_shards_without_labels_are_one_class(folder):
    for name in ("train-000", "train-001", "val-0"):
        tar(folder / f"{name}.tar", [("a.png", encoded(1)), ("b.webp", encoded(2, "WEBP"))])
    for split in ("train", "validation"):
        images = open_images(config(folder), split)
        assert (images.num_classes, images.skipped, {label for _, label in contents(images)}) == (1, [], {0})


@pytest.mark.parametrize("split", ["train", "validation"])
def test_samples_without_a_class_are_left_out_where_others_have_one(folder, split):
    shard = folder / ("train-000.tar" if split == "train" else "val-0.tar")
    nested = b'{"label": ' + b"[" * 200000 + b"]" * 200000 + b"}"
    tar(shard, [
        ("good.png", encoded(10)), ("good.cls", b"1"), ("none.png", encoded(20)), ("null.png", encoded(30)),
        ("null.json", b'{"label": null}'), ("deep.png", encoded(40)), ("deep.json", nested),
        ("open.png", encoded(50)), ("open.json", b"{"), ("list.png", encoded(60)), ("list.json", b"[1]"),
    ])  # fmt: skip
    images = open_images(config(folder), split)
    expected = [(10 * number, number % 3) for number in range(1, 20, 2)] if split == "train" else []
    assert contents(images) == sorted([*expected, (10, 1)])
    reasons = {item.path.rpartition(":")[2]: item.reason for item in images.skipped}
    assert set(reasons) == {"none", "null", "deep", "open", "list"}
    assert all("class" in reason for reason in reasons.values())


def test_a_shard_cut_in_a_class_loses_that_sample_only(folder):
    members = [("x.png", encoded(110)), ("x.cls", b"1"), ("y.png", encoded(130)), ("y.cls", b"1")]
    path = tar(folder / "train-001.tar", members)
    with tarfile.open(path) as archive:
        cut = archive.getmember("y.cls").offset
    path.write_bytes(path.read_bytes()[:cut])
    train = open_images(config(folder), "train")
    assert (train.size, {110, 130} & {level for level, _ in contents(train)}) == (11, {110})
    assert [item.path for item in train.skipped] == [str(path), f"{path}:y"]


@pytest.mark.parametrize("bare", ["train", "validation"])
def test_classes_in_one_split_only_are_refused(folder, bare):
    for name in ("train-000", "train-001") if bare == "train" else ("val-0",):
        tar(folder / f"{name}.tar", [("a.png", encoded(1)), ("b.png", encoded(2))])
    for split in ("train", "validation"):
        with pytest.raises(DataError, match="have none"):
            open_images(config(folder), split)


def test_an_absurd_class_number_is_refused_by_name(folder):
    tar(folder / "train-000.tar", [("a.png", encoded(1)), ("a.cls", b"300000000")])
    with pytest.raises(DataError, match=r"300000000 for a in .*train-000\.tar"):
        open_images(config(folder), "train")
    tar(folder / "train-000.tar", [("a.png", encoded(1)), ("a.cls", b"999")])
    assert open_images(config(folder), "train").num_classes == 1000


@pytest.mark.parametrize("way", ["pattern", "symlink", "link"])
def test_shards_in_both_splits_are_refused(folder, way):
    given = config(folder, **({"validation_pattern": str(folder / "*-00[01].tar")} if way == "pattern" else {}))
    if way == "symlink":
        (folder / "val-1.tar").symlink_to(folder / "train-001.tar")
    elif way == "link":
        (folder / "val-1.tar").hardlink_to(folder / "train-001.tar")
    for split in ("train", "validation"):
        with pytest.raises(DataError, match=f"share {2 if way == 'pattern' else 1} files"):
            open_images(given, split)


def test_reasons_stand_beside_missing_classes(folder):
    (folder / "train-001.tar").write_bytes(b"no archive at all" * 100)
    tar(folder / "val-0.tar", [("a.png", encoded(50)), ("a.cls", b"7")])
    with pytest.raises(DataError, match=r"7; left out .*train-001\.tar: damaged"):
        open_images(config(folder), "validation")


def test_errors_name_the_shards(folder):
    for pattern in ("train-{000..003}.tar", "nothing*.tar"):
        with pytest.raises(DataError, match=r"train-002|nothing"):
            open_images(config(folder, pattern=str(folder / pattern)), "train")
    tar(folder / "val-0.tar", [("a.png", encoded(50)), ("a.cls", b"7")])
    with pytest.raises(DataError, match="7"):
        open_images(config(folder), "validation")
    (folder / "val-0.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(DataError, match="not a tar file"):
        open_images(config(folder), "validation")


def test_braces(tmp_path):
    for name in ("a-08", "a-09", "a-10", "b-1"):
        tar(tmp_path / f"{name}.tar", [])
    found = expand(str(tmp_path / "a-{08..10}.tar"))
    assert [path[-8:-4] for path in found] == ["a-08", "a-09", "a-10"]
    assert len(expand(str(tmp_path / "{a,b}-*.tar"))) == 4


def test_order_is_a_fair_one(folder):
    train = open_images(config(folder), "train")
    first = np.array([member.key for member in train.members])[train.order]
    assert list(first) != sorted(first)

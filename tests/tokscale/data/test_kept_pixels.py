"""Decoded pixels that are kept change nothing, are made once, and are never believed when they are not whole."""

from __future__ import annotations

import os
import tarfile

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tokscale.config import ImageFolderData, ShardsData, VideoFolderData
from tokscale.data import encoded, evaluation_batches, open_images, train_batches, videos
from tokscale.data.kept_pixels import DECODED_VARIABLE, KeptPixels

SIZES = ((40, 30), (90, 50), (33, 70), (20, 20), (140, 100))  # larger, smaller, and halved at resolution 24


@pytest.fixture
def photographs(tmp_path):
    root = tmp_path / "photographs"
    for split in ("train", "val"):
        for number, (width, height) in enumerate(SIZES):
            pixels = np.random.default_rng(number + 10 * (split == "val")).integers(
                0, 256, (height, width, 3), np.uint8
            )
            path = root / split / "ab"[number % 2] / f"{number}.{('jpg', 'png')[number % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def of_folder(root, **fields):
    return ImageFolderData(kind="image_folder", root=str(root), resolution=24, **fields)


def of_shards(root):
    for split in ("train", "val"):
        with tarfile.open(root.parent / f"{split}-0.tar", "w") as shard:
            for path in sorted((root / split).glob("*/*")):
                shard.add(path, f"{path.parent.name}{path.name}")
    return ShardsData(kind="shards", pattern=str(root.parent / "train-*.tar"),
                      validation_pattern=str(root.parent / "val-*.tar"), resolution=24)  # fmt: skip


def of_videos(root):
    for split in ("train", "val"):
        path = root.parent / "videos" / split / "a" / "0.mkv"
        path.parent.mkdir(parents=True)
        pixels = np.random.default_rng(len(split)).integers(0, 256, (12, 32, 40, 3), np.uint8)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 40, 32, "bgr0"
            for picture in pixels:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    return VideoFolderData(kind="video_folder", root=str(root.parent / "videos"), resolution=24, frames=4, fps=10)


KINDS = {
    "folder": of_folder,
    "centre crops": lambda root: of_folder(root, crop="center"),
    "shards": of_shards,
    "videos": of_videos,
}


@pytest.fixture
def decoded(monkeypatch):
    """How often images were decoded, and clips read."""
    calls = []
    for home, name in ((encoded, "decode"), (videos, "read_clip")):
        original = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *given, original=original: calls.append(given) or original(*given))
    return calls


@pytest.fixture
def keeping(tmp_path, monkeypatch):
    monkeypatch.setenv(DECODED_VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def seen(config, batches=3):
    """Evaluation's images, and some batches of training's."""
    training = iter(train_batches(open_images(config, "train"), batch_size=4, seed=3))
    found = [*evaluation_batches(open_images(config, "validation"), batch_size=4)]
    return [tensor for batch in (*found, *(next(training) for _ in range(batches))) for tensor in batch]


def equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_same_with_the_folder_and_without(photographs, kind, tmp_path, monkeypatch):
    config = KINDS[kind](photographs)
    plain = seen(config)
    monkeypatch.setenv(DECODED_VARIABLE, str(tmp_path / "kept"))
    assert equal(seen(config), plain), "while they are kept"
    assert equal(seen(config), plain), "once they are"


def test_each_file_is_decoded_once(photographs, keeping, decoded):
    config = of_folder(photographs)
    first = seen(config)
    assert len(decoded) == 2 * len(SIZES)
    assert equal(seen(config), first)
    assert len(decoded) == 2 * len(SIZES)
    seen(config.model_copy(update={"resolution": 16}))
    assert len(decoded) > 2 * len(SIZES), "another resolution has other crops"


def test_a_clip_for_evaluation_is_read_once(photographs, keeping, decoded):
    config = of_videos(photographs)
    first = [*evaluation_batches(open_images(config, "validation"), batch_size=4)]
    assert len(decoded) == 1
    again = [*evaluation_batches(open_images(config, "validation"), batch_size=4)]
    assert equal(first[0], again[0])
    assert len(decoded) == 1
    other = config.model_copy(update={"fps": None})
    assert not equal(next(evaluation_batches(open_images(other, "validation"), batch_size=4)), first[0])


def test_a_file_that_changes_is_decoded_anew(photographs, keeping):
    config = of_folder(photographs)
    seen(config)
    path = photographs / "val" / "a" / "0.jpg"
    status = path.stat()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path)
    with open(path, "ab") as file:
        file.write(bytes(max(0, status.st_size - path.stat().st_size)))  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with_folder = seen(config)
    del os.environ[DECODED_VARIABLE]
    assert equal(with_folder, seen(config))


@pytest.mark.parametrize("harm", ["cut", "blank", "empty", "one bit"])
def test_what_is_not_whole_is_decoded_anew(photographs, keeping, harm):
    config = of_folder(photographs)
    first = seen(config)
    files = [path for path in keeping.rglob("*") if path.is_file()]
    assert len(files) == 2 * len(SIZES)
    for path in files:
        content = bytearray(path.read_bytes())
        if harm == "one bit":
            content[-1] ^= 1
        elif harm == "blank":
            content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        path.write_bytes(content[: {"cut": len(content) // 2, "empty": 0}.get(harm, len(content))])
    assert equal(seen(config), first)


def test_a_disk_that_refuses_is_asked_once(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    kept = KeptPixels(tmp_path / "file")  # where no folder can be
    for name in ("ab1", "ab2"):
        kept.keep(name, np.zeros((2, 2, 3), np.uint8))
        assert kept.load(name) is None
    assert caplog.text.count("no more decoded pixels are kept") == 1


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 3), (3, 2, 4, 4)])
def test_pixels_come_back_as_they_were(tmp_path, shape):
    kept, pixels = KeptPixels(tmp_path), np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    kept.keep("abc", pixels[::-1])
    assert np.array_equal(kept.load("abc"), pixels[::-1])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["abc"]

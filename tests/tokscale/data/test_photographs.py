"""The script that cuts sample photographs into crops."""

import numpy as np
import pytest
from PIL import Image

from tokscale.config import ImageFolderData
from tokscale.data import open_images, photographs
from tokscale.data.photographs import find_photographs, main, write_crops
from tokscale.errors import ConfigError


def test_photographs_are_read_from_the_wheels():
    found = find_photographs()
    assert {"astronaut", "chelsea", "coffee", "rocket", "china", "flower"} <= {path.stem for path in found}


def test_crops_are_an_image_folder(tmp_path, capsys):
    assert main([str(tmp_path / "out"), "--size", "64", "--per-photo", "10"]) == 0
    assert "kind: image_folder" in capsys.readouterr().out
    config = ImageFolderData(kind="image_folder", root=str(tmp_path / "out"), resolution=64)
    train, validation = open_images(config, "train"), open_images(config, "validation")
    assert train.num_classes == len(find_photographs())
    assert (train.size, validation.size) == (10 * train.num_classes, 2 * train.num_classes)
    images, _ = train.images(range(train.size))
    assert images.float().std() > 40
    assert train.skipped == []


def test_train_and_validation_share_no_pixel(tmp_path, monkeypatch):
    """On a photograph whose red level is the column, every crop shows where it was cut."""
    columns = np.broadcast_to(np.arange(250, dtype=np.uint8), (80, 250))
    path = tmp_path / "columns.png"
    Image.fromarray(np.stack([columns] * 3, -1)).save(path)
    monkeypatch.setattr(photographs, "find_photographs", lambda: [path])
    write_crops(tmp_path / "out", size=16, per_photo=100)
    seen = {
        split: np.unique(np.stack([np.asarray(Image.open(crop)) for crop in (tmp_path / "out" / split).rglob("*.png")]))
        for split in ("train", "val")
    }
    assert seen["train"].max() < 200 <= seen["val"].min()
    assert seen["train"].min() < 10
    assert seen["val"].max() > 240


def test_same_seed_same_crops(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_crops(tmp_path / name, size=32, per_photo=2, seed=seed)
    crop = {name: (tmp_path / name / "val" / "coffee" / "00000.png").read_bytes() for name in "abc"}
    assert crop["a"] == crop["b"] != crop["c"]


def test_what_does_not_fit_is_said(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="no photograph"):
        write_crops(tmp_path / "out", size=2000)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(ConfigError, match="in use"):
        write_crops(tmp_path / "used")
    rows = {name: count for name, count, _ in write_crops(tmp_path / "large", size=128, per_photo=1)}
    assert rows["chelsea"] == 0
    assert rows["retina"] == 1
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    assert main([str(tmp_path / "out")]) == 1
    assert "scikit-image and scikit-learn not installed" in capsys.readouterr().err

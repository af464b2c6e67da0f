"""Real photographs without a download: ``python -m tokscale.data.photographs OUT [--size 64] [--per-photo N] [--seed 0]``.

scikit-image and scikit-learn carry a few sample photographs inside their wheels. This script cuts them into square
crops, a class folder for each photograph, below ``train/`` and ``val/`` as ``data: {kind: image_folder, root: OUT}``
reads them. Training crops come from the left four fifths of a photograph and validation crops from the rest, so that no
pixel is in both. Crops are one to two sizes wide in the photograph and are brought to the wanted size as everywhere
else. Both libraries are needed: ``pip install 'tokscale[photographs]'``.

A few photographs are a small world: results on them say that the machinery works on real images, and no more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from tokscale.data.crops import center_crop
from tokscale.data.decoding import decode
from tokscale.data.randomness import hash64, uniforms
from tokscale.errors import ConfigError, DataError, TokscaleError

# Folder inside the package, and the files in it: colour photographs that are part of the wheels, with nothing to fetch.
PHOTOGRAPHS = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
                         "motorcycle_left.png", "retina.jpg", "rocket.jpg")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}  # fmt: skip
_INSTALLED_AS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_TRAIN_SHARE = 0.8
_VALIDATION_EVERY = 5  # one validation crop for so many training crops


def find_photographs() -> list[Path]:
    """The sample photographs of the installed libraries; raises ``DataError`` when a library is missing."""
    missing = [_INSTALLED_AS[package] for package in PHOTOGRAPHS if find_spec(package) is None]
    if missing:
        raise DataError(
            f"{' and '.join(missing)} not installed", where="the sample photographs",
            allowed="pip install 'tokscale[photographs]'",
        )  # fmt: skip
    found: list[Path] = []
    for package, (folder, names) in PHOTOGRAPHS.items():
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        paths = (Path(spec.origin).parent / folder / name for name in names)
        found += [path for path in paths if path.is_file()]
    if not found:
        raise DataError("the installed libraries carry no sample photographs", where="scikit-image, scikit-learn")
    return found


def cut(photograph: Image.Image, size: int, count: int, *words: int) -> list[Image.Image]:
    """``count`` square crops of ``size`` pixels at places and scales that are a pure function of the words."""
    width, height = photograph.size
    crops: list[Image.Image] = []
    for number in range(count):
        scale, x, y, side = (float(draw[0]) for draw in uniforms(hash64(*words, number)))
        wide = min(int(size * (1 + scale)), width, height)
        left, top = int(x * (width - wide + 1)), int(y * (height - wide + 1))
        crop = Image.fromarray(center_crop(photograph.crop((left, top, left + wide, top + wide)), size))
        crops.append(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if side < 0.5 else crop)
    return crops


def write_crops(out: Path, size: int = 64, per_photo: int = 500, seed: int = 0) -> list[tuple[str, int, int]]:
    """Cut all photographs into ``out``; returns name, training crops and validation crops of each.

    Raises ``ConfigError`` for a size that does not fit into a photograph's validation part, or a folder that is not
    empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("the output folder is not empty", where="OUT", given=str(out), allowed="a new or empty folder")
    rows: list[tuple[str, int, int]] = []
    photographs = [(path.stem, decode(path.read_bytes())) for path in find_photographs()]
    for name, image in photographs:
        border = int(image.width * _TRAIN_SHARE)
        if min(image.width - border, image.height) < size:
            raise ConfigError(
                f"the crops are larger than the validation part of {name}", where="--size", given=size,
                allowed=f"at most {min(image.width - border, image.height)}",
            )  # fmt: skip
    for number, (name, image) in enumerate(photographs):
        border = int(image.width * _TRAIN_SHARE)
        parts = (
            ("train", image.crop((0, 0, border, image.height)), per_photo),
            ("val", image.crop((border, 0, image.width, image.height)), -(-per_photo // _VALIDATION_EVERY)),
        )
        for part, (split, region, count) in enumerate(parts):
            folder = out / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for place, crop in enumerate(cut(region, size, count, seed, number, part)):
                crop.save(folder / f"{place:05d}.png")
        rows.append((name, parts[0][2], parts[1][2]))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The script; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tokscale.data.photographs", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument("--size", type=int, default=64, help="side of a crop in pixels (default 64)")
    parser.add_argument("--per-photo", type=int, default=500, help="training crops of each photograph (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        rows = write_crops(given.out, given.size, given.per_photo, given.seed)
    except TokscaleError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    for name, train, validation in rows:
        print(f"{name:20s} {train:6d} train {validation:6d} val")
    print(f"\ndata: {{kind: image_folder, root: {given.out}, resolution: {given.size}}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

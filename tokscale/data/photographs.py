"""Real photographs without a download.

    python -m tokscale.data.photographs OUT [--size 64] [--per-photo 500] [--seed 0]

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
        assert spec is not None
        assert spec.origin is not None
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
        square = np.asarray(photograph.crop((left, top, left + wide, top + wide)))
        planes = np.empty((3, size, size), np.uint8)
        center_crop(planes, square, flip=side < 0.5)
        crops.append(Image.fromarray(planes.transpose(1, 2, 0)))
    return crops


def write_crops(out: Path, size: int = 64, per_photo: int = 500, seed: int = 0) -> list[tuple[str, int, int]]:
    """Cut all photographs into ``out``; returns name, training crops and validation crops of each.

    A photograph whose validation part is smaller than a crop gives none. Raises ``ConfigError`` when that is so for
    all, and for a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("the output folder is in use", where="OUT", given=str(out), allowed="a new or empty folder")
    photographs = [(path.stem, Image.fromarray(decode(path.read_bytes()))) for path in find_photographs()]
    widest = max(_largest_crop(image) for _, image in photographs)
    if not 8 <= size <= widest:
        raise ConfigError("no photograph gives such crops", where="--size", given=size, allowed=f"8 to {widest}")
    if per_photo < 1:
        raise ConfigError("nothing to cut", where="--per-photo", given=per_photo, allowed="1 or more")
    validation = -(-per_photo // _VALIDATION_EVERY)
    rows: list[tuple[str, int, int]] = []
    for number, (name, image) in enumerate(photographs):
        if _largest_crop(image) < size:
            rows.append((name, 0, 0))
            continue
        border = int(image.width * _TRAIN_SHARE)
        left, right = (0, 0, border, image.height), (border, 0, image.width, image.height)
        for split, box, count in (("train", left, per_photo), ("val", right, validation)):
            folder = out / split / name
            folder.mkdir(parents=True)
            for place, crop in enumerate(cut(image.crop(box), size, count, seed, number, split == "val")):
                crop.save(folder / f"{place:05d}.png")
        rows.append((name, per_photo, validation))
    return rows


def _largest_crop(image: Image.Image) -> int:
    return min(image.width - int(image.width * _TRAIN_SHARE), image.height)


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
        print(f"{name:20s} {train:6d} train {validation:6d} val" if train else f"{name:20s} too small for such crops")
    print(f"\ndata: {{kind: image_folder, root: {given.out}, resolution: {given.size}}}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Images per second of the data paths on one core: ``python benchmarks/data_throughput.py [--seconds 2]``.

Rates are per second of processor time. Procedural images stand against the targets of the project; the JPEG folder path
(decode, crop, batch) against the bare decoder on the same files. Paths take turns within a round, so that a busy
machine slows all of them alike; the table shows medians over rounds.

Measured 2026-11-29 on a virtual Intel Xeon with AVX-512 (2 cores, both busy with other work), numpy 2.4.6,
torch 2.13.0, Pillow 13.0.0, simplejpeg 1.9.0:

    path                              images/s  against
    procedural 32 px                      6848  3.42 of the target 2000
    procedural 64 px                      2051
    procedural 256 px                      168  1.68 of the target 100
    decoder alone, 500 x 375               988
    folder 500 x 375, training             559  0.57 of the decoder
    folder 500 x 375, centre               267  0.27 of the decoder
    decoder alone, 2000 x 1500             109
    folder 2000 x 1500, training           145  1.34 of the decoder
    folder 2000 x 1500, centre              33  0.31 of the decoder

The centre crop spends its time in Pillow's box and bicubic filters, which the literature's crop is defined by. Of the
training crop's, the decoder takes two thirds and torch's bicubic filter one, though it resizes the cut alone; all else
is a twentieth. Large photographs are decoded at a half, a fourth or an eighth of their size.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokscale.config import ImageFolderData, ProceduralData
from tokscale.data import Batch, evaluation_batches, open_images, train_batches
from tokscale.data.decoding import decode

_TARGETS = {32: 2000, 256: 100}
_SIZES = (((500, 375), 64), ((2000, 1500), 8))
_ROUNDS = 5


def write_photos(root: Path, count: int, width: int, height: int) -> list[bytes]:
    """JPEGs of quality 90 of procedural scenes, in a training folder, and their bytes."""
    images, _ = open_images(ProceduralData(resolution=width), "train").images(range(count))
    files: list[bytes] = []
    for number, image in enumerate(images.numpy()):
        path = root / "train" / "scenes" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)[:height]).save(path, quality=90)
        files.append(path.read_bytes())
    (root / "val" / "scenes").mkdir(parents=True)
    (root / "val" / "scenes" / "000.jpg").write_bytes(files[0])
    return files


def paths(root: Path) -> dict[str, Callable[[], int]]:
    """Each path as a function that makes some images and says how many."""
    found: dict[str, Callable[[], int]] = {}
    for resolution, batch_size in ((32, 256), (64, 128), (256, 8)):
        image_set = open_images(ProceduralData(resolution=resolution), "train")
        found[f"procedural {resolution} px"] = drawing(iter(train_batches(image_set, batch_size=batch_size, seed=0)))
    for size, count in _SIZES:
        found |= photograph_paths(root / f"{size[0]}", *size, count)
    return found


def photograph_paths(root: Path, width: int, height: int, count: int) -> dict[str, Callable[[], int]]:
    """The bare decoder on JPEGs of one size, and a folder of them to crops of 256 pixels."""
    files = itertools.cycle(write_photos(root, count, width, height))
    photos = open_images(ImageFolderData(kind="image_folder", root=str(root), resolution=256), "train")
    return {
        f"decoder alone, {width} x {height}": lambda: sum(
            decode(data) is not None for data in itertools.islice(files, 8)
        ),
        f"folder {width} x {height}, training": drawing(iter(train_batches(photos, batch_size=8, seed=0))),
        f"folder {width} x {height}, centre": lambda: sum(
            len(images) for images, _ in evaluation_batches(photos, batch_size=8, limit=8)
        ),
    }


def drawing(batches: Iterator[Batch]) -> Callable[[], int]:
    """Make one batch of a stream and say how many images it holds."""
    return lambda: len(next(batches)[0])


def rate(make: Callable[[], int], seconds: float) -> float:
    """Images per second of processor time, over about this many seconds: other processes on the machine cost little."""
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        count += make()
    return count / (time.process_time() - start)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each path and all its rounds together")
    seconds = parser.parse_args().seconds / _ROUNDS
    torch.set_num_threads(1)
    print(f"{date.today()}  {platform.processor() or platform.machine()}  {os.cpu_count()} cores, one used")
    print(f"numpy {np.__version__}, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as folder:
        makers = paths(Path(folder))
        for make in makers.values():
            make()
        rates: dict[str, list[float]] = {name: [] for name in makers}
        for _ in range(_ROUNDS):
            for name, make in makers.items():
                rates[name].append(rate(make, seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{'path':32s} {'images/s':>9s}  against")
    for name, value in medians.items():
        target = next((_TARGETS[size] for size in _TARGETS if name == f"procedural {size} px"), None)
        note = f"{value / target:.2f} of the target {target}" if target else ""
        if name.startswith("folder"):
            size = name.removeprefix("folder ").partition(",")[0]
            note = f"{value / medians[f'decoder alone, {size}']:.2f} of the decoder"
        print(f"{name:32s} {value:9.0f}  {note}")


if __name__ == "__main__":
    main()

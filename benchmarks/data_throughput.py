"""Images per second of the data paths on one core: ``python benchmarks/data_throughput.py [--seconds 2]``.

Rates are per second of processor time. Procedural images stand against the targets of the project; folders of JPEGs and
of H.264 videos (decode, crop to 256 px, batch) against the bare decoder on the same files, which for a clip of 16
frames opens the file and decodes from the key frame on, without turning anything into RGB. Paths take turns within a
round, so that a busy machine slows all of them alike; the table shows medians over rounds.

Measured 2026-11-29 on a virtual Intel Xeon with AVX-512 (2 cores, both busy with other work), numpy 2.4.6,
torch 2.13.0, Pillow 13.0.0, simplejpeg 1.9.0, PyAV 18.1.0, numba 0.68.1; the last column is that of the same table
before crops were compiled and videos were opened once:

    path                                      images/s  against               before
    procedural 32 px                              6872  3.44 of the target 2000
    procedural 64 px                              2147
    procedural 256 px                              172  1.72 of the target 100
    decoder alone, 500 x 375                      1051
    folder 500 x 375, training                     688  0.65 of the decoder     0.57
    folder 500 x 375, centre                       719  0.68 of the decoder     0.27
      training, decoded before                    1468  1.40 of the decoder
      centre, decoded before                      7701  7.33 of the decoder
    decoder alone, 2000 x 1500                     110
    folder 2000 x 1500, training                   156  1.42 of the decoder     1.34
    folder 2000 x 1500, centre                      94  0.86 of the decoder     0.31
      training, decoded before                    1805  16.7 of the decoder
      centre, decoded before                      9704  89.5 of the decoder
    decoder alone, video 256 x 256, training       182
    folder video 256 x 256, training               110  0.60 of the decoder     0.30
    decoder alone, video 256 x 256, centre         165
    folder video 256 x 256, centre                 149  0.90 of the decoder     0.38
    decoder alone, video 640 x 360, training        68
    folder video 640 x 360, training                49  0.72 of the decoder     0.46
    decoder alone, video 640 x 360, centre          63
    folder video 640 x 360, centre                  47  0.75 of the decoder     0.22

Decoded before: with pixels that an earlier epoch or stage kept in the folder TOKSCALE_DECODED, read from memory.
Of 1.39 ms for the centre crop of 500 x 375, the decoder takes .95, the crop .30 (Pillow 2.8; right behind the decoder
.37), and reading, writing and bookkeeping the rest. A crop of that size is 3 million products of 8 and 22 bits, exactly
as Pillow's fixed point has them, which the processor's vectors of 32-bit products make in .16 ms: with nothing else to
do, the path would reach 0.85. Without numba, Pillow makes all crops: 0.33 in training, 0.25 in the centre. The decoder
itself became 8 % faster, as it no longer looks for EXIF blocks among pixels. Large photographs are decoded at a half, a
fourth or an eighth of their size in training. Of a clip of 640 x 360, the decoder takes 14 ms, the crops 5, RGB 2 and
opening the file 2, which the bare decoder does too; frames that no other frame needs are not decoded.
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
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from tokscale.config import ImageFolderData, ProceduralData, VideoFolderData
from tokscale.data import Batch, ImageSet, evaluation_batches, open_images, train_batches
from tokscale.data.crops import compiled_from_now_on
from tokscale.data.decoding import decode
from tokscale.data.kept_pixels import DECODED_VARIABLE

_TARGETS = {32: 2000, 256: 100}
_SIZES = (((500, 375), 64), ((2000, 1500), 8))
_VIDEOS = ((256, 256), (640, 360))
_VIDEO_FRAMES, _CLIP = 300, 16
_BATCH = 32
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
    for size in _VIDEOS:
        found |= video_paths(root / f"video{size[0]}", *size)
    return found


def photograph_paths(root: Path, width: int, height: int, count: int) -> dict[str, Callable[[], int]]:
    """The bare decoder on JPEGs of one size, and a folder of them to crops of 256 pixels."""
    files = itertools.cycle(write_photos(root, count, width, height))
    config = ImageFolderData(kind="image_folder", root=str(root), resolution=256)
    size = f"{width} x {height}"
    made: dict[str, Callable[[], int]] = {
        f"decoder alone, {size}": lambda: sum(decode(data) is not None for data in itertools.islice(files, _BATCH))
    }
    for kept in ("", ", decoded before"):
        if kept:
            os.environ[DECODED_VARIABLE] = str(root / "decoded")
        photos = open_images(config, "train")
        os.environ.pop(DECODED_VARIABLE, None)
        made[f"folder {size}, training{kept}"] = drawing(iter(train_batches(photos, batch_size=_BATCH, seed=0)))
        made[f"folder {size}, centre{kept}"] = partial(first_batch, photos)
    return made


def first_batch(images: ImageSet) -> int:
    """Make evaluation's first batch and say how many images it holds."""
    return sum(len(pictures) for pictures, _ in evaluation_batches(images, batch_size=_BATCH, limit=_BATCH))


def write_video(path: Path, width: int, height: int) -> str:
    """H.264 as x264 makes it by default, with a key frame at least every 30 frames: a pan over a procedural scene."""
    scene, _ = open_images(ProceduralData(resolution=width + _VIDEO_FRAMES), "train").images([0])
    pixels = scene[0].numpy().transpose(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", 30
        for left in range(_VIDEO_FRAMES):
            top = left * (len(pixels) - height) // _VIDEO_FRAMES
            shown = np.ascontiguousarray(pixels[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def video_paths(root: Path, width: int, height: int) -> dict[str, Callable[[], int]]:
    """The bare decoder on clips of videos of one size, and a folder of them to clips of 256 pixels."""
    file = write_video(root / "train" / "pans" / "0.mp4", width, height)
    write_video(root / "val" / "pans" / "0.mp4", width, height)
    config = VideoFolderData(kind="video_folder", root=str(root), resolution=256, frames=_CLIP)
    videos = open_images(config, "train")
    starts = _VIDEO_FRAMES - _CLIP + 1
    anywhere = (int(place * starts) for place in np.random.default_rng(0).random(10**6))
    batches = iter(train_batches(videos, batch_size=4, seed=0))
    return {
        f"decoder alone, video {width} x {height}, training": lambda: bare_clips(file, [next(anywhere)]),
        f"folder video {width} x {height}, training": drawing(batches),
        f"decoder alone, video {width} x {height}, centre": lambda: bare_clips(file, [(starts - 1) // 2]),
        f"folder video {width} x {height}, centre": lambda: sum(
            len(clips) for clips, _ in evaluation_batches(videos, batch_size=1)
        ),
    }


def bare_clips(file: str, starts: list[int]) -> int:
    """Open the file and decode from the key frame on to the end of the clip, for each of the clips."""
    for start in starts:
        with av.open(file) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            unit = round(1 / (25 * float(stream.time_base or 1)))
            container.seek(start * unit, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= (start + _CLIP - 1) * unit:
                    break
    return len(starts)


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
    ways = "compiled code" if compiled_from_now_on() else "Pillow"
    print(f"numpy {np.__version__}, torch {torch.__version__}, PyAV {av.__version__}, crops by {ways}\n")
    with tempfile.TemporaryDirectory() as folder:
        makers = paths(Path(folder))
        for make in makers.values():
            make()
        rates: dict[str, list[float]] = {name: [] for name in makers}
        for _ in range(_ROUNDS):
            for name, make in makers.items():
                rates[name].append(rate(make, seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{'path':42s} {'images/s':>9s}  against")
    for name, value in medians.items():
        target = next((_TARGETS[size] for size in _TARGETS if name == f"procedural {size} px"), None)
        note = f"{value / target:.2f} of the target {target}" if target else ""
        if name.startswith("folder"):
            what = name.removeprefix("folder ")
            bare = next(medians[f"decoder alone, {size}"] for size in (what, what.partition(",")[0])
                        if f"decoder alone, {size}" in medians)  # fmt: skip
            note = f"{value / bare:.2f} of the decoder"
        print(f"{name:42s} {value:9.{0 if value > 200 else 1}f}  {note}")


if __name__ == "__main__":
    main()

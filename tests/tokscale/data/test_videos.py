"""Folders of videos: which frames a clip has, and what becomes of files that have none."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tokscale.config import VideoFolderData
from tokscale.data import evaluation_batches, open_images, train_batches
from tokscale.data.decoding import UnreadableImage
from tokscale.data.video_reading import read_clip, upright
from tokscale.errors import DataError


def level(number):
    """The grey level of a frame: told apart by its number."""
    return 8 * number % 256


def write(path, count=30, *, codec="ffv1", pixels="bgr0", times=None, unit=Fraction(1, 1000), size=(40, 32), rate=25):
    """A video of frames of one grey level each, shown from ``times`` on, in units; at 25 a second without any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size = pixels, 5
        if times is not None:
            stream.time_base = stream.codec_context.time_base = unit
        container.start_encoding()
        for number in range(count):
            picture = np.full((size[1], size[0], 3), level(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers(frames):
    """Which frames these are; lossless to a level or two."""
    return [round(float(np.asarray(image, np.float64).mean()) / 8) for image in frames]


# --- which frames ---


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("a.mkv", "ffv1", "bgr0"), ("a.avi", "ffv1", "bgr0"), ("a.mp4", "libx264", "yuv420p"),
     ("a.webm", "libvpx-vp9", "yuv420p"), ("a.avi", "mpeg4", "yuv420p"), ("a.mov", "libx264", "yuv420p")],
)  # fmt: skip
def test_the_frames_of_a_clip_are_those_asked_for_in_every_container(tmp_path, name, codec, pixels):
    path = str(write(tmp_path / name, 30, codec=codec, pixels=pixels))
    assert numbers(read_clip(path, 8, None, None)) == list(range(11, 19)), "the middle of 23 places"
    assert numbers(read_clip(path, 8, None, 0.0)) == list(range(8))
    assert numbers(read_clip(path, 8, None, 0.9999)) == list(range(22, 30))
    assert numbers(read_clip(path, 30, None, None)) == list(range(30))
    assert numbers(read_clip(path, 4, 12.5, 0.0)) == [0, 2, 4, 6]
    assert numbers(read_clip(path, 4, 50, 0.0)) == [0, 0, 1, 1]


def test_lossless_frames_come_back_to_the_last_bit(tmp_path):
    path = write(tmp_path / "a.mkv", 12)
    for number, image in enumerate(read_clip(str(path), 12, None, None)):
        assert (np.asarray(image) == level(number)).all()


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mp4", "libx264", {}), ("a.mkv", "libx264", {"bf": "5", "b-pyramid": "strict"}),
     ("a.mp4", "mpeg4", {"bf": "2"}), ("a.ts", "mpeg2video", {"bf": "2"}),
     ("a.mp4", "libx265", {"x265-params": "log-level=none"}),
     ("a.webm", "libvpx-vp9", {})],
)  # fmt: skip
def test_what_is_not_decoded_changes_no_frame(tmp_path, name, codec, options):
    """Frames that are references for none are passed over, where they are not asked for."""
    path = tmp_path / name
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 80, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 24
        for number in range(40):
            moved = np.roll(pictures[0], number, 1)
            moved[10:30, number : number + 20] = pictures[number % 3, :20, :20]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved[:, :64].copy(), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for fps, first, step in ((None, 15, 1), (12.5, 11, 2), (5, 1, 5)):
        place = {None: 15 / 33, 12.5: 11 / 26, 5: 1 / 5}[fps] + 1e-6
        clip = read_clip(str(path), 8, fps, place)
        for number, frame in enumerate(clip):
            assert (frame == every[first + step * number]).all(), (fps, number)


def test_frames_of_variable_rate_are_those_on_show_at_each_time(tmp_path):
    times = [0, 100, 150, 400, 410, 420, 900, 1000, 1100]  # milliseconds
    path = str(write(tmp_path / "a.mkv", len(times), times=times))
    # 5 a second from the start: 0, 200, 400, 600, 800 ms
    assert numbers(read_clip(path, 5, 5, 0.0)) == [0, 2, 3, 5, 5]
    # from the second frame: 100, 300, 500, 700, 900 ms
    assert numbers(read_clip(path, 5, 5, 0.5)) == [1, 2, 5, 5, 6]
    assert numbers(read_clip(path, 5, None, 0.0)) == [0, 1, 2, 3, 4]


def test_a_clip_fits_into_a_video_that_ends_with_its_last_frame(tmp_path):
    path = str(write(tmp_path / "a.mkv", 9))  # 0.36 s at 25 a second
    assert numbers(read_clip(path, 9, 25, None)) == list(range(9))
    assert numbers(read_clip(path, 1, 25, 0.999)) == [8]
    with pytest.raises(UnreadableImage, match=r"too short: 9 frames in 0\.36 s, and a clip takes 10 at 25 a second|10"):
        read_clip(path, 10, 25, None)
    with pytest.raises(UnreadableImage, match="too short: 9 frames"):
        read_clip(path, 10, None, None)


def test_phones_videos_are_turned_upright():
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert (upright(frame, 90)[::-1, 0] == frame[0]).all(), "the top goes to the left"
    assert (upright(frame, -180) == frame[::-1, ::-1]).all()
    assert (upright(frame, 0) == frame).all()


# --- folders ---


def folder(tmp_path, **settings):
    for kind in ("run", "walk"):
        for number in range(5):
            write(tmp_path / "videos" / kind / f"{number}.mkv", 20, size=(41 + 4 * number, 27))
    return VideoFolderData(kind="video_folder", root=str(tmp_path / "videos"), resolution=16, frames=6, **settings)


def test_clips_of_odd_sizes_are_cropped_as_images_are(tmp_path):
    config = folder(tmp_path)
    train, validation = open_images(config, "train"), open_images(config, "validation")
    assert train.size + validation.size == 10
    assert (train.class_names, train.frames) == (["run", "walk"], 6)
    clips, labels = next(evaluation_batches(validation, batch_size=8))
    assert clips.shape[1:] == (3, 6, 16, 16)
    assert clips.dtype == torch.uint8
    assert [round(value / 8) for value in clips[0].float().mean((0, 2, 3)).tolist()] == list(range(7, 13))
    assert set(labels.tolist()) <= {0, 1}
    assert validation.reference.endswith("-6f")
    assert open_images(folder(tmp_path, fps=10), "validation").reference != validation.reference


def test_training_clips_start_anywhere_by_the_batch_s_number_alone(tmp_path):
    train = open_images(folder(tmp_path), "train")
    first, again = (train_batches(train, batch_size=8, seed=3).batch(5)[0] for _ in range(2))
    assert torch.equal(first, again)
    starts = set()
    for number in range(6):
        for clip in train_batches(train, batch_size=8, seed=3).batch(number)[0]:
            shown = [round(value / 8) for value in clip.float().mean((0, 2, 3)).tolist()]
            assert shown == list(range(shown[0], shown[0] + 6))
            starts.add(shown[0])
    assert len(starts) > 8
    assert starts <= set(range(15))


def test_files_that_hold_no_clip_are_skipped_and_named(tmp_path):
    config = folder(tmp_path)
    bad = tmp_path / "videos" / "run"
    (bad / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    (bad / "empty.webm").write_bytes(b"")
    whole = write(bad / "whole.mp4", 20, codec="libx264", pixels="yuv420p").read_bytes()
    (bad / "whole.mp4").unlink()
    (bad / "half.mp4").write_bytes(whole[: len(whole) // 2])
    write(bad / "short.mkv", 5)
    write_sound(bad / "sound.mp4")
    write(bad / "none.mkv", 0)
    found = {}
    for split in ("train", "validation"):
        videos = open_images(config, split)
        for index in range(videos.size):
            assert videos.images([index])[0].shape == (1, 3, 6, 16, 16)
        found |= {item.path.rpartition("/")[2]: item.reason for item in videos.skipped}
    assert found.keys() == {"noise.mp4", "empty.webm", "half.mp4", "short.mkv", "sound.mp4", "none.mkv"}
    assert "too short: 5 frames" in found["short.mkv"]
    assert found["sound.mp4"] == "not a video: sound alone"


# --- messages ---


def test_a_folder_without_videos_is_refused_in_one_message(tmp_path):
    (tmp_path / "run").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "run" / "a.png")
    with pytest.raises(DataError, match=r"no videos found[\s\S]*1 files, none of them a video"):
        open_images(VideoFolderData(kind="video_folder", root=str(tmp_path)), "train")
    with pytest.raises(DataError, match="the video folder does not exist"):
        open_images(VideoFolderData(kind="video_folder", root=str(tmp_path / "no")), "train")


def test_a_folder_of_damaged_videos_alone_is_refused_with_the_first_reason(tmp_path):
    for kind in ("train", "val"):
        (tmp_path / kind / "run").mkdir(parents=True)
        for number in range(3):
            (tmp_path / kind / "run" / f"{number}.mp4").write_bytes(bytes([number]) * 1000)
    config = VideoFolderData(kind="video_folder", root=str(tmp_path))
    with pytest.raises(DataError, match=r"no validation video of .* can be read[\s\S]*not a video"):
        open_images(config, "validation")
    with pytest.raises(DataError, match=r"no train video of .* can be read"):
        open_images(config, "train").images([0])


def test_without_pyav_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("tokscale.data.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'tokscale\[video\]'"):
        open_images(VideoFolderData(kind="video_folder", root=str(tmp_path)), "train")

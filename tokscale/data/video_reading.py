"""From a video file to the frames of a clip, by PyAV: chosen by their presentation times, whatever the frame rate."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from statistics import median

import av
import numpy as np
from numpy.typing import NDArray

from tokscale.data.decoding import UnreadableImage

Pixels = NDArray[np.uint8]

ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

_KNOWN = 1 << 14  # videos whose times are kept: to find them takes a pass over the file
_ROUNDING = 1e-6  # seconds: far below any frame's duration, far above what sums of times lose


def read_clip(path: str, frames: int, fps: float | None, place: float | None) -> list[Pixels]:
    """So many upright RGB frames (h, w, c) of a video: ``fps`` a second, or as they come where that is None.

    The clip begins at one of the frames that leave room for it: at ``place`` in [0, 1) of them, or the middle one. At
    each time of the clip, the frame that a player would show is taken. Raises ``UnreadableImage``.
    """
    try:
        times, step = _presentation(path)
        wanted = _chosen([time * step for time in times], frames, fps, place)
        found = _decoded(path, [times[index] for index in wanted])
    except av.FFmpegError as error:
        raise UnreadableImage(f"not a video that can be decoded: {error.strerror}") from error
    return [found[times[index]] for index in wanted]


def _video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    if not container.streams.video:
        sound = "sound alone" if container.streams.audio else "no stream of pictures"
        raise UnreadableImage(f"not a video: {sound}")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # clips decode faster so, and workers do not crowd one another
    return stream


@lru_cache(maxsize=_KNOWN)
def _presentation(path: str) -> tuple[list[int], float]:
    """The presentation times of all frames, in order, and the seconds of their unit; without decoding if possible."""
    with av.open(path) as container:
        stream = _video_stream(container)
        step = float(stream.time_base or 1)
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = [packet.pts for packet in packets if packet.pts is not None]
        if not times or len(times) < len(packets):  # AVI may keep the times of decoding alone
            container.seek(0, stream=stream)
            times = [frame.pts for frame in container.decode(stream) if frame.pts is not None]
    if not times:
        raise UnreadableImage("a video without frames")
    return sorted(set(times)), step


def _chosen(seconds: Sequence[float], frames: int, fps: float | None, place: float | None) -> list[int]:
    """Which frames, shown from these times on, make up the clip."""
    gaps = [later - earlier for earlier, later in pairwise(seconds)]
    end = seconds[-1] + (median(gaps) if gaps else 0.0)
    if fps is None:
        starts = len(seconds) - frames + 1
    else:
        # the last frame of the clip is on show at its time, or begins with it
        last = max(end, seconds[-1] + 2 * _ROUNDING) - (frames - 1) / fps - _ROUNDING
        starts = bisect_right(seconds, last)
    if starts < 1:
        takes = f"{frames} frames" + ("" if fps is None else f" at {fps:g} a second")
        raise UnreadableImage(f"too short: {len(seconds)} frames in {end - seconds[0]:.2f} s, and a clip takes {takes}")
    first = (starts - 1) // 2 if place is None else int(place * starts)
    if fps is None:
        return list(range(first, first + frames))
    moments = (seconds[first] + number / fps + _ROUNDING for number in range(frames))
    return [bisect_right(seconds, moment) - 1 for moment in moments]


def _decoded(path: str, wanted: Sequence[int]) -> dict[int, Pixels]:
    """The frames of these presentation times; from the key frame before them, or where that fails from the start."""
    for seek in (True, False):
        found: dict[int, Pixels] = {}
        with av.open(path) as container:
            stream = _video_stream(container)
            if seek:
                container.seek(min(wanted), stream=stream)
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                if frame.pts in wanted:
                    found[frame.pts] = upright(frame.to_ndarray(format="rgb24"), frame.rotation)
                if frame.pts >= max(wanted):
                    break
        if len(found) == len(set(wanted)):
            return found
    raise UnreadableImage("a frame that the file lists cannot be decoded")


def upright(frame: Pixels, rotation: int) -> Pixels:
    """A frame (h, w, c) turned counter-clockwise by the quarters that its file asks for, as phones' videos do."""
    return np.ascontiguousarray(np.rot90(frame, round(rotation / 90)))

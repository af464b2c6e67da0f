"""From a video file to the frames of a clip, by PyAV: chosen by their presentation times, whatever the frame rate."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import cast

import av
import numpy as np
from av.container import InputContainer as Container
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream as Stream
from numpy.typing import NDArray

from tokscale.data.decoding import UnreadableImage

Pixels = NDArray[np.uint8]
Times = tuple[list[int], float]  # of presentation, in units of so many seconds

ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

_MOST_KNOWN = 1 << 14  # videos whose times are kept: to find them takes a pass over the file
# Decoders that leave out frames that are no references, and where these change nothing for any other frame: not so
# HEVC's, whose layers may refer to them, nor VP9's, whose tables of probabilities they may adapt.
_FREE_TO_SKIP = ("h264", "mpeg4", "mpeg2video")
_ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}  # there were no more before
_ROUNDING = 1e-6  # seconds: far below any frame's duration, far above what sums of times lose

_known: dict[str, Times] = {}


def read_clip(path: str, frames: int, fps: float | None, place: float | None) -> list[Pixels]:
    """So many upright RGB frames (h, w, c) of a video: ``fps`` a second, or as they come where that is None.

    The clip begins at one of the frames that leave room for it: at ``place`` in [0, 1) of them, or the middle one. At
    each time of the clip, the frame that a player would show is taken. Raises ``UnreadableImage``.
    """
    try:
        with av.open(path) as container:
            stream = _video_stream(container)
            if path not in _known:
                if len(_known) >= _MOST_KNOWN:
                    del _known[next(iter(_known))]
                _known[path] = _presentation(container, stream)
            times, step = _known[path]
            clip = [times[index] for index in _chosen([time * step for time in times], frames, fps, place)]
            wanted = frozenset(clip)
            container.seek(clip[0], stream=stream)
            found = _decoded(container, stream, wanted, stream.codec_context.name in _FREE_TO_SKIP)
        if found.keys() != wanted:  # its key frames are not where the file says
            with av.open(path) as container:
                found = _decoded(container, _video_stream(container), wanted, skip=False)
    except av.FFmpegError as error:
        raise UnreadableImage(f"not a video that can be decoded: {error.strerror}") from error
    if found.keys() != wanted:
        raise UnreadableImage("a frame that the file lists cannot be decoded")
    return [found[time] for time in clip]


def _video_stream(container: Container) -> Stream:
    if not container.streams.video:
        sound = "sound alone" if container.streams.audio else "no stream of pictures"
        raise UnreadableImage(f"not a video: {sound}")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # clips decode faster so, and workers do not crowd one another
    return stream


def _presentation(container: Container, stream: Stream) -> Times:
    """The presentation times of all frames, in order, and the seconds of their unit; without decoding if possible."""
    step = float(stream.time_base or 1)
    stamps = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    times = [stamp for stamp in stamps if stamp is not None]
    if not times or len(times) < len(stamps):  # AVI may keep the times of decoding alone
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


def _decoded(container: Container, stream: Stream, wanted: frozenset[int], skip: bool) -> dict[int, Pixels]:
    """The frames of these presentation times, as far as they are found from the place on that the container is at.

    With ``skip``, frames that no other is decoded from are passed over where they are not wanted themselves.
    """
    found: dict[int, Pixels] = {}
    last = max(wanted)
    decoder, colours = stream.codec_context, VideoReformatter()  # one for all frames: it is costly to make
    for packet in container.demux(stream):
        if skip:
            needed = packet.pts is None or packet.pts in wanted
            decoder.skip_frame = "DEFAULT" if needed else "NONREF"
        for frame in packet.decode():
            if frame.pts is not None and frame.pts in wanted:
                rgb = colours.reformat(frame, format="rgb24", **_ONE_THREAD)
                found[frame.pts] = upright(cast(Pixels, rgb.to_ndarray()), frame.rotation)
            if frame.pts is not None and frame.pts >= last:
                return found
    return found


def upright(frame: Pixels, rotation: int) -> Pixels:
    """A frame (h, w, c) turned counter-clockwise by the quarters that its file asks for, as phones' videos do."""
    return np.ascontiguousarray(np.rot90(frame, round(rotation / 90)))

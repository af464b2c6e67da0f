"""Configs of data: images and clips, made by a procedure or read from files."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag

from tokscale.fields import Config, Fraction, Measured, NonNegative, Positive, Seed, kind_of

Resolution = Annotated[int, Field(ge=16, le=4096)]
"""pixels a side"""
Frames = Annotated[int, Field(ge=1, le=1024)]
Classes = Annotated[int, Field(ge=1, le=10)]


class _Images(Config):
    """Data of square images."""

    clips: ClassVar[bool] = False
    """whether an item is a clip of ``frames`` frames; else it is an image"""
    resolution: Resolution

    @property
    def frames(self) -> int:
        """Frames of an item: an image is one."""
        return 1

    @property
    def extent(self) -> tuple[int, int]:
        """Pixels a side, and frames."""
        return self.resolution, self.frames


class ProceduralData(_Images):
    """Dead-leaves images, endless and class-conditional, made as they are needed; a pure function of seed and index."""

    kind: Literal["procedural"] = "procedural"
    resolution: Resolution = 32
    classes: Classes = 10
    seed: Seed = 0
    validation_images: Measured = Field(default=1024, json_schema_extra={"validation_only": True})


class ImageFolderData(_Images):
    """Photographs in class folders, with train/ and val/ below the root or a split by hash of the file's path."""

    kind: Literal["image_folder"]
    root: str
    resolution: Resolution = 256
    validation_root: str | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    validation_images: Measured | None = Field(default=None, json_schema_extra={"validation_only": True})
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    seed: Seed = 0


class ShardsData(_Images):
    """Photographs in WebDataset tar shards: ``pattern`` is a glob, braces such as {000..127} are expanded."""

    kind: Literal["shards"]
    pattern: str
    validation_pattern: str
    resolution: Resolution = 256
    validation_images: Measured | None = Field(default=None, json_schema_extra={"validation_only": True})
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    seed: Seed = 0


class _Clips(Config):
    """Data of square clips. Wherever images are counted, a clip is one."""

    clips: ClassVar[bool] = True
    resolution: Resolution
    frames: Frames

    @property
    def extent(self) -> tuple[int, int]:
        """Pixels a side, and frames."""
        return self.resolution, self.frames


class ProceduralVideoData(_Clips):
    """Moving dead leaves, endless and class-conditional: a clip's first frame is the procedural image of its index.

    Leaves of one size and depth move together at a constant velocity, in a direction that the class tells.
    """

    kind: Literal["procedural_video"]
    resolution: Resolution = 32
    frames: Frames = 8
    classes: Classes = 10
    speed: NonNegative = 0.03125
    """of the fastest leaves, in sides of the image per frame; 0 is still"""
    parallax: Fraction = 0.5
    """how much slower than the fastest the slowest leaves may be, as a share; at 0 the whole picture moves as one"""
    cut_probability: Fraction = 0.0
    """that a frame is the first of another scene of the same class"""
    seed: Seed = 0
    validation_images: Measured = Field(default=1024, json_schema_extra={"validation_only": True})


class VideoFolderData(_Clips):
    """Videos in class folders (mp4, webm, avi, mkv, mov), with train/ and val/ below the root or a split by hash.

    A clip begins at a random frame in training, in the middle of the video in evaluation.
    """

    kind: Literal["video_folder"]
    root: str
    resolution: Resolution = 256
    frames: Frames = 16
    fps: Positive | None = None
    """frames a second of a clip, each the one on show at its time; none: the video's frames as they come"""
    validation_root: str | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    validation_images: Measured | None = Field(default=None, json_schema_extra={"validation_only": True})
    crop: Literal["random", "center"] = "random"
    flip: bool = True
    seed: Seed = 0


FolderData = ImageFolderData | VideoFolderData

DataConfig = Annotated[
    Annotated[ProceduralData, Tag("procedural")]
    | Annotated[ImageFolderData, Tag("image_folder")]
    | Annotated[ShardsData, Tag("shards")]
    | Annotated[ProceduralVideoData, Tag("procedural_video")]
    | Annotated[VideoFolderData, Tag("video_folder")],
    kind_of("procedural"),
]

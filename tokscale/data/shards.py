"""``data: {kind: shards}``: WebDataset tar shards, read at random.

A shard is a plain tar file. Members whose names agree up to the first dot of the file name are one sample: an image
(the first, if there are several), and its class as text in a member ``.cls`` or in a member ``.json`` under "label",
"class" or "cls". When any sample has a class, those without one are left out and named; when none has, all are of one.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from tokscale.config import ShardsData
from tokscale.data.decoding import ENDINGS
from tokscale.data.encoded import EncodedImages, refuse_shared
from tokscale.data.images import Skipped, Split, left_out
from tokscale.data.kept_pixels import stamp
from tokscale.data.randomness import hash64
from tokscale.errors import DataError, one_of

_LABEL_KEYS = ("label", "class", "cls")
_BLOCK = 512
# A class needs a name and a row of an embedding: beyond these bounds a number is a mistake, not a class.
_CLASSES_PER_IMAGE, _CLASSES_ANYWAY = 10, 1000


@dataclass(frozen=True)
class Member:
    """An image inside a shard."""

    shard: str
    key: str
    ending: str
    offset: int
    size: int
    label: int | None


@dataclass(frozen=True)
class Index:
    """The images of some shards, in the order of the files, and what could not be used."""

    members: list[Member]
    skipped: list[Skipped]

    def labels(self) -> list[int]:
        """The classes of the images that have one."""
        return [member.label for member in self.members if member.label is not None]


class ShardImages(EncodedImages):
    """Images in tar shards. The shards' headers are read once; images are then read by their offset."""

    def __init__(self, config: ShardsData, split: Split):
        train, validation = _labelled(config)
        classes = _classes(train, config.pattern)
        unknown = sorted({label for label in validation.labels() if label >= classes})
        if unknown:
            raise DataError(
                f"{len(unknown)} of the validation classes do not occur in training", where=config.validation_pattern,
                given=", ".join(str(label) for label in unknown[:10]) + left_out(train.skipped),
                allowed=f"classes 0 to {classes - 1}",
            )  # fmt: skip
        own = train if split == "train" else validation
        labels = np.array(own.labels(), np.int64)
        names = [str(number) for number in range(classes)]
        super().__init__(config, split, labels, names, Path(config.pattern).parent.resolve().name)
        self.members, self.left_out = own.members, own.skipped
        self.order = np.argsort(hash64(config.seed, np.arange(len(labels))), kind="stable")
        if split == "validation":
            self.keep(config.validation_images)

    def path(self, file: int) -> str:
        member = self.members[file]
        return f"{member.shard}:{member.key}{member.ending}"

    def fingerprint(self, file: int) -> str:
        member = self.members[file]
        return f"{Path(member.shard).name} {member.key}{member.ending} {member.size}"

    def stamp(self, file: int) -> tuple[object, ...]:
        member = self.members[file]
        return *stamp(member.shard), member.offset, member.size

    def read(self, file: int) -> bytes:
        member = self.members[file]
        with open(member.shard, "rb") as stream:
            stream.seek(member.offset)
            return stream.read(member.size)


def _labelled(config: ShardsData) -> tuple[Index, Index]:
    """Images for training and for validation, each with a class: that of its sample, or 0 when no sample has one."""
    patterns = {"data.pattern": config.pattern, "data.validation_pattern": config.validation_pattern}
    shards, others = (expand(pattern, key) for key, pattern in patterns.items())
    known = {_identity(shard) for shard in shards}
    refuse_shared([shard for shard in others if _identity(shard) in known], config.validation_pattern)
    train, validation = (read_index(pattern, key) for key, pattern in patterns.items())
    if not train.labels() and not validation.labels():
        return _with_class_0(train), _with_class_0(validation)
    for index, pattern in ((train, config.pattern), (validation, config.validation_pattern)):
        if not index.labels():
            bare = index.members[0]
            raise DataError(
                "the images of one split have classes, and those of the other have none", where=pattern,
                given=f"no class for {bare.key} in {bare.shard} nor any other" + left_out(index.skipped),
                allowed="a .cls or .json member for the images of both splits, or of neither",
            )  # fmt: skip
    return _without_bare(train), _without_bare(validation)


def _identity(path: str) -> tuple[int, int]:
    """What is the same for all paths and links to one file."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _with_class_0(index: Index) -> Index:
    return replace(index, members=[replace(member, label=0) for member in index.members])


def _without_bare(index: Index) -> Index:
    """The images that have a class; those that have none are named."""
    bare = [member for member in index.members if member.label is None]
    reason = "no class in a .cls or .json member, where other samples have one"
    return Index(
        [member for member in index.members if member.label is not None],
        index.skipped + [Skipped(f"{member.shard}:{member.key}", reason) for member in bare],
    )


def _classes(train: Index, pattern: str) -> int:
    """Number of classes: the largest label and one; a label that the number of images cannot explain is refused."""
    largest = max(train.members, key=lambda member: member.label or 0)
    count, most = (largest.label or 0) + 1, _CLASSES_PER_IMAGE * len(train.members) + _CLASSES_ANYWAY
    if count > most:
        raise DataError(
            "a class number is far too large", where=pattern, given=f"{count - 1} for {largest.key} in {largest.shard}",
            allowed=f"classes 0 to {most - 1} for {len(train.members)} images",
        )  # fmt: skip
    return count


def expand(pattern: str, key: str = "data.pattern") -> list[str]:
    """The shards that a pattern names, sorted: a glob, in which braces such as {000..127} and {a,b} are expanded first.

    Raises ``DataError`` when nothing matches, or when a shard that the braces name is not there.
    """
    paths: list[str] = []
    for words in _expand_braces(str(Path(pattern).expanduser())):
        found = sorted(glob.glob(words))
        if not found:
            raise DataError("no shard found", where=key, given=words, allowed="the path of existing .tar files")
        paths += found
    return sorted(dict.fromkeys(paths))


def _expand_braces(pattern: str) -> Iterator[str]:
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices: list[list[str]] = []
    for number, part in enumerate(parts):
        span = re.fullmatch(r"(\d+)\.\.(\d+)", part)
        if number % 2 == 0:
            choices.append([part])
        elif span is not None:
            width = len(span[1]) if span[1].startswith("0") else 0
            choices.append([str(value).zfill(width) for value in range(int(span[1]), int(span[2]) + 1)])
        else:
            choices.append(part.split(","))
    for words in itertools.product(*choices):
        yield "".join(words)


def read_index(pattern: str, key: str = "data.pattern") -> Index:
    """The images of all shards of a pattern; raises ``DataError`` when there are none."""
    members: list[Member] = []
    skipped: list[Skipped] = []
    shards = expand(pattern, key)
    for shard in shards:
        status = Path(shard).stat()
        index = _read_shard(shard, status.st_size, status.st_mtime_ns)
        members += index.members
        skipped += index.skipped
    if not members:
        reasons = "; ".join(f"{item.path}: {item.reason}" for item in skipped[:3])
        raise DataError(
            "no images found in the shards", where=pattern, given=reasons or f"{len(shards)} shards without an image",
            allowed=f"uncompressed tar files with members that end in {', '.join(ENDINGS)}",
        )  # fmt: skip
    return Index(members, skipped)


@cache
def _read_shard(shard: str, size: int, modified: int) -> Index:
    """The images of one shard; its size and time of change are part of the name under which this is remembered."""
    samples: dict[str, list[tuple[str, int, int, bytes]]] = {}
    skipped: list[Skipped] = []
    try:
        with open(shard, "rb") as stream:
            for name, offset, length in _headers(stream, size, shard, skipped):
                key, ending = _split_name(name)
                text = _at(stream, offset, length) if ending in (".cls", ".json") else b""
                samples.setdefault(key, []).append((ending, offset, length, text))
    except OSError as error:
        skipped.append(Skipped(shard, error.strerror or str(error)))
    members: list[Member] = []
    for key, parts in samples.items():
        members += _sample(shard, key, parts, skipped)
    return Index(members, skipped)


def _headers(stream: IO[bytes], size: int, shard: str, skipped: list[Skipped]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and length of every ordinary member that is wholly there; a cut shard is named in ``skipped``."""
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if member.isfile() and member.offset_data + member.size <= size:
                    yield member.name, member.offset_data, member.size
    except tarfile.TarError as error:
        skipped.append(Skipped(shard, f"damaged or not a tar file: {error}"))
        return
    # Two blocks of zeros end an archive; a shard that was cut between two members is missing only these.
    if size < end + _BLOCK:
        skipped.append(Skipped(shard, f"cut short at {size} bytes; the members before the cut are used"))


def _at(stream: IO[bytes], offset: int, length: int) -> bytes:
    place = stream.tell()
    stream.seek(offset)
    data = stream.read(length)
    stream.seek(place)
    return data


def _split_name(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    key, dot, ending = base.partition(".")
    return folder + slash + key, (dot + ending).lower()


def _sample(shard: str, key: str, parts: list[tuple[str, int, int, bytes]], skipped: list[Skipped]) -> Iterator[Member]:
    try:
        label = _label([(ending, text) for ending, _, _, text in parts])
    except (ValueError, RecursionError) as error:
        skipped.append(Skipped(f"{shard}:{key}", f"the class cannot be read: {error}"))
        return
    for ending, offset, size, _ in parts:
        if ending in ENDINGS:
            yield Member(shard, key, ending, offset, size, label)
            return


def _label(parts: list[tuple[str, bytes]]) -> int | None:
    """The class of a sample, None without one; raises ``ValueError`` for one that is no whole number from 0."""
    for ending, text in sorted(parts):
        value: object = text.decode("utf-8", "replace").strip()
        if ending == ".json":
            fields = json.loads(text)
            value = (
                next((fields[key] for key in _LABEL_KEYS if key in fields), None) if isinstance(fields, dict) else None
            )
        if ending in (".cls", ".json") and value is not None:
            if not re.fullmatch(r"[0-9]{1,9}", str(value)):
                raise ValueError(f"no whole number: {str(value)[:80]!r} ({one_of(_LABEL_KEYS)})")
            return int(str(value))
    return None

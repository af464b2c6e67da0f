"""``data: {kind: image_folder}``: photographs in class folders; and how any files are found in them and split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tokscale.data.decoding import ENDINGS
from tokscale.data.encoded import EncodedImages, refuse_shared
from tokscale.data.images import Skipped, Split, left_out
from tokscale.data_config import FolderData
from tokscale.errors import DataError

_VALIDATION_NAMES = ("val", "validation")
_NO_CLASS = "."


@dataclass(frozen=True)
class Medium:
    """What lies in a folder: what it is called in messages, and how its files end."""

    name: str
    endings: tuple[str, ...]

    @property
    def article(self) -> str:
        return "an" if self.name[0] in "aeiou" else "a"


IMAGES = Medium("image", ENDINGS)


@dataclass(frozen=True)
class Listing:
    """Images below a folder: paths relative to it with ``/``, sorted, and what could not be listed.

    ``inodes`` are those of the paths when all of the folder is listed, and empty for a part of it.
    """

    root: Path
    paths: list[str]
    inodes: list[int]
    skipped: list[Skipped]

    def classes(self) -> list[str]:
        """The first folders below the root, sorted; images without a folder are of the class ``.``."""
        return sorted({class_of(path) for path in self.paths})


class FolderImages(EncodedImages):
    """Images below a folder; the class is the first folder level below the root of the split.

    With ``train/`` and ``val/`` (or ``validation/``) below the root, or with ``validation_root``, the split is that of
    the folders. Otherwise a hash of each file's relative path decides, so a file stays on its side when others come.
    No class is in validation alone: with folders this is an error; with the hash, all images of such a class train,
    until the class has an image on the side of training.
    """

    medium = IMAGES

    def __init__(self, config: FolderData, split: Split):
        self.item = self.medium.name
        train, validation = _listings(config, self.medium)
        names = sorted({*train.classes(), *validation.classes()})
        own = train if split == "train" else validation
        numbers = {name: number for number, name in enumerate(names)}
        labels = np.array([numbers[class_of(path)] for path in own.paths], np.int64)
        super().__init__(config, split, labels, names, Path(config.root).resolve().name)
        self.root, self.paths = own.root, own.paths
        self.left_out = own.skipped
        self.order = np.array(
            sorted(range(len(own.paths)), key=lambda file: (_rank(config.seed, own.paths[file]), file))
        )
        if split == "validation":
            self.keep(config.validation_images)

    def path(self, file: int) -> str:
        return str(self.root / self.paths[file])

    def fingerprint(self, file: int) -> str:
        return f"{self.paths[file]} {os.path.getsize(self.path(file))}"

    def read(self, file: int) -> bytes:
        with open(self.path(file), "rb") as stream:
            return stream.read()


def class_of(path: str) -> str:
    """The class of an image, by its path relative to the root of the split."""
    first, slash, _ = path.partition("/")
    return first if slash else _NO_CLASS


def _listings(config: FolderData, medium: Medium) -> tuple[Listing, Listing]:
    """Images for training and for validation."""
    train_root, validation_root = _roots(config, medium)
    train = list_images(train_root, medium)
    if validation_root is not None:
        validation = list_images(validation_root, medium)
        refuse_shared(_shared(train, validation), str(validation_root))
        unknown = sorted({*validation.classes()} - {*train.classes()})
        if unknown:
            raise DataError(
                f"{len(unknown)} of the validation classes do not occur in training", where=str(validation_root),
                given=", ".join(unknown[:10]) + left_out(train.skipped),
                allowed=f"class folders that also lie in {train_root}",
            )  # fmt: skip
        return train, validation
    chosen = _held_out(config, train, medium)
    return (
        replace(train, paths=[path for path in train.paths if path not in chosen], inodes=[]),
        replace(train, paths=[path for path in train.paths if path in chosen], inodes=[]),
    )


def _held_out(config: FolderData, listing: Listing, medium: Medium) -> set[str]:
    """The paths that the hash gives to validation: at least one, and never all of a class."""
    ranks = {path: _rank(config.seed, path) for path in listing.paths}
    chosen = {path for path, rank in ranks.items() if rank < config.validation_fraction}
    trained = {class_of(path) for path in ranks if path not in chosen}
    kept = {path for path in chosen if class_of(path) in trained}
    sizes = Counter(class_of(path) for path in ranks)
    shareable = [path for path in ranks if sizes[class_of(path)] > 1]
    if len(chosen) == len(ranks) or not shareable:
        raise DataError(
            f"no {medium.name}s are left for training beside those for validation", where=str(listing.root),
            given=f"{len(ranks)} {medium.name}s in {len(sizes)} classes, validation_fraction "
            f"{config.validation_fraction}" + left_out(listing.skipped),
            allowed=f"more {medium.name}s of a class, a smaller validation_fraction, or a validation_root",
        )  # fmt: skip
    # A small folder, too, has something to validate on.
    return kept or {min(shareable, key=lambda path: (ranks[path], path))}


def _shared(train: Listing, validation: Listing) -> list[str]:
    """Validation images that are files of training, by whatever path or link."""
    places = dict(zip(train.inodes, train.paths, strict=True))
    found = ((path, places.get(inode)) for path, inode in zip(validation.paths, validation.inodes, strict=True))
    return [
        str(validation.root / path)
        for path, other in found  # equal numbers may be of two devices
        if other is not None and os.path.samefile(validation.root / path, train.root / other)
    ]


def _roots(config: FolderData, medium: Medium) -> tuple[Path, Path | None]:
    root = _existing(config.root, "data.root", medium)
    if config.validation_root is not None:
        return root, _existing(config.validation_root, "data.validation_root", medium)
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    found = [name for name in _VALIDATION_NAMES if name in folders]
    if "train" not in folders:
        return root, None
    if len(found) > 1:
        raise DataError(
            f"two folders could be the validation {medium.name}s", where=str(root), given=" and ".join(found),
            allowed="one of them, or data.validation_root",
        )  # fmt: skip
    if found:
        return root / "train", root / found[0]
    return (root / "train", None) if folders == ["train"] else (root, None)


def _existing(folder: str, key: str, medium: Medium) -> Path:
    path = Path(folder).expanduser()
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise DataError(f"the {medium.name} folder {problem}", where=key, given=folder, allowed="an existing folder")
    return path


def list_images(root: Path, medium: Medium = IMAGES) -> Listing:
    """All images below a folder, or files of another medium.

    Hidden files and other endings are passed over, links are followed but not in circles. Raises ``DataError`` when
    there are none.
    """
    skipped: list[Skipped] = []
    found = sorted(_walk(root, "", frozenset(), skipped, medium.endings))
    if not found:
        others = sum(len(files) for _, _, files in os.walk(root))
        raise DataError(
            f"no {medium.name}s found", where=str(root),
            given=f"{others} files, none of them {medium.article} {medium.name} that can be listed" + left_out(skipped),
            allowed=f"files that end in {', '.join(medium.endings)} (upper or lower case), in class folders or not",
        )  # fmt: skip
    return Listing(root, [path for path, _ in found], [inode for _, inode in found], skipped)


def _walk(
    folder: Path, prefix: str, above: frozenset[tuple[int, int]], skipped: list[Skipped], endings: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    """Path and inode of every image; a million images are listed without a look at each."""
    try:
        status = folder.stat()
        entries = list(os.scandir(folder))
    except OSError as error:
        skipped.append(Skipped(str(folder), error.strerror or str(error)))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        skipped.append(Skipped(str(folder), "a link back to a folder above it"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        kind = _kind(entry)
        if kind == "folder":
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {identity}, skipped, endings)
        elif entry.name.lower().endswith(endings):
            if kind == "file":
                yield prefix + entry.name, entry.stat().st_ino if entry.is_symlink() else entry.inode()
            else:
                skipped.append(Skipped(entry.path, "a broken link, or not an ordinary file"))


def _kind(entry: os.DirEntry[str]) -> str | None:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else None
    except OSError:  # a link to itself
        return None


def _rank(seed: int, path: str) -> float:
    """A number in [0, 1) that is a pure function of the seed and the relative path."""
    digest = hashlib.blake2b(f"{seed}:{path}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

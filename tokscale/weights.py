"""Files of pretrained weights by name: where they come from, where they go, and whether they are what they should be.

They lie where torch looks for them, ``$TORCH_HOME/hub/checkpoints``, so a file that another program fetched serves too.
Many files carry the first hex digits of their SHA-256 in their name. Of the others no hash is published: fetching keeps
the hash of what came in a file beside them, ``NAME.sha256``, and later looks compare with that.

DINOv2 also needs its authors' code: a copy of their repository, which nothing here fetches.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from tokscale.errors import ConfigError, WeightsError, one_of
from tokscale.record import digest

SIDECAR = ".sha256"
DINOV2_VARIABLE, DINOV2_REPOSITORY = "TOKSCALE_DINOV2", "https://github.com/facebookresearch/dinov2"
HUB_FILE = "hubconf.py"
"""which every repository for ``torch.hub`` has"""
_PUBLISHED = re.compile(r"-([0-9a-f]{8})\.[a-z]+$")


class Weights(NamedTuple):
    """One file: its name here, where it comes from, its size, what needs it, and the words of its licence."""

    name: str
    url: str
    megabytes: int
    """about"""
    used_for: str
    licence: str

    @property
    def file(self) -> str:
        return self.url.partition("?")[0].rpartition("/")[2]

    @property
    def published(self) -> str | None:
        """The first hex digits of the SHA-256, where the file's name has them."""
        found = _PUBLISHED.search(self.file)
        return found[1] if found else None


def _dinov2(letter: str, megabytes: int, registers: bool) -> Weights:
    architecture, suffix = f"dinov2_vit{letter}14", "_reg4" if registers else ""
    return Weights(
        f"dinov2-{letter}" + ("-reg" if registers else ""),
        f"https://dl.fbaipublicfiles.com/dinov2/{architecture}/{architecture}{suffix}_pretrain.pth",
        megabytes, "losses.semantic: the teacher of semantic alignment; evaluation.features: rFDD", "Apache-2.0",
    )  # fmt: skip


_RELEASES = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
_DINO_MEGABYTES = {"s": 88, "b": 346, "l": 1218, "g": 4546}
_ENTRIES = (
    Weights("vgg16", "https://download.pytorch.org/models/vgg16-397923af.pth", 553,
            "losses.perceptual and the measure lpips", "BSD-3-Clause (torchvision); trained on ImageNet"),
    Weights("inception-tf2015", f"{_RELEASES}/weights-inception-2015-12-05-6726825d.pth", 96,
            "evaluation.features: FID and Inception score as in the literature",
            "Apache-2.0 (TensorFlow models); trained on ImageNet"),
    Weights("inception-torchvision", "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth", 104,
            "evaluation.features: FID and Inception score as ViTok's evaluator has them",
            "BSD-3-Clause (torchvision); trained on ImageNet"),
    *(_dinov2(letter, size, registers) for registers in (False, True) for letter, size in _DINO_MEGABYTES.items()),
    Weights("i3d", "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1", 51,
            "evaluation.clip_features: FVD as in the literature", "Apache-2.0 (kinetics-i3d); trained on Kinetics-400"),
)  # fmt: skip
REGISTRY: dict[str, Weights] = {entry.name: entry for entry in _ENTRIES}


def entry_of(name: str) -> Weights:
    """The entry of a name; raises ``ConfigError`` for others, with the nearest."""
    if name not in REGISTRY:
        raise ConfigError("no weights of this name", given=name, allowed=one_of(REGISTRY, name))
    return REGISTRY[name]


def hub_folder() -> Path:
    """Torch's hub folder: ``$TORCH_HOME/hub``, by default in the user's cache; as ``torch.hub.get_dir`` without it."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))).expanduser() / "hub"


def default_folder() -> Path:
    """Where weights are looked for."""
    return hub_folder() / "checkpoints"


def dinov2_folder() -> Path:
    """Where DINOv2's code is looked for: where ``TOKSCALE_DINOV2`` says, else where ``torch.hub`` would put it."""
    named = os.environ.get(DINOV2_VARIABLE)
    return Path(named).expanduser() if named else hub_folder() / "facebookresearch_dinov2_main"


def dinov2_is_here() -> bool:
    """Whether DINOv2's code is in that folder."""
    return (dinov2_folder() / HUB_FILE).is_file()


def how_to_bring_dinov2() -> str:
    """What to do where its code is absent, on machines with internet and on those without."""
    folder = dinov2_folder()
    return (f"`git clone {DINOV2_REPOSITORY} {folder}`; or, without internet, a copy of such a clone in that folder "
            f"({DINOV2_VARIABLE} names another)")  # fmt: skip


def present(name: str) -> Path | None:
    """The file of these weights, whatever is in it; None where there is none."""
    path = default_folder() / entry_of(name).file
    return path if path.is_file() else None


def require(name: str, wanted_by: str) -> Path:
    """The file of these weights, whose hash was checked where one is known; raises ``WeightsError``.

    ``wanted_by`` is what asked for them, for the message.
    """
    entry, path = entry_of(name), present(name)
    if path is None:
        raise WeightsError(
            f"{wanted_by} needs the weights {name}, and they are not here", where=str(default_folder() / entry.file),
            given="no such file",
            allowed=f"`tokscale weights fetch {name}`; or, without internet, the file of {entry.url} in that folder "
            "(TORCH_HOME chooses another)",
        )  # fmt: skip
    fault = fault_of(entry, path)
    if fault is not None:
        raise WeightsError(
            f"{wanted_by} needs the weights {name}, and the file is damaged", where=str(path), given=fault,
            allowed=f"the file of {entry.url}: remove this one, then `tokscale weights fetch {name}`",
        )  # fmt: skip
    return path


def fault_of(entry: Weights, path: Path) -> str | None:
    """What is wrong with a file by the hash that is known of it; None where it is right or none is known."""
    expected = expected_hash(entry, path)
    if expected is None:
        return None
    found = str(digest(path)["sha256"])
    return None if found.startswith(expected) else f"SHA-256 {found[:12]}..., not {expected[:12]}..."


def expected_hash(entry: Weights, path: Path) -> str | None:
    """The beginning of the SHA-256 as published, or the whole as it was when the file was fetched; None: unknown."""
    if entry.published is not None:
        return entry.published
    beside = path.with_name(path.name + SIDECAR)
    return beside.read_text().split()[0] if beside.is_file() else None

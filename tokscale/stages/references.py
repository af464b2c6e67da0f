"""What a stage measures images against: the validation set, training images, or a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from tokscale import __version__
from tokscale.config import DataConfig
from tokscale.data import ImageSet, evaluation_batches, frames_of, open_images
from tokscale.fields import TRAIN, VALIDATION, train_images
from tokscale.metrics.features import FeatureNetwork
from tokscale.metrics.kept import Identity, keep, read_kept
from tokscale.metrics.panel import Panel
from tokscale.metrics.references import open_reference
from tokscale.metrics.seen import Reference, Seen
from tokscale.stages.context import Context

_FOLDER = "references"
_AT_ONCE = 64


class Against:
    """The reference that a config names, as every network of a panel sees it.

    Of the validation set it is what the stage shows it on its way (``see``); training images it looks at by itself; a
    file it reads, and raises ``DataError`` where it is none. What networks see of a set of images is kept below the
    runs folder, for all stages that have the same reference and would see the same to the last bit: same network and
    weights, same passes, same device and versions. A set with images that could not be read is not kept.
    """

    def __init__(
        self, named: str, panel: Panel, images: ImageSet, data: DataConfig, context: Context, at_once: int, *,
        rows: bool,
    ) -> None:  # fmt: skip
        self._done: tuple[Reference, ...] | None = None
        if named == VALIDATION:
            self._set = _Set(panel, images.reference, images.size, context, at_once, rows)
        elif named.startswith(TRAIN):
            self._done = _of_training(named, panel, data, context, at_once, rows)
        else:
            self._done = _of_file(Path(named), panel, context)

    def see(self, images: Tensor) -> None:
        """Show images of the validation set: uint8 (b, 3, h, w), or clips, on the networks' device, in order."""
        if self._done is None:
            self._set.see(images)

    def references(self) -> tuple[Reference, ...]:
        """One for each network, all of one name; of the validation set, when all of it was shown."""
        if self._done is None:
            self._done = self._set.references()
        return self._done


class _Set:
    """A set of images as the networks of a panel see it: from what was kept, or seen now and kept then."""

    def __init__(
        self, panel: Panel, name: str, size: int | None, context: Context, at_once: int, rows: bool
    ) -> None:  # fmt: skip
        self.name, self.size, self.count = name, size, 0
        self.folder = _folder(context)
        self.kept: list[Reference | None] = []
        self.seen: list[tuple[Seen, Identity, bool]] = []
        for place, network in enumerate(panel.networks):
            identity = {"images": name, **_seen_by(network, context.device, at_once)}
            found = read_kept(self.folder, identity, name, rows=rows and place == 0)
            self.kept.append(found)
            if found is None:
                wanted = rows and place == 0  # only the first network's rows are looked at: precision and recall
                self.seen.append((Seen(network) if wanted else Seen(network, keep=0), identity, wanted))

    @property
    def known(self) -> bool:
        """Whether no network has to look."""
        return not self.seen

    def see(self, images: Tensor) -> None:
        self.count += len(images)
        for seen, _, _ in self.seen:
            seen.update(frames_of(images))

    def references(self) -> tuple[Reference, ...]:
        fresh = iter(self.seen)
        return tuple(found if found is not None else self._settled(*next(fresh)) for found in self.kept)

    def _settled(self, seen: Seen, identity: Identity, rows: bool) -> Reference:
        if self.count == self.size:
            keep(self.folder, identity, seen, rows=rows)
        reference = seen.as_reference(self.name)
        return reference if rows else Reference(self.name, reference.gaussian)


def _of_training(
    named: str, panel: Panel, data: DataConfig, context: Context, at_once: int, rows: bool
) -> tuple[Reference, ...]:  # fmt: skip
    """The first training images, in the set's fixed random order, by the evaluation transform and without mirroring."""
    images, wanted = open_images(data, "train"), train_images(named)
    count = min(size for size in (images.size, wanted) if size is not None)
    name = images.reference if count == images.size else f"{images.reference}-first-{count}"
    looked = _Set(panel, name, count, context, at_once, rows)
    batches: Iterable[tuple[Tensor, Tensor]] = ()
    if not looked.known:
        batches = evaluation_batches(images, batch_size=at_once, limit=count)
    with torch.inference_mode():
        for batch, _ in batches:
            context.stop_if_asked()
            looked.see(batch.to(context.device))
    return looked.references()


def _of_file(path: Path, panel: Panel, context: Context) -> tuple[Reference, ...]:
    at_once = min(_AT_ONCE, context.runtime.micro_batch or _AT_ONCE)
    return tuple(
        open_reference(path, network, context.device, _folder(context), _seen_by(network, context.device, at_once),
                       at_once=at_once, between=context.stop_if_asked)
        for network in panel.networks
    )  # fmt: skip


def _folder(context: Context) -> Path:
    return context.folder.path.parents[2] / _FOLDER


def _seen_by(network: FeatureNetwork, device: torch.device, at_once: int) -> Identity:
    """What, besides the images, the last bits of features depend on."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "network": network.name, "weights": network.weights, "at_once": at_once, "device": f"{device.type} {where}",
        "threads": torch.get_num_threads(), "torch": torch.__version__, "tokscale": __version__,
    }  # fmt: skip

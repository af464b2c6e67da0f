"""The stage that encodes: cut short, it goes on where it was; whoever makes the batches, latents are the same."""

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.data.latents import open_latents
from tokscale.errors import StoppedError
from tokscale.record import digest
from tokscale.stages import latents as stage_module
from tokscale.stages import run
from tokscale.stages.attempts import newest_images
from tokscale.training.compiling import compile_blocks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tokenizer of one step on 39 photographs that can be read and one that cannot."""
    root = tmp_path_factory.mktemp("latents")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "data" / split / "a").mkdir(parents=True)
        for number in range(40):
            Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(
                root / "data" / split / "a" / f"{number}.png"
            )
    (root / "spec.yaml").write_text(json.dumps({
        "name": "latents",
        "trial": {
            "data": {"kind": "image_folder", "root": str(root / "data"), "resolution": 16},
            "tokenizer": {"encoder": "pico", "decoder": "pico", "patch": 4,
                          "bottleneck": {"kind": "kl", "channels": 4}},
            "training": {"images": 16, "batch_size": 16}, "probe": {"size": "pico"}, "latents": {"augment": "flip"},
        },
    }))  # fmt: skip
    stages = {stage.kind: stage for stage in expand(*load_spec(root / "spec.yaml"))[0].stages}
    store = Store(root / "runs")
    run(str(store.prepare(stages["tokenizer"]).path))
    broken = root / "data" / "train" / "a" / "0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    return store, stages["latents"]


def encoded(trained, **settings):
    """The folder of the stage, encoded from the beginning."""
    store, stage = trained
    folder = store.prepare(stage)
    folder.record.unlink(missing_ok=True)
    run(str(folder.path), micro_batch=8, **settings)
    return folder


def arrays(folder):
    latents = open_latents(folder.artifacts)
    latents.verify()
    return [latents.train.batch(range(39), 0), latents.train.batch(range(39), 1), latents.validation.batch(range(40))]


def same(found, expected):
    return all(
        torch.equal(part[name], other[name]) for part, other in zip(found, expected, strict=True) for name in other
    )


@pytest.fixture
def interrupt(trained, monkeypatch):
    """Has a signal end an attempt when so many pictures are encoded; the stage's folder, the pictures of each attempt,
    and the latents of one that nobody disturbed."""
    whole = arrays(encoded(trained))
    store, stage = trained
    folder, seen, real = store.prepare(stage), [0], stage_module.encode
    folder.record.unlink()

    def attempt(pictures):
        def counted(tokenizer, images):
            seen[-1] += len(images)
            if len(seen) == 1 and seen[0] >= pictures:
                signal.raise_signal(signal.SIGTERM)
            return real(tokenizer, images)

        monkeypatch.setattr(stage_module, "encode", counted)
        with pytest.raises(StoppedError):
            run(str(folder.path), micro_batch=8)
        seen.append(0)
        return folder, seen, whole

    return attempt


@pytest.mark.parametrize("at", [48, 96], ids=["training", "validation"])
def test_an_attempt_goes_on_where_the_one_before_was_stopped(interrupt, trained, at):
    folder, seen, whole = interrupt(at)
    assert newest_images(folder) == seen[0] < at + 8, "who tries again sees that it got further"
    run(str(folder.path), micro_batch=8)
    assert sum(seen) == 39 * 2 + 40, "no picture twice"
    assert same(arrays(folder), whole)
    record = trained[0].record(trained[1])
    assert record.measures["skipped_files"] == 1, "whichever attempt met it"
    assert sum("0.png was skipped" in note for note in record.notes) == 1
    assert record.artifacts == {path.name: digest(path) for path in folder.artifacts.iterdir()}
    assert not folder.checkpoints.exists()


@pytest.mark.parametrize("damage", ["short", "gone", "note"])
def test_what_is_not_whole_is_encoded_again(interrupt, damage):
    folder, seen, whole = interrupt(48)
    kept = folder.checkpoints / "encoded"
    if damage == "short":
        path = kept / "train.logvar.npy.partial"
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        (kept / "train.labels.npy.partial").unlink()
    else:
        (kept / "train.json").write_text('{"rows": 4')
    run(str(folder.path), micro_batch=8)
    assert seen[1] == 39 * 2 + 40
    assert same(arrays(folder), whole)


def test_workers_of_a_loader_make_the_same_latents(trained):
    whole = arrays(encoded(trained))
    assert same(arrays(encoded(trained, loader_workers=2)), whole)


def test_compiled_blocks_meet_one_size(trained, monkeypatch):
    """39 pairs and 40 pictures, one of them unreadable, leave passes that are not full."""
    graphs = []

    def counted(graph, inputs):
        graphs.append([tuple(one.shape) for one in inputs])
        return graph.forward

    monkeypatch.setattr(stage_module, "compile_blocks", lambda *given: compile_blocks(*given, backend=counted))
    whole = arrays(encoded(trained))
    folder = encoded(trained, compile=True)
    assert same(arrays(folder), whole)
    assert len(graphs) == 1
    assert any("compiled" in note for note in trained[0].record(trained[1]).notes)

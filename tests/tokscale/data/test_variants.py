"""Variants of training images: which they are, that they are encoded side by side, and how the probe draws them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale import cost
from tokscale.config import ImageFolderData, TrialConfig
from tokscale.data import open_images, to_model_range
from tokscale.data.latent_batches import latent_batches
from tokscale.data.latents import open_latents
from tokscale.data.variants import open_variants, ten_crops
from tokscale.stages import run
from tokscale.stages.tokenizer import load_tokenizer

RESOLUTION = 20  # 22 and 21 pixels at 1.1 and 1.05 times


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of noise, ten training images each, one of them cut short."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in "ab":
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(10):
                Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).save(folder / f"{number}.png")
    broken = root / "train" / "a" / "3.png"
    broken.write_bytes(broken.read_bytes()[:500])
    return ImageFolderData(kind="image_folder", root=str(root), resolution=RESOLUTION)


def everything(config, augment, at_once=7):
    parts = list(open_variants(config, "train", augment).batches(at_once, limit=20))
    return torch.cat([images for images, _, _ in parts]), torch.cat([labels for _, labels, _ in parts])


def test_ten_crops_are_corners_and_middle_and_their_mirror_images():
    images = torch.arange(2 * 3 * 6 * 6).view(2, 3, 6, 6)
    crops = ten_crops(images, 4)
    places = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    for number, (top, left) in enumerate(places):
        cut = images[:, :, top : top + 4, left : left + 4]
        assert torch.equal(crops[:, number], cut)
        assert torch.equal(crops[:, number + 5], torch.flip(cut, [3]))


def test_variants_of_an_image_stand_side_by_side_and_what_is_unreadable_is_left_out(data):
    plain, labels = everything(data, "none")
    assert sorted(labels.tolist()) == [0] * 9 + [1] * 10
    mirrored, doubled = everything(data, "flip")
    assert torch.equal(mirrored[::2], plain)
    assert torch.equal(mirrored[1::2], plain.flip(-1))
    assert doubled.tolist() == labels.repeat_interleave(2).tolist()
    crops, twenty = everything(data, "ten-crop")
    assert crops.shape == (19 * 20, 3, RESOLUTION, RESOLUTION)
    assert twenty.tolist() == labels.repeat_interleave(20).tolist()
    larger = open_images(data.model_copy(update={"resolution": 22}), "train").images([0])[0]
    smaller = open_images(data.model_copy(update={"resolution": 21}), "train").images([0])[0]
    assert torch.equal(crops[4], larger[0, :, 1:21, 1:21])
    assert torch.equal(crops[13], smaller[0, :, 1:, 1:])


def test_validation_images_have_one_variant(data):
    assert open_variants(data, "validation", "ten-crop").count == 1


@pytest.fixture(scope="module", params=["flip", "ten-crop"])
def encoded(request, data, tmp_path_factory):
    """Latents of a tokenizer of few steps, by the stages."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "spec.yaml").write_text(json.dumps({
        "name": "variants",
        "trial": {
            "data": data.model_dump(), "training": {"images": 32, "batch_size": 16},
            "tokenizer": {"encoder": "pico", "decoder": "pico", "patch": 5,
                          "bottleneck": {"kind": "fsq", "levels": [5, 5]}}, "latents": {"augment": request.param},
            "probe": {"size": "pico", "training": {"images": 64, "batch_size": 16}}, "generation": None,
        },
    }))  # fmt: skip
    stages = expand(*load_spec(folder / "spec.yaml"))[0].stages
    store = Store(folder / "runs")
    folders = {stage.kind: store.prepare(stage) for stage in stages}
    for kind in ("tokenizer", "latents", "probe"):
        run(str(folders[kind].path))
    return request.param, store, {stage.kind: stage for stage in stages}, folders


def test_codes_are_those_of_the_variants(encoded, data):
    augment, store, stages, folders = encoded
    latents = open_latents(folders["latents"].artifacts)
    latents.verify()
    images, labels = everything(data, augment, at_once=1000)
    tokenizer, _ = load_tokenizer(store.record(stages["tokenizer"]), folders["tokenizer"], torch.device("cpu"))
    with torch.no_grad():
        codes = tokenizer.encode(to_model_range(images)).indices
    count = 2 if augment == "flip" else 20
    assert len(latents.train) == 19
    assert (latents.train.variants, latents.validation.variants) == (count, 1)
    for variant in (0, count // 2, count - 1):
        batch = latents.train.batch(range(19), variant)
        assert (batch["indices"] != codes[variant::count]).float().mean() < 0.002  # a rounding may move a code
        assert batch["labels"].tolist() == labels[::count].tolist()
    assert store.record(stages["probe"]).measures["ar_loss"] > 0


def test_every_epoch_draws_a_variant_of_every_image(encoded):
    train = open_latents(encoded[3]["latents"].artifacts).train
    batches = latent_batches(train, batch_size=19, seed=3)
    assert all(sorted(batches.images(epoch)) == list(range(19)) for epoch in range(3))
    drawn = np.stack([batches.variants(epoch) for epoch in range(200)])
    counts = np.bincount(drawn.flatten(), minlength=train.variants)
    expected = drawn.size / train.variants
    assert ((counts - expected) ** 2 / expected).sum() < 3 * train.variants + 10  # chi-squared, far above its mean
    assert (drawn[0] != drawn[1]).any()
    parts = [latent_batches(train, batch_size=38, seed=3, rank=rank, world_size=2).variants(4) for rank in range(2)]
    assert np.concatenate(parts).tolist() == latent_batches(train, batch_size=38, seed=3).variants(4).tolist()


@pytest.mark.parametrize(("augment", "variants"), [("flip", 2), ("ten-crop", 20)])
def test_all_variants_are_planned_for(data, augment, variants):
    def planned(chosen):
        trial = TrialConfig(data={**data.model_dump(), "validation_images": 50},
                            latents={"augment": chosen, "images": 1000},
                            tokenizer={"patch": 10, "bottleneck": {"kind": "fsq"}})  # fmt: skip
        return cost.stage_cost("latents", trial)

    plain, found = planned("none"), planned(augment)
    assert found.flops / plain.flops == (1000 * variants + 50) / 1050
    assert found.disk_bytes / plain.disk_bytes == (1000 * variants + 50) / 1050


@pytest.mark.parametrize("section", [{}, {"data": {"kind": "image_folder", "root": "/photos", "flip": False}}])
def test_images_that_must_not_be_mirrored_are_refused(section):
    with pytest.raises(ValueError, match="flip mirrors images"):
        TrialConfig.model_validate({**section, "latents": {"augment": "flip"}})

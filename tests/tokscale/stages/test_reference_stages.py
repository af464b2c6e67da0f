"""Several networks in one pass, references of training images, and statistics that stages share."""

import numpy as np
import pytest
import torch

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.config import ProceduralData
from tokscale.data import open_images
from tokscale.metrics import features
from tokscale.metrics.features import FeatureNetwork, open_features
from tokscale.metrics.inception import NAME, Inception
from tokscale.metrics.random_conv import RandomConv
from tokscale.metrics.seen import Seen
from tokscale.record import read_record
from tokscale.stages import run

MATRIX = torch.randn(RandomConv.dim, 20, generator=torch.Generator().manual_seed(0)).double()
GENERATION = "generation: {images: 80, batch_size: 40"
BOTH = f"features: [{NAME}, random-conv]"


class Half(RandomConv):
    """The first half of the random network's features, so that two networks differ."""

    def forward(self, images):
        return super().forward(images)[:, : self.dim // 2]


@pytest.fixture
def looks(monkeypatch):
    """How often a network looked at a batch; with a random network in Inception's place."""
    counted, original = [], Seen.update

    def update(self, images):
        counted.append(self.network.name)
        original(self, images)

    def stand_in():
        return FeatureNetwork(NAME, RandomConv.dim // 2, Half(), Inception.note, smallest=16, distance="fid",
                              logits=lambda rows: rows.double() @ MATRIX[: RandomConv.dim // 2])  # fmt: skip

    monkeypatch.setattr(Seen, "update", update)
    monkeypatch.setitem(features.NETWORKS, NAME, stand_in)
    return counted


@pytest.fixture
def measured(small_spec, tmp_path):
    """Records of the last trial's reconstruction and generation, with an evaluation and a generation of one's own."""
    text = small_spec.read_text()

    def measure(evaluation, generation="", kinds=("reconstruction", "generation")):
        changed = text.replace("{pictures: 4}", f"{{pictures: 4, {evaluation}}}")
        small_spec.write_text(changed.replace(GENERATION, f"{GENERATION}{generation}"))
        store = Store(tmp_path / "runs")
        folders = {stage.kind: store.prepare(stage) for stage in expand(*load_spec(small_spec))[2].stages}
        for kind in ("tokenizer", "latents", "probe", *kinds):
            run(str(folders[kind].path))
        return [read_record(folders[kind].path).measures for kind in kinds]

    return measure


def same(some, other, *names):
    assert {name: some[name] for name in names} == {name: other[name] for name in names}


def test_several_networks_measure_what_each_would_alone(measured, looks):
    plain, generated = measured(BOTH)
    assert plain["features"] == generated["features"] == f"{NAME}+random-conv"
    first, first_generated = measured(f"features: {NAME}, extrapolate: true")
    second, second_generated = measured("features: random-conv")
    same(plain, first, "rfid", "ris", "psnr")
    same(plain, second, "rfd", "psnr")
    same(generated, first_generated, "gfid", "gis", "precision", "recall")
    same(generated, second_generated, "gfd")
    assert generated["precision"] != second_generated["precision"] or generated["recall"] != second_generated["recall"]
    assert "gfd_inf" not in generated
    _, extrapolated = measured(f"{BOTH}, extrapolate: true")
    assert {"gfid_inf", "gfd_inf"} <= set(extrapolated)
    assert extrapolated["gfid_inf"] == first_generated["gfid_inf"]


def test_stages_share_what_was_seen_and_damage_is_made_good(measured, looks, tmp_path):
    plain, generated = measured(BOTH)
    alone = len(looks)
    again, again_generated = measured(f"{BOTH}, extrapolate: true")
    assert len(looks) - alone < alone  # samples and reconstructions alone
    same(plain, again, "rfid", "rfd")
    same(generated, again_generated, "gfid", "gfd", "precision", "recall")
    folder = tmp_path / "runs" / "references"
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(kept) == 3  # rows are of the first network, for precision and recall; the other's statistics serve both
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 3])
    (repaired,) = measured(f"features: [random-conv, {NAME}]", kinds=("reconstruction",))
    same(plain, repaired, "rfid", "rfd")
    without_rows = [path for path in kept if not path.stem.endswith("-rows")]
    assert len(without_rows) == 2
    assert all(path.read_bytes() == kept[path] for path in without_rows)


def test_training_images_as_a_reference(measured, looks, tmp_path):
    plain, generated = measured("features: random-conv", ", reference: train:60")
    assert "validation" in plain["reference"]
    assert generated["generation_reference"].endswith("-train-first-60")
    assert "reference" not in generated
    looked = open_images(ProceduralData.model_validate(_data_of(tmp_path)), "train").images(range(60))[0]
    expected = Seen(open_features("random-conv"))
    expected.update(looked)
    (kept,) = (tmp_path / "runs" / "references").glob("*-rows.npz")
    with np.load(kept) as arrays:
        assert int(arrays["count"]) == 60
        np.testing.assert_allclose(arrays["mu"], expected.features.statistics.mean, rtol=1e-6)
        np.testing.assert_allclose(arrays["rows"], expected.features.rows.numpy(), rtol=1e-6)
    assert {"precision", "recall", "gfd"} <= set(generated)


def _data_of(tmp_path):
    (description,) = (tmp_path / "runs" / "stages" / "generation").glob("*/record.json")
    return read_record(description.parent).config["data"]

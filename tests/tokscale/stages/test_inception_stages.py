"""Columns of both measuring stages under Inception, with a random network in its place, and against files."""

import numpy as np
import pytest
import torch

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale import claim
from tokscale.config import EvaluationConfig, GenerationConfig, TrialConfig
from tokscale.errors import DataError, WeightsError
from tokscale.metrics import features
from tokscale.metrics.features import FeatureNetwork
from tokscale.metrics.inception import NAME, Inception
from tokscale.metrics.random_conv import RandomConv
from tokscale.record import read_record
from tokscale.stages import run

MATRIX = torch.randn(RandomConv.dim, 20, generator=torch.Generator().manual_seed(0)).double()
GENERATION = "generation: {images: 80, batch_size: 40"


def random_stand_in():
    """A small random network that takes Inception's place in these tests alone."""
    return FeatureNetwork(NAME, RandomConv.dim, RandomConv(), Inception.note, smallest=16, distance="fid",
                          logits=lambda rows: rows.double() @ MATRIX)  # fmt: skip


@pytest.fixture
def prepared(small_spec, tmp_path):
    """Folders of the last trial's stages, with an evaluation and a generation of one's own."""
    text = small_spec.read_text()

    def prepare(evaluation, generation=""):
        changed = text.replace("{pictures: 4}", f"{{pictures: 4, {evaluation}}}")
        small_spec.write_text(changed.replace(GENERATION, f"{GENERATION}{generation}"))
        store = Store(tmp_path / "runs")
        return {stage.kind: store.prepare(stage) for stage in expand(*load_spec(small_spec))[2].stages}

    return prepare


def measured(folders, *kinds):
    for kind in ("tokenizer", "latents", "probe", *kinds):
        run(str(folders[kind].path))
    return [read_record(folders[kind].path) for kind in kinds]


def test_columns_of_inception_and_of_files(prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(features.NETWORKS, NAME, random_stand_in)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", arr_0=images)
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(128), sigma=np.eye(128))
    folders = prepared(f"features: {NAME}, extrapolate: true")
    plain, generated = measured(folders, "reconstruction", "generation")
    assert {"rfid", "ris"} <= set(plain.measures)
    assert {"gfid", "gis", "gfid_inf", "precision", "recall"} <= set(generated.measures)
    for record in (plain, generated):
        assert not {"rfd", "gfd", "gfd_inf"} & set(record.measures)
        assert record.measures["features"] == NAME
        assert "validation" in record.measures["reference"]
        assert any("80 images" in note and "compares with no published FID" in note for note in record.notes)
    assert 1 <= generated.measures["gis"] <= 20
    assert any("gfid_inf is a line" in note for note in generated.notes)

    folders = prepared(f"features: {NAME}", f", reference: {tmp_path / 'images.npz'}")
    same, other = measured(folders, "reconstruction", "generation")
    assert same.measures["rfid"] == plain.measures["rfid"]
    assert other.measures["generation_reference"].startswith("images.npz-")
    assert "reference" not in other.measures
    assert other.measures["gfid"] > generated.measures["gfid"]
    assert other.measures["gis"] == generated.measures["gis"]  # no reference has a part in it
    # of the file, and of the validation set with rows and without
    assert len(list((tmp_path / "runs" / "references").iterdir())) == 3

    folders = prepared(f"features: {NAME}, reference: {tmp_path / 'statistics.npz'}",
                       f", reference: {tmp_path / 'statistics.npz'}")  # fmt: skip
    for record in measured(folders, "reconstruction", "generation"):
        assert record.measures["reference"].startswith("statistics.npz-")
        assert not {"precision", "recall", "generation_reference"} & set(record.measures)


def test_without_weights_or_reference_nothing_is_measured(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folders = prepared(f"features: {NAME}")
    run(str(folders["tokenizer"].path))
    with pytest.raises(WeightsError, match=f"evaluation.features {NAME} needs the weights"):
        run(str(folders["reconstruction"].path))
    outcome = claim.outcomes(folders["reconstruction"].path)[-1].outcome
    assert (outcome["cause"], outcome["again"]) == ("weights", False)
    assert not folders["reconstruction"].artifacts.exists()
    absent = prepared("reference: absent.npz")["reconstruction"]
    with pytest.raises(DataError, match="a reference file cannot be read"):
        run(str(absent.path))
    assert not absent.artifacts.exists()


def test_words_that_cannot_be_are_refused():
    for config in (EvaluationConfig, GenerationConfig):
        with pytest.raises(ValueError, match=r"`validation`, or the path of an \.npz"):
            config(reference="validaton")
    with pytest.raises(ValueError, match=r"generation\.images of 20 or more"):
        TrialConfig(evaluation=EvaluationConfig(extrapolate=True), generation=GenerationConfig(images=10))

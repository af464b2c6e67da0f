"""The teacher's stage, and what stages do about weights that are there, absent or damaged: before any training."""

import pytest
import torch

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tests.tokscale.losses.test_perceptual import random_backbone
from tokscale import claim, weights
from tokscale.errors import DataError, WeightsError
from tokscale.losses.perceptual import lpips
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.stages.teacher import load_teacher

TEACHER = "{kind: classifier, size: nano, patch: 8, images: 4k, batch_size: 64, lr: 3.0e-3}"


@pytest.fixture(autouse=True)
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TOKSCALE_DINOV2", raising=False)


@pytest.fixture
def prepared(small_spec, tmp_path):
    """Folders of the first trial's stages, with losses of one's own."""

    def prepare(losses="", runs="runs"):
        head, rest = small_spec.read_text().split("  latents:", 1)
        small_spec.write_text(f"{head}  losses: {{{losses}}}\n  latents:{rest}")
        store = Store(tmp_path / runs)
        return {stage.kind: store.prepare(stage) for stage in expand(*load_spec(small_spec))[0].stages}

    return prepare


def test_a_teacher_learns_the_classes_and_is_the_same_when_loaded(prepared):
    folder = prepared(f"semantic: {{layer: 1, features: {TEACHER}}}")["teacher"]
    run(str(folder.path))
    record = read_record(folder.path)
    assert record.measures["teacher_accuracy"] > 0.4  # of 10 classes
    assert set(record.measures) == {"teacher_accuracy", "wall_seconds", "gpu_seconds"}
    first, second = (load_teacher(record, folder) for _ in range(2))
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(first.features(images), second.features(images))
    assert first.features(images).shape == (2, 4, first.dim)


def test_a_tokenizer_waits_for_its_teacher(prepared):
    folders = prepared(f"semantic: {{layer: 1, features: {TEACHER}}}")
    with pytest.raises(Exception, match="a stage that this one stands on is not done") as refusal:
        run(str(folders["tokenizer"].path))
    assert str(folders["teacher"].path) in str(refusal.value)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ("perceptual: {weight: 1.0}", "losses.perceptual needs the weights vgg16"),
        ("semantic: {layer: 1}", "losses.semantic needs the code of DINOv2"),
    ],
)
def test_without_its_weights_a_tokenizer_is_refused_before_training(prepared, losses, words):
    folder = prepared(losses)["tokenizer"]
    with pytest.raises(WeightsError, match=words):
        run(str(folder.path))
    outcome = claim.outcomes(folder.path)[-1].outcome
    assert (outcome["state"], outcome["cause"], outcome["again"]) == ("failed", "weights", False)
    assert not folder.progress.exists()


def test_lpips_is_measured_where_its_weights_are(prepared, monkeypatch):
    folders = prepared()
    run(str(folders["tokenizer"].path))
    path = weights.default_folder() / weights.entry_of("vgg16").file
    path.parent.mkdir(parents=True)
    torch.save(random_backbone(), path)
    monkeypatch.setattr(weights, "fault_of", lambda entry, path: None)
    run(str(folders["reconstruction"].path))
    measured = read_record(folders["reconstruction"].path).measures["lpips"]
    assert measured > 0
    assert lpips()(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)).item() == 0


@pytest.mark.parametrize("damaged", [False, True])
def test_lpips_is_absent_where_its_weights_are_not(prepared, damaged):
    folders = prepared()
    run(str(folders["tokenizer"].path))
    if damaged:
        path = weights.default_folder() / weights.entry_of("vgg16").file
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    run(str(folders["reconstruction"].path))
    record = read_record(folders["reconstruction"].path)
    assert "lpips" not in record.measures
    assert any("lpips was not measured" in note for note in record.notes) == damaged


def test_one_class_teaches_nothing(prepared, monkeypatch):
    from tokscale.stages import teacher

    folder = prepared(f"semantic: {{layer: 1, features: {TEACHER}}}")["teacher"]
    opened = teacher.open_images

    def of_one_class(config, split):
        images = opened(config, split)
        images.num_classes = 1
        return images

    monkeypatch.setattr(teacher, "open_images", of_one_class)
    with pytest.raises(DataError, match="of one class"):
        run(str(folder.path))

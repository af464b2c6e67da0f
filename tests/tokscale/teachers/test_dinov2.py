"""DINOv2 from a local hub repository: what it sees, what it gives, and one message for each thing that is not there."""

import shutil

import pytest
import torch
import torch.nn.functional as F

from tokscale import loss_formulas, weights
from tokscale.errors import WeightsError
from tokscale.teachers.dinov2 import open_dinov2


@pytest.mark.parametrize(("name", "width", "registers"), [("dinov2-s", 384, 0), ("dinov2-b-reg", 768, 4)])
def test_patch_features_of_the_image_at_224_pixels(place, name, width, registers):
    stored = place(name, width, registers)
    teacher = open_dinov2(name)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pixels = F.interpolate((images + 1) / 2, size=224, mode="bicubic", antialias=True)
    normed = torch.stack([(pixels[:, c] - mean) / std for c, (mean, std) in enumerate(
        [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)])], dim=1)  # fmt: skip
    tokens = F.conv2d(normed, stored["embedding.weight"], stride=14).flatten(2).transpose(1, 2)
    found = teacher.features(images)
    assert found.shape == (2, 256, teacher.dim)
    assert teacher.dim == width == loss_formulas.DINOV2[name].width
    torch.testing.assert_close(found, F.layer_norm(tokens, (width,)), rtol=1e-3, atol=1e-4)
    assert not found.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_the_folder_may_be_named(place, hub, tmp_path, monkeypatch):
    place("dinov2-s", 384)
    shutil.move(hub / "facebookresearch_dinov2_main", tmp_path / "elsewhere")
    monkeypatch.setenv("TOKSCALE_DINOV2", str(tmp_path / "elsewhere"))
    assert open_dinov2("dinov2-s").dim == 384


def test_absent_code_is_one_message(hub):
    shutil.rmtree(hub / "facebookresearch_dinov2_main")
    with pytest.raises(WeightsError, match="code of DINOv2") as refusal:
        open_dinov2("dinov2-b")
    assert "git clone https://github.com/facebookresearch/dinov2" in str(refusal.value)
    assert str(hub / "facebookresearch_dinov2_main") in str(refusal.value)


def test_absent_weights_are_one_message(hub):
    with pytest.raises(WeightsError, match="tokscale weights fetch dinov2-b") as refusal:
        open_dinov2("dinov2-b")
    assert refusal.value.where == str(hub / "checkpoints" / "dinov2_vitb14_pretrain.pth")


def test_weights_that_are_not_what_was_fetched_are_refused(place):
    place("dinov2-b", 768, sha256="0" * 64)
    with pytest.raises(WeightsError, match="damaged"):
        open_dinov2("dinov2-b")
    path = weights.present("dinov2-b")
    place("dinov2-b", 768, sha256=weights.digest(path)["sha256"])
    assert open_dinov2("dinov2-b").dim == 768


def test_weights_of_another_size_are_refused(place):
    place("dinov2-b", 384)
    with pytest.raises(WeightsError, match="not the weights of dinov2-b"):
        open_dinov2("dinov2-b")


def test_code_of_another_width_is_refused(place):
    place("dinov2-g", 64)
    with pytest.raises(WeightsError, match="features have another shape") as refusal:
        open_dinov2("dinov2-g")
    assert (refusal.value.given, refusal.value.allowed) == ("256 patches, 64 wide", "256 patches, 1536 wide")


def test_code_that_cannot_be_used_is_refused(place, hub):
    place("dinov2-s", 384)
    (hub / "facebookresearch_dinov2_main" / "hubconf.py").write_text("import no_such_package\n")
    with pytest.raises(WeightsError, match="cannot build dinov2-s") as refusal:
        open_dinov2("dinov2-s")
    assert "no_such_package" in str(refusal.value)

"""DINOv2's class token as a feature network: what it sees, its name, and one message for what is not there."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tokscale.errors import WeightsError
from tokscale.metrics.seen import Seen, distances
from tokscale.record import digest
from tokscale.stages.features import open_panel
from tokscale.teachers.class_token import CLASS_TOKEN, ClassToken, open_dinov2_features
from tokscale.weights import present


def smooth(count, side):
    """uint8 images (b, 3, side, side) of a few waves."""
    waves = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 60 + 128
    return F.interpolate(waves, (side, side), mode="bilinear").round().clamp(0, 255).to(torch.uint8)


class Mirror(torch.nn.Module):
    """Gives what it was shown."""

    def forward_features(self, pixels):
        return {CLASS_TOKEN: pixels}


@pytest.mark.parametrize(("name", "width", "registers"), [("dinov2-s", 384, 0), ("dinov2-b-reg", 768, 4)])
def test_features_are_those_of_pillows_image_at_224_pixels(place, name, width, registers):
    stored, images = place(name, width, registers), smooth(2, 40)
    network = open_dinov2_features(name)
    resized = [Image.fromarray(image.permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BICUBIC)
               for image in images]  # fmt: skip
    pixels = torch.from_numpy(np.stack([np.array(image) for image in resized])).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normed = (pixels - mean[:, None, None]) / std[:, None, None]
    tokens = F.conv2d(normed, stored["embedding.weight"], stride=14).flatten(2).transpose(1, 2)
    expected = F.layer_norm(tokens, (width,)).mean(1)  # the class token of the repository of these tests
    found = network.features(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    saw = ClassToken(Mirror())(images) * std[:, None, None] + mean[:, None, None]
    assert ((saw - pixels).abs() * 255).max() < 2.01
    assert ((saw - pixels).abs() * 255).mean() < 0.02  # levels of 255
    assert (network.name, network.dim, network.distance, network.logits) == (name, width, "fdd", None)
    assert network.weights == digest(present(name))["sha256"]
    assert f"({name})" in network.note


def test_it_measures_in_columns_of_its_own_beside_another(place):
    place("dinov2-s", 384)
    panel = open_panel(("random-conv", "dinov2-s"), "cpu")
    assert (panel.name, panel.distance) == ("random-conv+dinov2-s", "fd")
    assert not any(parameter.requires_grad for parameter in panel.networks[1].module.parameters())
    seen = Seen(panel.networks[1], scored=True)
    seen.update(smooth(6, 32))
    measures, notes = distances("g", seen.as_reference("itself"), seen)
    assert set(measures) == {"gfdd"}
    assert any("compares with no published FD-DINOv2" in note for note in notes)


def test_what_is_absent_is_one_message(hub):
    with pytest.raises(WeightsError, match=r"evaluation.features dinov2-l needs the weights dinov2-l") as refusal:
        open_dinov2_features("dinov2-l")
    assert "tokscale weights fetch dinov2-l" in str(refusal.value)
    shutil.rmtree(hub / "facebookresearch_dinov2_main")
    with pytest.raises(WeightsError, match=r"evaluation.features dinov2-l needs the code of DINOv2"):
        open_dinov2_features("dinov2-l")


def test_code_of_another_width_or_without_a_class_token_is_refused(place, hub):
    place("dinov2-g", 64)
    with pytest.raises(WeightsError, match="class token has another shape"):
        open_dinov2_features("dinov2-g")
    place("dinov2-s", 384)
    code = hub / "facebookresearch_dinov2_main" / "hubconf.py"
    code.write_text(code.read_text().replace("x_norm_clstoken", "class"))
    with pytest.raises(WeightsError, match="dinov2-s gives no class token"):
        open_dinov2_features("dinov2-s")

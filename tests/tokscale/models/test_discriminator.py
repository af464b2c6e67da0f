"""The discriminator: as many parameters as planned, and statistics that belong to groups of images, not to passes."""

import pytest
import torch
from torch import nn

from tokscale import loss_formulas
from tokscale.config import PatchDiscriminator
from tokscale.models.discriminator import Discriminator


def built(**changes):
    config = PatchDiscriminator(**{"width": 8, "depth": 2, "norm_images": 4, **changes})
    torch.manual_seed(0)
    return config, Discriminator(config)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(("depth", "side"), [(1, 16), (3, 24), (3, 65)])
def test_parameters_and_logits_are_those_of_the_formula(norm, depth, side):
    config, judge = built(norm=norm, depth=depth)
    assert sum(p.numel() for p in judge.parameters()) == loss_formulas.discriminator(config, side).params
    logits = judge(torch.rand(2, 3, side, side))
    expected = side // 2**depth - 2
    assert logits.shape == (2, 1, expected, expected)


def test_the_smallest_image_leaves_one_logit():
    config, judge = built(depth=3)
    assert judge(torch.rand(2, 3, 24, 24)).shape == (2, 1, 1, 1)
    assert config.refusal(24) is None
    assert "takes 24 pixels or more" in config.refusal(23)


def test_by_default_it_is_the_published_one():
    _, judge = built(width=64, depth=3, norm_images=16)
    layers: list[nn.Module] = []
    for place, layer in enumerate(judge):
        grouped = type(layer).__name__ == "GroupedBatchNorm"
        layers.append(nn.BatchNorm2d(layer.weight.numel()) if grouped else judge[place])
        if grouped:
            layers[-1].load_state_dict({"weight": layer.weight, "bias": layer.bias}, strict=False)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(judge(images), nn.Sequential(*layers).train()(images), rtol=1e-5, atol=1e-6)


def test_statistics_belong_to_groups_whatever_passes_together():
    _, judge = built()
    images = torch.rand(12, 3, 16, 16)
    whole = judge(images)
    torch.testing.assert_close(torch.cat([judge(images[:8]), judge(images[8:])]), whole, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(torch.cat([judge(images[:6]), judge(images[6:])]), whole, atol=1e-3)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_other_norms_judge_each_image_by_itself(norm):
    _, judge = built(norm=norm)
    images = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(judge(images[:1]), judge(images)[:1], rtol=1e-5, atol=1e-6)
    assert judge.group == 1

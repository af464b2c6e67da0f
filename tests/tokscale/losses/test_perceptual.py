"""LPIPS against the formula of another package, the stand-in's promises, and what is said where weights are absent."""

import math

import pytest
import torch
from torch import nn

from tokscale import loss_formulas, weights
from tokscale.errors import WeightsError
from tokscale.losses.perceptual import PerceptualDistance, lpips, perceptual_distance, random_vgg
from tokscale.losses_config import LpipsLoss, RandomVggLoss

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # places of torchvision's VGG-16


def random_backbone():
    """A state dict as torchvision writes it, of random weights."""
    widths, stored = [3, *(w for level in loss_formulas.VGG_16 for w in level)], {}
    generator = torch.Generator().manual_seed(3)
    for place, inner, outer in zip(CONVOLUTIONS, widths[:-1], widths[1:], strict=True):
        spread = math.sqrt(2 / (9 * inner))
        stored[f"features.{place}.weight"] = spread * torch.randn(outer, inner, 3, 3, generator=generator)
        stored[f"features.{place}.bias"] = 0.1 * torch.randn(outer, generator=generator)
    return stored


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = weights.default_folder()
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def backbone(torch_home, monkeypatch):
    """VGG-16's file with random weights, whose hash is taken for the right one."""
    stored, path = random_backbone(), torch_home / weights.entry_of("vgg16").file
    torch.save(stored, path)
    monkeypatch.setattr(weights, "fault_of", lambda entry, path: None)
    return stored


def pairs(count=2, side=32):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, count, 3, side, side, generator=generator) * 2 - 1


def test_lpips_is_that_of_torchmetrics(backbone, monkeypatch):
    from torchmetrics.functional.image import lpips as reference

    layers: list[nn.Module] = []
    for level in loss_formulas.VGG_16:
        for width in level:
            layers += [nn.LazyConv2d(width, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2, 2))
    features = nn.Sequential(*layers)
    features(torch.zeros(1, 3, 32, 32))
    features.load_state_dict({name.removeprefix("features."): tensor for name, tensor in backbone.items()})
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *arguments, **options: features)
    theirs = reference._LPIPS(pretrained=True, net="vgg", use_dropout=True).eval()
    images, others = pairs()
    with torch.no_grad():
        expected = theirs(images, others).flatten()
        found = lpips()(images, others)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_reaches_the_weights_or_the_targets():
    network = random_vgg()
    images, targets = (each.clone().requires_grad_(True) for each in pairs())
    network(images, targets).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert targets.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())


def test_the_gradient_is_finite_where_a_relu_lets_nothing_through():
    network = random_vgg()
    for convolution in network.convolutions:
        convolution.bias.fill_(-100.0)
    images = torch.zeros(1, 3, 16, 16, requires_grad=True)
    network(images, torch.ones(1, 3, 16, 16)).sum().backward()
    assert images.grad.isfinite().all()


def test_the_stand_in_is_the_same_everywhere_and_sees_blur():
    images, _ = pairs(side=16)
    blurred = torch.nn.functional.avg_pool2d(images, 3, 1, 1)
    first, second = random_vgg(), random_vgg()
    torch.manual_seed(5)
    assert torch.equal(first(blurred, images), second(blurred, images))
    assert (first(images, images) == 0).all()
    assert (first(blurred, images) > first(0.9 * images, images)).all()


def test_under_autocast_the_distance_is_about_the_same():
    network, (images, targets) = random_vgg(), pairs()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(images, targets)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, network(images, targets), rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", ["lpips", "random-vgg"])
def test_frozen_parameters_are_those_that_the_plan_counts(kind):
    levels = loss_formulas.PERCEPTUAL[kind]
    with torch.device("meta"):
        network = PerceptualDistance(levels)
    built = sum(parameter.numel() for parameter in network.parameters())
    assert built == loss_formulas.distance_network(levels, 32).params


def test_absent_and_damaged_weights_are_one_message_each(torch_home):
    with pytest.raises(WeightsError, match="weights fetch vgg16") as refusal:
        perceptual_distance(LpipsLoss())
    assert refusal.value.where == str(torch_home / "vgg16-397923af.pth")
    (torch_home / "vgg16-397923af.pth").write_bytes(b"half a file")
    with pytest.raises(WeightsError, match="damaged") as refusal:
        perceptual_distance(LpipsLoss())
    assert "not 397923af" in str(refusal.value)
    assert perceptual_distance(RandomVggLoss(kind="random-vgg")).lengths == [1, 1, 1]


def test_another_networks_weights_are_refused(torch_home, monkeypatch):
    monkeypatch.setattr(weights, "fault_of", lambda entry, path: None)
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, torch_home / "vgg16-397923af.pth")
    with pytest.raises(WeightsError, match="not the weights of VGG-16"):
        lpips()

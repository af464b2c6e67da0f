"""The random network: the same everywhere, blind to batches and settings, and worse images are farther away."""

import hashlib
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from tokscale.errors import ConfigError
from tokscale.feature_names import DINOV2S, DISTANCES
from tokscale.loss_formulas import DINOV2
from tokscale.metrics.features import NETWORKS, open_features
from tokscale.metrics.frechet import FeatureStatistics, frechet_distance
from tokscale.metrics.inception import Inception, LaterInception
from tokscale.weights import REGISTRY


def discs(count, side, seed):
    """Flat discs of random size and colour that hide one another: (b, 3, h, w) uint8, with the edges of photographs."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images = np.empty((count, side, side, 3), np.uint8)
    for image in images:
        image[:] = generator.integers(0, 256, 3)
        for _ in range(25):
            centre, radius = generator.random(2) * side, side / 2 * (0.1 + 0.9 * generator.random() ** 3)
            image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = generator.integers(0, 256, 3)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def through_pillow(images, change):
    arrays = [np.array(change(Image.fromarray(image.permute(1, 2, 0).numpy()))) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def blurred(images, radius):
    return through_pillow(images, lambda image: image.filter(ImageFilter.GaussianBlur(radius)))


def compressed(images, quality):
    def change(image):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
        return Image.open(buffer)

    return through_pillow(images, change)


def noisy(images, strength):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + strength * noise).round().clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def images():
    return discs(500, 32, seed=0)


@pytest.fixture(scope="module")
def network():
    return open_features("random-conv")


def statistics(network, images):
    result = FeatureStatistics(network.dim)
    result.update(network.features(images))
    return result.gaussian()


@pytest.mark.parametrize(
    ("degrade", "levels"),
    [
        (blurred, [0.3, 0.5, 0.75, 1, 1.5, 2, 4]),
        (noisy, [1, 2, 5, 10, 20, 40, 80]),
        (compressed, [90, 75, 50, 25, 10]),
    ],
)
def test_worse_images_are_farther_away(network, images, degrade, levels):
    original = statistics(network, images)
    distances = [frechet_distance(original, statistics(network, degrade(images, level))) for level in levels]
    assert distances[0] > 0
    assert all(near < 0.9 * far for near, far in pairwise(distances)), distances


def test_blur_is_told_from_chance(network, images):
    original = statistics(network, images)
    chance = frechet_distance(original, statistics(network, discs(500, 32, seed=1)))
    assert frechet_distance(original, statistics(network, blurred(images, 0.5))) > 5 * chance


@pytest.mark.parametrize("side", [16, 32])
def test_five_hundred_images_give_a_covariance_of_full_rank(network, side):
    values = np.linalg.eigvalsh(statistics(network, discs(500, side, seed=0)).covariance)
    assert values[0] > 1e-7 * values[-1]


def test_filters_are_the_same_bits_everywhere(network):
    digest = hashlib.sha256(b"".join(filters.numpy().tobytes() for filters in network.module.buffers()))
    assert digest.hexdigest() == "b003736884e8964b1a2dfb560c68d050e27e8f37dd21610cced73972a17c1659"


def test_features_are_the_same_numbers_everywhere(network):
    ramp = torch.arange(3 * 32 * 32).mul(7).remainder(256).to(torch.uint8).reshape(1, 3, 32, 32)
    features = network.features(ramp)[0, [0, 20, 32, 50, 64, 127]]
    np.testing.assert_allclose(
        features.numpy(), [0.2358631, 0.38662314, 0.4186416, 0.27977645, 0.1838387, 0.13762341], rtol=1e-6
    )


def test_features_do_not_depend_on_batch_or_settings(network, images):
    alone = torch.cat([network.features(image[None]) for image in images[:8]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        together = network.features(images[:8])
    assert together.dtype == torch.float32
    assert not together.requires_grad
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 45), (64, 64), (256, 200)])
def test_any_resolution_gives_one_width(network, height, width):
    features = network.features(torch.full((2, 3, height, width), 200, dtype=torch.uint8))
    assert features.shape == (2, network.dim)
    assert features.isfinite().all()


def test_every_network_says_what_it_is():
    assert set(DISTANCES) == {*NETWORKS, *DINOV2S}
    assert set(DINOV2S) == set(DINOV2)
    assert set(DISTANCES) - set(REGISTRY) == {"random-conv"}
    for name in set(NETWORKS) - set(REGISTRY):  # whose weights are a file
        network = open_features(name)
        assert network.name == name
        assert name in network.note
        assert network.note.endswith(".")
        assert not network.module.training
        assert network.distance == "fd"
        assert network.logits is None
    assert "stand-in" in open_features("random-conv").note
    assert Inception.note.endswith(".")
    assert "(inception-tf2015)" in Inception.note
    assert "(inception-torchvision)" in LaterInception.note


def test_small_images_and_unknown_names_are_refused(network):
    with pytest.raises(ConfigError, match=r"(?s)too small for the features random-conv.*8 x 8.*16 or more"):
        network.features(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="did you mean 'random-conv'"):
        open_features("random-cnn")

"""torchvision's Inception as ViTok's evaluator takes it: the file's names, torchvision's numbers, one split."""

import hashlib
import math

import numpy as np
import pytest
import torch

from tests.tokscale.metrics.test_inception import ramps, random_state
from tokscale import weights
from tokscale.errors import WeightsError
from tokscale.metrics.features import FeatureNetwork, open_features
from tokscale.metrics.inception import LATER_NAME as NAME
from tokscale.metrics.inception import LaterInception
from tokscale.metrics.random_conv import RandomConv
from tokscale.metrics.seen import Seen, distances

# Of torchvision 0.28.0 with the weights of ``random_state`` on the image of the test, given to its model with
# ImageNet's mean and spread at 299 pixels: place, value.
FEATURES = {0: 0.768694, 319: 0.527336, 700: 0.4035, 1200: 0.287771, 1700: 0.016283, 1900: 0.067522, 2047: 0.439665}
LOGITS = {0: 1.502674, 319: -1.235267, 700: 3.156832, 999: 2.507732}


@pytest.fixture(scope="module")
def state():
    return random_state(LaterInception)


@pytest.fixture
def network(state, monkeypatch):
    """The network of the spec's word, of a file that holds random weights and the classifier beside, as published."""
    beside = {"AuxLogits.fc.weight": torch.zeros(1000, 768), "AuxLogits.conv0.bn.running_mean": torch.zeros(128)}
    without = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    monkeypatch.setattr(weights, "require", lambda name, wanted_by: weights.default_folder() / "random")
    monkeypatch.setattr(torch, "load", lambda path, **how: {**without, **beside})
    return open_features(NAME)


def test_names_shapes_and_parameters_are_those_of_the_published_file():
    with torch.device("meta"):
        network = LaterInception()
    listing = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(network.state_dict().items()))
    beside = 768 * 128 + 128 * 768 * 25 + 2 * (128 + 768) + 768 * 1000 + 1000  # AuxLogits: two convolutions, a matrix
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_161_264 - beside == 23_834_568
    # of torchvision 0.28.0's model without AuxLogits
    assert hashlib.sha256(listing.encode()).hexdigest().startswith("fafa341565705812")


def test_features_and_logits_are_those_of_torchvision(network):
    features = network.features(ramps(1, 40, 56))
    logits = network.logits(features)
    assert (network.name, network.distance, network.splits) == (NAME, "fid", 1)
    np.testing.assert_allclose(features[0, list(FEATURES)].numpy(), list(FEATURES.values()), rtol=1e-4)
    np.testing.assert_allclose(logits[0, list(LOGITS)].numpy(), list(LOGITS.values()), rtol=1e-4)


def test_images_have_their_corners_in_the_corners():
    image = ramps(1, 5, 7)
    prepared = LaterInception.prepared(torch.nn.Module(), image)[0].double().numpy()
    pixel = image[0].double().numpy() / 127.5 - 1
    for i, j in ((0, 0), (0, 298), (298, 0), (298, 298), (149, 149), (20, 251)):
        y, x = i * 4 / 298, j * 6 / 298
        top, left = min(int(y), 3), min(int(x), 5)
        above = pixel[:, top, left] * (1 - x + left) + pixel[:, top, left + 1] * (x - left)
        below = pixel[:, top + 1, left] * (1 - x + left) + pixel[:, top + 1, left + 1] * (x - left)
        np.testing.assert_allclose(prepared[:, i, j], above * (1 - y + top) + below * (y - top), atol=1e-5)


def test_the_score_is_of_all_images_at_once():
    matrix = 30 * torch.randn(RandomConv.dim, 9, generator=torch.Generator().manual_seed(0)).double()
    network = FeatureNetwork(NAME, RandomConv.dim, RandomConv(), "", smallest=16, distance="fid", splits=1,
                             logits=lambda rows: rows.double() @ matrix)  # fmt: skip
    seen, images = Seen(network, scored=True), ramps(6, 16, 16)
    seen.update(images)
    p = (network.features(images).double() @ matrix).softmax(dim=1)
    by_hand = math.exp(float((p * (p.log() - p.mean(dim=0).log())).sum(dim=1).mean()))
    assert distances("r", seen.as_reference("itself"), seen)[0]["ris"] == pytest.approx(by_hand, rel=1e-6)


def test_absent_weights_are_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=f"evaluation.features {NAME} needs the weights {NAME}") as refusal:
        open_features(NAME)
    assert "inception_v3_google-0cc3c7bd.pth" in str(refusal.value)

"""The Inception of published FIDs: the file's names, TensorFlow's resize, torch-fidelity's numbers, clear refusals."""

import hashlib
import math

import numpy as np
import pytest
import torch

from tokscale import weights
from tokscale.errors import WeightsError
from tokscale.metrics import inception
from tokscale.metrics.features import open_features
from tokscale.metrics.inception import NAME, Inception, resized

# Of torch-fidelity 0.4.0 with the weights of ``random_state`` on the image of the test: place, value.
FEATURES = {0: 0.855538, 319: 0.502834, 700: 0.480613, 1200: 0.289323, 1700: 0.021329, 1900: 0.107642, 2047: 1.11922}
LOGITS = {0: 0.949231, 319: -2.01947, 700: 2.89473, 1000: -0.470089}


def random_state(kind=Inception):
    """Weights of the right names and shapes that keep the size of what goes through: the same bits everywhere."""
    generator, stored = np.random.RandomState(0), {}
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in kind().state_dict().items()}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape).astype(np.float32)
        if name.endswith("conv.weight"):
            values *= np.float32(math.sqrt(2 / math.prod(shape[1:])))
        elif name.endswith(("running_var", "bn.weight")):
            values = 1 + np.float32(0.1) * np.tanh(values)
        elif name.endswith("num_batches_tracked"):
            values = np.zeros((), np.int64)
        else:
            values *= np.float32(0.1)
        stored[name] = torch.from_numpy(np.asarray(values))
    return stored


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture
def network(state, monkeypatch):
    """The network of the spec's word, of a file that holds random weights."""
    monkeypatch.setattr(weights, "require", lambda name, wanted_by: weights.default_folder() / "random")
    monkeypatch.setattr(torch, "load", lambda path, **how: state)
    return open_features(NAME)


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights.default_folder().mkdir(parents=True)
    return weights.default_folder()


def ramps(count, height, width):
    """Images with a number of their own at each place: (b, 3, h, w) uint8."""
    places = torch.arange(count * 3 * height * width)
    return (places.mul(7).remainder(256) ^ places.div(97, rounding_mode="floor").remainder(256)).to(
        torch.uint8
    ).reshape(count, 3, height, width)  # fmt: skip


# --- the graph ---


def test_names_shapes_and_parameters_are_those_of_the_published_file():
    with torch.device("meta"):
        network = Inception()
    listing = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(network.state_dict().items()))
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_850_960
    assert network.fc.weight.shape == (1008, 2048)
    # of torch-fidelity 0.4.0's network, which takes that file strictly
    assert hashlib.sha256(listing.encode()).hexdigest().startswith("760681d791cb624e")


def test_features_and_logits_are_those_of_torch_fidelity(network):
    features = network.features(ramps(1, 40, 56))
    logits = network.logits(features)
    assert features.dtype == torch.float32
    assert (features.shape, logits.shape) == ((1, 2048), (1, 1008))
    np.testing.assert_allclose(features[0, list(FEATURES)].numpy(), list(FEATURES.values()), rtol=1e-4)
    np.testing.assert_allclose(logits[0, list(LOGITS)].numpy(), list(LOGITS.values()), rtol=1e-4)


def test_features_do_not_depend_on_batch_or_autocast(network):
    images = ramps(2, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        together = network.features(images)
    alone = torch.cat([network.features(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert not network.module.training
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


@pytest.mark.parametrize(("height", "width", "side"), [(5, 7, 13), (16, 16, 299), (40, 32, 17), (9, 9, 9)])
def test_images_are_resized_by_the_definition_of_tensorflow_1(height, width, side):
    image = ramps(1, height, width)
    expected = np.empty((3, side, side))
    for i in range(side):
        for j in range(side):
            y, x = i * height / side, j * width / side
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            pixel = image[0].double().numpy()
            above = pixel[:, top, left] * (1 - x % 1) + pixel[:, top, right] * (x % 1)
            below = pixel[:, bottom, left] * (1 - x % 1) + pixel[:, bottom, right] * (x % 1)
            expected[:, i, j] = above * (1 - y % 1) + below * (y % 1)
    np.testing.assert_allclose(resized(image, side)[0].numpy(), expected, atol=1e-3)


# --- its weights ---


def test_without_its_weights_there_is_one_message(torch_home):
    with pytest.raises(WeightsError, match=f"evaluation.features {NAME} needs the weights {NAME}") as refusal:
        open_features(NAME)
    assert f"tokscale weights fetch {NAME}" in str(refusal.value)
    (torch_home / weights.entry_of(NAME).file).write_bytes(b"half")
    with pytest.raises(WeightsError, match="the file is damaged"):
        open_features(NAME)


@pytest.mark.parametrize("change", ["absent", "other shape"])
def test_other_weights_under_this_name_are_refused(state, monkeypatch, change):
    stored = {name: tensor for name, tensor in state.items() if name != "fc.bias"}
    if change == "other shape":
        stored["fc.bias"] = torch.zeros(1000)
    monkeypatch.setattr(weights, "require", lambda name, wanted_by: weights.default_folder() / "random")
    monkeypatch.setattr(torch, "load", lambda path, **how: stored)
    with pytest.raises(WeightsError, match=f"these are not the weights of {NAME}"):
        inception.open_inception()

"""Networks that see clips: the stand-in is the same everywhere and sees motion that no frame shows; I3D is a file."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pytest
import torch

from tokscale import weights
from tokscale.config import EvaluationConfig, ProceduralVideoData
from tokscale.data.dead_leaves import scenes
from tokscale.data.images import frames_of
from tokscale.data.moving_leaves import clips
from tokscale.errors import ConfigError, WeightsError
from tokscale.metrics.clips import I3D_FRAMES, I3D_WIDTH, NETWORKS, open_clip_features
from tokscale.metrics.features import open_features
from tokscale.metrics.seen import Seen


def moving(count, speed=0.06, frames=8, side=16, start=0):
    config = ProceduralVideoData(kind="procedural_video", resolution=side, frames=frames, speed=speed)
    return torch.from_numpy(clips(scenes(0, "train", np.arange(start, start + count), 10), config))


def distance(network, some, others):
    seen, reference = Seen(network), Seen(network)
    seen.update(some)
    reference.update(others)
    return seen.distance(reference.as_reference("others"))


def test_every_network_of_the_config_can_be_opened():
    assert set(NETWORKS) == set(EvaluationConfig.model_fields["clip_features"].annotation.__args__)


def test_filters_are_the_same_on_every_machine():
    module = open_clip_features("random-conv3d").module
    digest = hashlib.sha256(b"".join(filters.numpy().round(12).tobytes() for filters in module.buffers())).hexdigest()
    assert digest[:16] == "46d32cb1eb063d12"
    norms = [filters.flatten(1).norm(dim=1) for filters in module.buffers()]
    torch.testing.assert_close(torch.cat(norms), torch.ones(64, dtype=torch.float64))


def test_features_of_a_clip_do_not_depend_on_its_batch():
    network, some = open_clip_features("random-conv3d"), moving(6)
    torch.testing.assert_close(network.features(some[2:3])[0], network.features(some)[2])
    assert network.features(some).shape == (6, network.dim)


def test_half_of_the_first_filters_see_change_alone():
    network = open_clip_features("random-conv3d")
    still, changing = (network.features(moving(3, speed)) for speed in (0.0, 0.1))
    watching = slice(8, 16)
    assert still[:, watching].abs().max() < 1e-6
    assert changing[:, watching].min() > 0.001
    assert still[:, :8].abs().min() > 0.001


def test_it_tells_the_order_of_frames_which_no_distance_of_frames_does():
    network, frames = open_clip_features("random-conv3d"), open_features("random-conv")
    originals, others = moving(100), moving(100, start=100)
    shuffled = others[:, :, torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    within, apart = distance(network, others, originals), distance(network, shuffled, originals)
    assert apart > 2 * within
    framewise = [distance(frames, frames_of(some), frames_of(originals)) for some in (others, shuffled)]
    assert framewise[0] == pytest.approx(framewise[1], rel=1e-3)


def test_other_speeds_are_farther_away():
    network, originals = open_clip_features("random-conv3d"), moving(80, 0.03)
    found = [distance(network, moving(80, speed, start=80), originals) for speed in (0.03, 0.05, 0.1)]
    assert found == sorted(found)


def test_what_it_cannot_see_is_refused():
    network = open_clip_features("random-conv3d")
    with pytest.raises(ConfigError, match="too short"):
        network.features(moving(1, frames=1))
    with pytest.raises(ConfigError, match="too small"):
        network.features(torch.zeros(1, 3, 4, 8, 8, dtype=torch.uint8))


class LikeI3D(torch.nn.Module):
    """Called as the file of I3D is: the mean of the clip's colours, 400 times, and its flags."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        found = (x / 127.5 - 1 if rescale else x).mean(dim=[1, 2, 3, 4])[:, None].repeat(1, 400)
        return found if resize and return_features else found[:, :5]


@pytest.fixture
def i3d_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = weights.default_folder() / weights.entry_of("i3d").file
    path.parent.mkdir(parents=True)
    return path


def test_i3d_is_called_as_its_file_asks(i3d_file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(LikeI3D()).save(str(i3d_file))
    network, some = open_clip_features("i3d"), moving(4, frames=I3D_FRAMES)
    assert (network.dim, network.distance) == (I3D_WIDTH, "fvd")
    expected = (some.float() / 127.5 - 1).mean((1, 2, 3, 4))
    torch.testing.assert_close(network.features(some), expected[:, None].repeat(1, 400))
    with pytest.raises(ConfigError, match="10 or more"):
        network.features(moving(1))


def test_without_the_file_or_with_another_the_message_says_so(i3d_file):
    with pytest.raises(WeightsError, match="clip_features needs the weights i3d, and they are not here"):
        open_clip_features("i3d")
    i3d_file.write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="no TorchScript file of I3D"):
        open_clip_features("i3d")

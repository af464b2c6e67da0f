"""Networks that see clips: the stand-in is the same everywhere and sees motion that no frame shows; I3D is a file."""

from __future__ import annotations

import hashlib
import re
import warnings

import numpy as np
import pytest
import torch

from tokscale import weights
from tokscale.config import MIN_I3D_FRAMES, EvaluationConfig, ProceduralVideoData
from tokscale.data.dead_leaves import scenes
from tokscale.data.images import frames_of
from tokscale.data.moving_leaves import clips
from tokscale.errors import ConfigError, WeightsError
from tokscale.metrics.clips import I3D, I3D_WIDTH, NETWORKS, open_clip_features
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
    """Called as the file of I3D is: two strided convolutions over time and space, and 400 numbers of their mean."""

    def __init__(self, width: int = 400, darkest: float = -1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.nn.Parameter(torch.randn(8, 3, 3, 7, 7, generator=generator) / 21)
        self.last = torch.nn.Parameter(torch.randn(width, 8, generator=generator))
        self.darkest = darkest

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        if resize:
            x = torch.nn.functional.interpolate(x, (x.shape[2], 224, 224), mode="trilinear", align_corners=False)
        if rescale:
            x = x / 255 * (1 - self.darkest) + self.darkest
        found = torch.nn.functional.conv3d(x, self.first, stride=[2, 8, 8]).relu().mean(dim=[2, 3, 4]) @ self.last.T
        return found if return_features else found.softmax(dim=1)


class WithoutFlags(LikeI3D):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=[2, 3, 4])


@pytest.fixture
def i3d_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = weights.default_folder() / weights.entry_of("i3d").file
    path.parent.mkdir(parents=True)
    return path


def scripted(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))


def test_i3d_sees_clips_in_its_range_and_at_its_size(i3d_file):
    scripted(LikeI3D(), i3d_file)
    network, some = open_clip_features("i3d"), moving(2, frames=MIN_I3D_FRAMES, side=32)
    assert (network.dim, network.distance) == (I3D_WIDTH, "fvd")
    assert network.weights == hashlib.sha256(i3d_file.read_bytes()).hexdigest()
    frames = torch.nn.functional.interpolate(frames_of(some).float(), (224, 224), mode="bilinear", align_corners=False)
    pixels = (frames / 127.5 - 1).reshape(2, MIN_I3D_FRAMES, 3, 224, 224).transpose(1, 2)
    expected = LikeI3D()(pixels, return_features=True)
    torch.testing.assert_close(network.features(some), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ConfigError, match="clips are too short for the features i3d") as refused:
        network.features(moving(1, frames=9))
    assert (refused.value.where, refused.value.given, refused.value.allowed) == ("data.frames", "9", "10 or more")


def test_i3d_computes_in_full_float32():
    seen = []

    def script(clips, **flags):
        seen.append((torch.backends.cudnn.allow_tf32, clips.dtype, flags))
        return clips

    module = I3D(torch.nn.Identity())
    module.script.forward = script
    module(torch.zeros(1, 3, 10, 8, 8, dtype=torch.uint8))
    assert seen == [(False, torch.float32, {"rescale": True, "resize": True, "return_features": True})]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (LikeI3D(darkest=0.0), r"rescale=True does not bring to \[-1, 1\]"),
        (LikeI3D(width=1024), r"features of shape \(1, 1024\)"),
        (WithoutFlags(), r"forward\(\)"),
    ],
    ids=["range", "width", "signature"],
)
def test_a_script_of_another_network_is_refused(i3d_file, module, words):
    scripted(module, i3d_file)
    with pytest.raises(WeightsError, match="not the I3D of published FVDs") as refused:
        open_clip_features("i3d")
    assert re.search(words, refused.value.given)
    assert refused.value.where == str(i3d_file)


def test_a_file_that_is_not_what_was_fetched_is_refused(i3d_file):
    scripted(LikeI3D(), i3d_file)
    i3d_file.with_name(i3d_file.name + weights.SIDECAR).write_text(f"{'0' * 64}  {i3d_file.name}\n")
    with pytest.raises(WeightsError, match="damaged"):
        open_clip_features("i3d")


def test_without_the_file_or_with_another_the_message_says_so(i3d_file):
    with pytest.raises(WeightsError, match="clip_features needs the weights i3d, and they are not here"):
        open_clip_features("i3d")
    i3d_file.write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="no TorchScript file of I3D"):
        open_clip_features("i3d")

"""A teacher of any hub repository: what it sees and gives, and one message for each thing that is not right."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tokscale.config import HubTeacher, LossesConfig, TrialConfig
from tokscale.errors import ConfigError, WeightsError
from tokscale.loss_formulas import hub_teacher, loss_costs
from tokscale.parsing import parse
from tokscale.record import digest
from tokscale.teachers.hub import open_hub

HUBCONF = """\
dependencies = ["torch"]
import torch
from torch import nn


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Conv2d(3, 12, 8, 8)
        self.prefix = nn.Parameter(torch.ones(1, 2, 12))

    def forward_features(self, x):
        tokens = self.embedding(x).flatten(2).transpose(1, 2)
        return torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)


def tokens(*, pretrained=True):
    assert not pretrained, "a download"
    return Tokens()


def classifier(*, pretrained=True):
    return nn.Linear(3, 2)
"""


@pytest.fixture
def written(tmp_path):
    """The config of a repository and its weights on the disk, with changes."""
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    generator = torch.Generator().manual_seed(0)
    stored = {"embedding.weight": torch.randn(12, 3, 8, 8, generator=generator), "embedding.bias": torch.zeros(12),
              "prefix": torch.full((1, 2, 12), 9.0)}  # fmt: skip
    save_file(stored, tmp_path / "w.safetensors")
    torch.save(stored, tmp_path / "w.pth")

    def config(weights="w.safetensors", **changes):
        path = tmp_path / weights
        known = digest(path)["sha256"] if path.exists() else "0" * 64
        values = {"kind": "hub", "repository": str(tmp_path), "entry": "tokens", "weights": str(path), "sha256": known,
                  "width": 12, "depth": 1, "patch": 8, "side": 32, "prefix": 2, "mean": [0.5, 0.5, 0.5],
                  "std": [0.5, 0.25, 0.5]}  # fmt: skip
        return parse(HubTeacher, values | changes), stored

    return config


@pytest.mark.parametrize("weights", ["w.safetensors", "w.pth"])
def test_features_of_patches_without_the_tokens_before_them(written, weights):
    config, stored = written(weights)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pixels = F.interpolate((images + 1) / 2, size=32, mode="bicubic", antialias=True)
    normed = (pixels - 0.5) / torch.tensor([0.5, 0.25, 0.5])[:, None, None]
    expected = F.conv2d(normed, stored["embedding.weight"], stride=8).flatten(2).transpose(1, 2)
    torch.testing.assert_close(open_hub(config).features(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"repository": "/nowhere"}, "needs the code of tokens, and it is not here"),
        ({"weights": "gone.pth"}, "the weights of tokens, and they are not here"),
        ({"sha256": "0123456789"}, "the file holds others"),
        ({"entry": "no_such"}, "this code cannot build no_such"),
        ({"entry": "classifier"}, "not the weights of classifier"),
        ({"width": 16}, "16 patches, 12 wide.*16 patches, 16 wide"),
        ({"prefix": 0}, "18 patches, 12 wide.*16 patches, 12 wide"),
    ],
)
def test_what_is_not_right_is_one_message(written, changes, words):
    config, _ = written(**changes)
    with pytest.raises(WeightsError, match=f"(?s){words}"):
        open_hub(config)


def test_its_cost_is_that_of_a_plain_vit_of_its_width_and_depth(written):
    config, _ = written()
    semantic = {"features": config.model_dump(), "layer": 1}
    losses = parse(LossesConfig, {"semantic": semantic})
    costs = loss_costs(losses, 64, 16, 32, 10)
    assert costs.frozen_params == hub_teacher(config).params
    block = 2 * 18 * (4 * 12 * 12 + 8 * 12 * 12) + 2 * 2 * 18 * 18 * 12
    assert hub_teacher(config).flops == 2 * 16 * 3 * 64 * 12 + block


def test_patches_that_do_not_divide_the_image_are_refused(written):
    config, _ = written()
    with pytest.raises(ConfigError, match="patches of 7 do not divide an image of 32 pixels"):
        parse(TrialConfig, {"losses": {"semantic": {"features": config.model_dump() | {"patch": 7}}}})


def test_a_hash_that_yaml_took_for_a_number_is_refused_with_the_way_out(written):
    config, _ = written()
    with pytest.raises(ConfigError, match="put the hash in quotes") as refusal:
        parse(TrialConfig, {"losses": {"semantic": {"features": config.model_dump() | {"sha256": 12345678}}}})
    assert refusal.value.where == "losses.semantic.features.sha256"

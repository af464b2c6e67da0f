"""A local hub repository of the same interface as DINOv2's, with a ViT of one patch embedding in place of a ViT."""

import pytest
import torch

from tokscale import weights
from tokscale.weights import SIDECAR

HUBCONF = """\
dependencies = ["torch"]
import warnings

import torch
from torch import nn


class TinyVit(nn.Module):
    def __init__(self, width, registers):
        super().__init__()
        self.embedding = nn.Conv2d(3, width, 14, 14)
        self.norm = nn.LayerNorm(width)
        self.registers = nn.Parameter(torch.zeros(1, registers, width))

    def forward_features(self, x):
        assert x.shape[2] % 14 == 0
        tokens = self.norm(self.embedding(x).flatten(2).transpose(1, 2))
        return {"x_norm_clstoken": tokens.mean(1), "x_norm_patchtokens": tokens,
                "x_norm_regtokens": self.registers.expand(len(x), -1, -1)}


def _made(width, registers):
    def make(*, pretrained=True, **options):
        assert not pretrained, "a download"
        warnings.warn("xFormers is not available (SwiGLU)")
        return TinyVit(width, registers)
    return make


for letter, width in {"s": 384, "b": 768, "l": 1024, "g": WIDE}.items():
    for registers in (0, 4):
        name = f"dinov2_vit{letter}14" + ("_reg" if registers else "")
        globals()[name] = _made(width, registers)
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch's hub folder with the repository in it, and a way to put weights beside it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TOKSCALE_DINOV2", raising=False)
    repository = weights.hub_folder() / "facebookresearch_dinov2_main"
    repository.mkdir(parents=True)
    (repository / "hubconf.py").write_text(HUBCONF.replace("WIDE", "64"))
    return weights.hub_folder()


@pytest.fixture
def place(hub):
    """Writes the weights of one name, and the hash that they had when they were fetched."""

    def write(name, width, registers=0, sha256=None):
        generator = torch.Generator().manual_seed(width)
        stored = {
            "embedding.weight": 0.05 * torch.randn(width, 3, 14, 14, generator=generator),
            "embedding.bias": torch.zeros(width), "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width),
            "registers": torch.zeros(1, registers, width),
        }  # fmt: skip
        path = weights.default_folder() / weights.entry_of(name).file
        path.parent.mkdir(exist_ok=True)
        torch.save(stored, path)
        if sha256 is not None:
            path.with_name(path.name + SIDECAR).write_text(f"{sha256}  {path.name}\n")
        return stored

    return write

"""Names of tokenizers, for people."""

import pytest

from tokscale import cost
from tokscale.config import FSQBottleneck, ProceduralData, TrialConfig, VitTokenizer, VQBottleneck

VQ = VQBottleneck(kind="vq")


def vit(encoder="S", decoder="B", patch=16, bottleneck=None):
    chosen = {} if bottleneck is None else {"bottleneck": bottleneck}
    return VitTokenizer(encoder=encoder, decoder=decoder, patch=patch, **chosen)


@pytest.mark.parametrize(
    ("tokenizer", "resolution", "expected"),
    [
        (vit(), 256, "S-B/16 n256 kl16"),
        (vit("B", "L", 16, VQ), 256, "B-L/16 n256 vq16384x8"),
        (vit("nano", "nano", 4, FSQBottleneck(kind="fsq", levels=(8, 8, 5))), 32, "nano-nano/4 n64 fsq8.8.5"),
        (vit({"width": 96, "depth": 5, "heads": 3}, "pico", 8), 32, "96x5x3-pico/8 n16 kl16"),
    ],
)
def test_labels(tokenizer, resolution, expected):
    trial = TrialConfig(data=ProceduralData(resolution=resolution), tokenizer=tokenizer)
    assert cost.label(trial) == expected
    assert expected.startswith(f"{cost.encoder_name(trial)}-{cost.decoder_name(trial)}/")

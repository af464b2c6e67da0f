"""The next parameters: in the part where they bring more, or not resolved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.published_tables import published
from analysis.questions import where_to_spend
from tokscale.errors import TableError, UsageError

GRID = [(e, d) for e in (1e7, 3e7, 1e8, 3e8) for d in (1e7, 3e7, 1e8, 3e8)]


def table_of(y: np.ndarray, name: str = "rfid") -> pd.DataFrame:
    return pd.DataFrame(GRID, columns=["encoder_params", "decoder_params"]).assign(**{name: y})


def sizes() -> tuple[np.ndarray, np.ndarray]:
    return np.array([e for e, _ in GRID]), np.array([d for _, d in GRID])


def test_a_product_of_powers_has_its_gains_in_closed_form() -> None:
    encoder, decoder = sizes()
    at = {"encoder_params": 1e8, "decoder_params": 1e8}
    found = where_to_spend(table_of(5 * encoder**-0.1 * decoder**-0.3), "rfid", 1e8, at=at)
    assert found.law == "product"
    assert found.gains["encoder_params"].value == pytest.approx(0.1 * np.log(2), abs=1e-6)
    assert found.gains["decoder_params"].value == pytest.approx(0.3 * np.log(2), abs=1e-6)
    assert found.verdict == "decoder_params"
    assert "better into Decoder parameters" in found.sentence()


def test_diminishing_gains_are_those_of_the_additive_law() -> None:
    encoder, decoder = sizes()
    truth = 0.5 + 3 * (encoder / 1e7) ** -0.3 + 10 * (decoder / 1e7) ** -0.6
    noise = np.random.default_rng(1).normal(0, 0.01, len(truth))
    at = {"encoder_params": 3e7, "decoder_params": 3e7}
    found = where_to_spend(table_of(truth * np.exp(noise)), "rfid", 1e8, at=at)

    def value(e: float, d: float) -> float:
        return float(np.log(0.5 + 3 * (e / 1e7) ** -0.3 + 10 * (d / 1e7) ** -0.6))

    expected = value(3e7, 1.3e8) - value(1.3e8, 3e7)
    assert found.law == "additive"
    assert found.difference.low is not None
    assert found.difference.high is not None
    assert found.difference.low < expected < found.difference.high
    assert found.verdict == "decoder_params"


def test_decibels_are_straight_in_the_logarithms() -> None:
    encoder, decoder = sizes()
    found = where_to_spend(table_of(20 + np.log2(encoder) + 0.2 * np.log2(decoder), "psnr"), "psnr", 1e8,
                           at={"encoder_params": 1e8, "decoder_params": 1e8})  # fmt: skip
    assert (found.law, found.verdict) == ("plane", "encoder_params")
    assert found.difference.value == pytest.approx(0.8, abs=1e-6)


def test_equal_parts_are_unresolved_in_about_95_percent() -> None:
    rng = np.random.default_rng(3)
    at = {"encoder_params": 1e8, "decoder_params": 1e8}
    verdicts = [where_to_spend(table_of(50 + rng.normal(0, 1, 16), "psnr"), "psnr", at=at).verdict
                for _ in range(60)]  # fmt: skip
    assert sum(verdict != "unresolved" for verdict in verdicts) <= 9


def test_other_settings_are_held_equal() -> None:
    encoder, decoder = sizes()
    parts = [table_of(level * encoder**-0.1 * decoder**-0.3).assign(channels=channels)
             for level, channels in ((5.0, 4), (1.0, 16))]  # fmt: skip
    table = pd.concat(parts, ignore_index=True).rename(columns={"channels": "tokenizer.bottleneck.channels"})
    found = where_to_spend(table, "rfid")
    assert found.held == ("tokenizer.bottleneck.channels",)
    assert (found.n, found.strata) == (32, 2)
    assert found.gains["decoder_params"].low == pytest.approx(found.gains["decoder_params"].value)


def test_vitok_points_do_not_tell_encoder_from_decoder() -> None:
    """Seven models, one run each: the decoder's own gain is resolved, that it beats the encoder's is not."""
    table = published("vitok_fig6to9_encoder_decoder_sweep")
    parts = ("enc_params_M", "dec_params_M")
    for y in ("rFID", "PSNR", "SSIM"):
        found = where_to_spend(table, y, 100, parts)
        assert found.gains["dec_params_M"].resolved
        assert not found.gains["enc_params_M"].resolved
        assert found.verdict == "unresolved"
        assert found.at == {"enc_params_M": 43.3, "dec_params_M": 383.7}
        assert any("beyond the largest" in warning for warning in found.warnings)
    assert not where_to_spend(table, "gFID_cfg1.5", 100, parts).gains["dec_params_M"].resolved


def test_far_beyond_the_sizes_measured_nothing_is_resolved() -> None:
    encoder, decoder = sizes()
    found = where_to_spend(table_of(5 * encoder**-0.1 * decoder**-0.3), "rfid", 1e10)
    assert found.verdict == "unresolved"
    assert "times beyond the largest measured" in found.sentence()


def test_what_cannot_be_asked() -> None:
    same = pd.DataFrame({"encoder_params": [1e7, 2e7, 4e7, 8e7], "psnr": [20.0, 21, 22, 23]})
    with pytest.raises(TableError, match="cannot be told apart"):
        where_to_spend(same.assign(decoder_params=same["encoder_params"] ** 2), "psnr")
    channels = pd.DataFrame({"encoder_params": [1e7, 1.001e7, 1.01e7, 1e7], "decoder_params": [1e7, 2e7, 4e7, 3e7]})
    with pytest.raises(TableError, match="hardly varies"):
        where_to_spend(channels.assign(psnr=[20.0, 21, 22, 23]), "psnr")
    with pytest.raises(UsageError, match="positive number"):
        where_to_spend(same.assign(decoder_params=1e7), "psnr", 0)

"""The linear_probe stage on procedural images: a whole record, twice the same, and features taken only once."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.data.features import read_features
from tokscale.errors import ConfigError, StoppedError
from tokscale.record import COLUMNS, read_record
from tokscale.stages import linear_probe, run

KINDS = ("tokenizer", "latents", "probe", "linear_probe")


def prepared(small_spec, runs, number):
    text = small_spec.read_text()
    if "linear_probe" not in text:
        small_spec.write_text(
            text.replace(
                "  evaluation:",
                "  linear_probe: {images: 200, batch_size: 20, lr: 40, epochs: 12, warmup_epochs: 2}\n  evaluation:",
            )
        )
    store = Store(runs)
    return {stage.kind: store.prepare(stage) for stage in expand(*load_spec(small_spec))[number].stages}


KL, VQ = 0, 2  # of the small sweep's trials


def test_both_accuracies_are_better_than_chance_and_repeat(small_spec, tmp_path):
    folders = prepared(small_spec, tmp_path, VQ)
    for kind in KINDS:
        run(str(folders[kind].path))
    record = read_record(folders["linear_probe"].path)
    assert {"ar_linear_accuracy", "tokenizer_linear_accuracy", "classes"} <= set(record.measures) <= set(COLUMNS)
    assert record.measures["classes"] == 10
    assert record.measures["ar_linear_accuracy"] > 0.15
    assert record.measures["tokenizer_linear_accuracy"] > 0.15
    assert not folders["linear_probe"].checkpoints.exists()
    (folders["linear_probe"].path / "record.json").unlink()
    run(str(folders["linear_probe"].path), micro_batch=7)
    again = read_record(folders["linear_probe"].path).measures
    for name in ("ar_linear_accuracy", "tokenizer_linear_accuracy"):
        assert again[name] == pytest.approx(record.measures[name], abs=0.03)  # other passes: other rounding


def test_features_outlive_an_attempt_that_is_cut_short(small_spec, tmp_path, monkeypatch):
    folders = prepared(small_spec, tmp_path, KL)
    for kind in KINDS[:-1]:
        run(str(folders[kind].path))

    def stopped(*_, **__):
        raise StoppedError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(linear_probe, "train_linear_probe", stopped)
        with pytest.raises(StoppedError):
            run(str(folders["linear_probe"].path))
    kept = read_features(folders["linear_probe"].checkpoints / "features", "train", {"ar": 32, "tokenizer": 4})
    assert kept["ar"].shape == (200, 32)
    assert np.isfinite(kept["tokenizer"]).all()
    monkeypatch.setattr(linear_probe, "write_features", stopped)  # nothing is taken a second time
    run(str(folders["linear_probe"].path))
    assert read_record(folders["linear_probe"].path) is not None


def test_a_linear_probe_without_a_probe_is_refused(small_spec):
    small_spec.write_text(
        small_spec.read_text().replace("  probe: {size", "  linear_probe: {}\n  probe: null\n  x: {size")
    )
    text = [line for line in small_spec.read_text().splitlines() if not line.startswith("  x:")]
    small_spec.write_text("\n".join(text))
    with pytest.raises(ConfigError, match="linear_probe classifies features of the probe"):
        expand(*load_spec(small_spec))

"""Stages for real, in this process: each leaves a whole record, runs once, and resumes to the same bits."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import StageState, Store
from tokscale.errors import DivergedError, StoppedError, StoreError
from tokscale.record import COLUMNS, read_record
from tokscale.stages import run
from tokscale.training import callbacks

pytestmark = pytest.mark.usefixtures("one_thread")

EXPECTED = {
    "tokenizer": {"tokenizer_params", "train_images", "train_flops"},
    "reconstruction": {"mse", "psnr", "ssim", "rfd", "features", "reference"},
    "latents": set(),
    "probe": {"ar_loss", "ar_bits_per_image", "ar_bits_per_pixel", "probe_params"},
    "generation": {"gfd", "precision", "recall", "cfg_scale"},
}


def prepared(spec, runs, number):
    trial = expand(*load_spec(spec))[number]
    store = Store(runs)
    return store, {stage.kind: (stage, store.prepare(stage)) for stage in trial.stages}


def run_all(spec, runs, number=0):
    store, stages = prepared(spec, runs, number)
    for _, folder in stages.values():
        run(str(folder.path))
    return store, stages


@pytest.mark.parametrize("number", [0, 1, 2], ids=["kl", "fsq", "vq"])
def test_a_trial_leaves_a_whole_record_of_every_stage(small_spec, tmp_path, number):
    store, stages = run_all(small_spec, tmp_path / "runs", number)
    for kind, (stage, folder) in stages.items():
        record = store.record(stage)
        assert record is not None
        assert set(record.measures) <= set(COLUMNS)
        assert set(record.measures) >= EXPECTED[kind] | {"wall_seconds", "gpu_seconds"}
        assert record.provenance["attempts"] == 1
        assert record.provenance["peak_memory_bytes"] > 10**7
        assert {"torch", "tokscale", "python"} <= set(record.provenance["versions"])
        assert not folder.checkpoints.exists()
        for name, expected in record.artifacts.items():
            assert (folder.artifacts / name).stat().st_size == expected["bytes"]
    reconstruction = store.record(stages["reconstruction"][0])
    assert ("kl_bits_per_image" in reconstruction.measures) == (number == 0)
    assert ("codebook_usage" in reconstruction.measures) == (number != 0)
    assert any("random-conv" in note for note in reconstruction.notes)


def test_a_finished_stage_is_not_touched_again(small_spec, tmp_path):
    _, stages = prepared(small_spec, tmp_path, 0)
    folder = stages["tokenizer"][1]
    run(str(folder.path))
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    run(str(folder.path))
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


@pytest.mark.parametrize("kind", ["tokenizer", "probe"])
def test_bf16_trains_to_about_the_same_loss(small_spec, tmp_path, kind):
    text = small_spec.read_text()
    losses = []
    for precision in ("fp32", "bf16"):
        small_spec.write_text(text.replace("lr: 2e-3}", f"lr: 2e-3, precision: {precision}}}"))
        _, stages = prepared(small_spec, tmp_path / precision, 0)
        for name in ("tokenizer", "latents", "probe")[: 1 if kind == "tokenizer" else 3]:
            run(str(stages[name][1].path))
        losses.append(json.loads(stages[kind][1].progress.read_text().splitlines()[-1])["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_gradients_are_clipped_to_the_norm_that_was_asked_for(small_spec, tmp_path):
    text = small_spec.read_text()
    norms = []
    for clip in (0, 1e-4):
        small_spec.write_text(text.replace("lr: 2e-3}", f"lr: 2e-3, gradient_clip: {clip}}}"))
        _, stages = prepared(small_spec, tmp_path / str(clip), 0)
        run(str(stages["tokenizer"][1].path), progress_seconds=0.0)
        norms.append(
            [json.loads(line)["gradient_norm"] for line in stages["tokenizer"][1].progress.read_text().splitlines()]
        )
    assert norms[0][0] == norms[1][0] > 1e-3  # the norm before clipping is what is written down
    assert norms[0][-1] != norms[1][-1]


def of_kl(spec, probe, generation=""):
    """Leave the sweep its continuous tokenizer, with another probe."""
    text = (
        spec.read_text()
        .replace("probe: {", f"probe: {{{probe}")
        .replace("batch_size: 40}", f"batch_size: 40{generation}}}")
    )
    spec.write_text("\n".join(line for line in text.splitlines() if "fsq" not in line and "vq" not in line))


class StopAfter(callbacks.Budget):
    """Sends this process the signal that a cluster sends, after a number of steps."""

    steps = 0

    def on_train_batch_end(self, trainer, task, *arguments):
        super().on_train_batch_end(trainer, task, *arguments)
        if task.step == StopAfter.steps:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("number", "kind", "probe"),
    [(0, "tokenizer", ""), (2, "tokenizer", ""), (0, "probe", ""), (0, "probe", "kind: diffusion, ")],
    ids=["kl", "vq", "ar", "diffusion"],
)
def test_resuming_gives_the_bits_of_an_unbroken_run(small_spec, tmp_path, monkeypatch, number, kind, probe):
    if probe:
        of_kl(small_spec, probe)
    store, unbroken = prepared(small_spec, tmp_path / "unbroken", number)
    _, broken = prepared(small_spec, tmp_path / "broken", number)
    needed = ("tokenizer", "latents", "probe")[: 1 if kind == "tokenizer" else 3]
    for name in needed:
        run(str(unbroken[name][1].path))
        if name != kind:
            run(str(broken[name][1].path))
    monkeypatch.setattr("tokscale.training.loop.Budget", StopAfter)
    folder = broken[kind][1]
    for steps in (7, 13):
        StopAfter.steps = steps
        with pytest.raises(StoppedError, match="SIGTERM"):
            run(str(folder.path))
        assert Store(tmp_path / "broken").status(broken[kind][0]).state is StageState.interrupted
    StopAfter.steps = 0
    run(str(folder.path))
    weights, expected = (load_file(next(f[kind][1].artifacts.glob("*.safetensors"))) for f in (broken, unbroken))
    assert weights.keys() == expected.keys()
    for name in weights:
        assert torch.equal(weights[name], expected[name]), name
    assert read_record(folder.path).provenance["attempts"] == 3
    measures, reference = read_record(folder.path).measures, store.record(unbroken[kind][0]).measures
    assert {n: v for n, v in measures.items() if "seconds" not in n} == {
        n: v for n, v in reference.items() if "seconds" not in n
    }


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(small_spec, tmp_path, monkeypatch, caplog):
    _, stages = prepared(small_spec, tmp_path, 0)
    folder = stages["tokenizer"][1]
    monkeypatch.setattr("tokscale.training.loop.Budget", StopAfter)
    for StopAfter.steps in (5, 9):
        with pytest.raises(StoppedError):
            run(str(folder.path))
    older, newer = sorted(folder.checkpoints.iterdir())
    weights = newer / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    StopAfter.steps = 0
    run(str(folder.path))
    assert f"{newer} is passed over" in caplog.text
    _, fresh = prepared(small_spec, tmp_path / "fresh", 0)
    run(str(fresh["tokenizer"][1].path))
    assert (folder.artifacts / "tokenizer.safetensors").read_bytes() == (
        fresh["tokenizer"][1].artifacts / "tokenizer.safetensors"
    ).read_bytes()
    assert older.name == f"{5 * 16:015d}"


def test_a_checkpoint_of_another_stage_is_never_resumed_from(small_spec, tmp_path, monkeypatch):
    from tokscale.training.checkpoints import newest_checkpoint

    _, stages = prepared(small_spec, tmp_path, 0)
    folder = stages["tokenizer"][1]
    monkeypatch.setattr("tokscale.training.loop.Budget", StopAfter)
    StopAfter.steps = 5
    with pytest.raises(StoppedError):
        run(str(folder.path))
    assert newest_checkpoint(folder.checkpoints, stages["tokenizer"][0].id) is not None
    assert newest_checkpoint(folder.checkpoints, "another") is None


def test_divergence_is_a_failure_of_its_own_class(small_spec, tmp_path, monkeypatch):
    small_spec.write_text(
        small_spec.read_text().replace("lr: 2e-3}\n  latents", "lr: 1e30, gradient_clip: 0}\n  latents")
    )
    store, stages = prepared(small_spec, tmp_path, 0)
    with pytest.raises(DivergedError, match="no longer finite"):
        run(str(stages["tokenizer"][1].path), progress_seconds=0.0)
    status = store.status(stages["tokenizer"][0])
    assert (status.state, status.cause) == (StageState.failed, "diverged")


def test_a_stage_without_its_parents_says_so(small_spec, tmp_path):
    store, stages = prepared(small_spec, tmp_path, 0)
    with pytest.raises(StoreError, match="not done"):
        run(str(stages["reconstruction"][1].path))
    assert store.status(stages["reconstruction"][0]).state is StageState.failed


def test_a_stage_whose_input_is_cut_short_says_so(small_spec, tmp_path):
    _, stages = prepared(small_spec, tmp_path, 0)
    run(str(stages["tokenizer"][1].path))
    weights = stages["tokenizer"][1].artifacts / "tokenizer.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(StoreError, match="cut short"):
        run(str(stages["reconstruction"][1].path))


def test_progress_lines_are_whole_and_reach_the_end(small_spec, tmp_path):
    _, stages = prepared(small_spec, tmp_path, 0)
    folder = stages["tokenizer"][1]
    run(str(folder.path), progress_seconds=0.0)
    lines = [json.loads(line) for line in Path(folder.progress).read_text().splitlines()]
    assert [line["done"] for line in lines] == list(range(16, 641, 16))
    assert lines[-1]["total"] == 640
    assert lines[-1]["loss"] < lines[0]["loss"]

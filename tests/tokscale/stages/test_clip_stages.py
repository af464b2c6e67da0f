"""Clips through every stage: procedural ones and videos from files, and clips of one frame against images."""

from __future__ import annotations

import json
import math

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.data.latents import open_latents
from tokscale.errors import WeightsError
from tokscale.record import COLUMNS
from tokscale.stage import KINDS
from tokscale.stages import run

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: clips
trial:
  data: {kind: procedural_video, resolution: 16, frames: 4, validation_images: 24}
  tokenizer: {encoder: pico, decoder: pico, patch: 8, tubelet: 2, bottleneck: {kind: kl, channels: 4}}
  training: {images: 128, batch_size: 16, lr: 2e-3}
  latents: {images: 64}
  probe: {size: pico, training: {images: 128, batch_size: 32, lr: 2e-3}}
  linear_probe: {images: 64, epochs: 2, warmup_epochs: 1, batch_size: 16}
  evaluation: {pictures: 3}
  generation: {images: 20, batch_size: 10}
grid:
  seed: [0]
"""


def run_all(text, folder, only=KINDS):
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder / "clips.yaml"
    spec.write_text(text)
    (trial,) = expand(*load_spec(spec))
    store = Store(folder / "runs")
    stages = {stage.kind: (stage, store.prepare(stage)) for stage in trial.stages if stage.kind in only}
    for _, stage_folder in stages.values():
        run(str(stage_folder.path))
    return {kind: (store.record(stage), stage_folder) for kind, (stage, stage_folder) in stages.items()}, trial


def test_a_trial_of_clips_leaves_a_whole_record_of_every_stage(tmp_path):
    records, trial = run_all(SPEC, tmp_path)
    measures = {kind: record.measures for kind, (record, _) in records.items()}
    for found in measures.values():
        assert set(found) <= set(COLUMNS)
    reconstruction, generation = measures["reconstruction"], measures["generation"]
    assert {"mse", "psnr", "ssim", "rfd", "rfcd", "kl_bits_per_image"} <= set(reconstruction)
    assert {"gfd", "gfcd", "precision", "recall"} <= set(generation)
    assert {"rfvd", "gfvd", "rfid"}.isdisjoint({*reconstruction, *generation})
    assert reconstruction["clip_features"] == generation["clip_features"] == "random-conv3d"
    assert any("random-conv3d" in note for note in records["reconstruction"][0].notes)
    assert measures["probe"]["ar_bits_per_pixel"] == measures["probe"]["ar_bits_per_image"] / (4 * 16 * 16)
    assert set(measures["linear_probe"]) >= {"ar_linear_accuracy", "tokenizer_linear_accuracy"}
    latents = open_latents(records["latents"][1].artifacts)
    assert (latents.spec.grid, latents.spec.tokens) == ((2, 2, 2), 8)
    assert len(latents.train) == 64
    assert trial.sizes["bottleneck_floats"] == 8 * 4
    assert trial.sizes["pixels_per_float"] == 4 * 16 * 16 * 3 / 32
    assert measures["tokenizer"]["train_images"] == 128
    for kind, name, rows in (("reconstruction", "reconstructions.png", 3), ("generation", "samples.png", 3)):
        with Image.open(records[kind][1].artifacts / name) as picture:
            assert picture.size == (4 * 16, rows * 16), "a row for each clip"


def test_the_kl_of_a_clip_is_that_of_all_its_tokens(tmp_path):
    records, _ = run_all(SPEC, tmp_path, only=("tokenizer", "reconstruction", "latents"))
    latents = open_latents(records["latents"][1].artifacts).validation.batch(range(24))
    mean, logvar = latents["mean"].double(), latents["logvar"].double()
    nats = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2)).mean()
    expected = float(nats) / math.log(2)
    assert records["reconstruction"][0].measures["kl_bits_per_image"] == pytest.approx(expected, rel=1e-4)


def test_clips_of_one_frame_train_to_the_bits_of_images(tmp_path):
    """The same frames from the same stream: weights, measures and codes do not tell them apart."""
    base = SPEC.replace("tubelet: 2, ", "").replace("frames: 4, ", "frames: 1, ")
    base = base.replace("kind: kl, channels: 4", "kind: fsq, levels: [4, 4]")
    images = base.replace("kind: procedural_video, resolution: 16, frames: 1,", "kind: procedural, resolution: 16,")
    (clips, _), (pictures, _) = run_all(base, tmp_path / "clips"), run_all(images, tmp_path / "images")
    for kind, name in (("tokenizer", "tokenizer.safetensors"), ("probe", "probe.safetensors")):
        one, other = (load_file(records[kind][1].artifacts / name) for records in (clips, pictures))
        assert one.keys() == other.keys()
        assert all((one[key] == other[key]).all() for key in one)
    for kind in ("reconstruction", "probe", "generation", "linear_probe"):
        one, other = (
            {key: value for key, value in records[kind][0].measures.items()
             if not key.endswith("seconds") and key not in ("reference", "dataset")}
            for records in (clips, pictures)
        )  # fmt: skip
        assert one == other


def test_perceptual_and_adversarial_losses_see_frames(tmp_path):
    losses = "{perceptual: {kind: random-vgg, weight: 0.5}, gan: {weight: 0.1, discriminator: {width: 4, depth: 1}}}"
    watched = "probe_every: 64, probe: {size: pico, images: 16, epochs: 1}"
    text = SPEC.replace("  training: {images: 128,", f"  losses: {losses}\n  training: {{{watched}, images: 128,", 1)
    records, _ = run_all(text, tmp_path, only=("tokenizer",))
    record, folder = records["tokenizer"]
    last = json.loads(folder.progress.read_text().splitlines()[-1])
    assert {"perceptual", "gan", "discriminator", "reconstruction", "probe_loss"} <= last.keys()
    assert not any("batch norm" in note for note in record.notes), "16 clips of 4 frames are whole groups of 16"


def test_a_diffusion_probe_takes_clips_and_measures_them_at_every_scale(tmp_path):
    probe = "probe: {kind: diffusion, size: pico, training: {images: 128, batch_size: 32, lr: 2e-3}}"
    text = SPEC.replace("probe: {size: pico, training: {images: 128, batch_size: 32, lr: 2e-3}}", probe).replace(
        "generation: {images: 20,", "generation: {images: 20, sampler_steps: 3, cfg_scales: [1, 2],")  # fmt: skip
    text = text.replace("  linear_probe: {images: 64, epochs: 2, warmup_epochs: 1, batch_size: 16}\n", "")
    records, _ = run_all(text, tmp_path)
    generation = records["generation"][0].measures
    assert {"gfcd", "gfcd_cfg1", "gfcd_cfg2", "gfd_cfg1"} <= generation.keys()
    assert generation["gfcd"] == generation[f"gfcd_cfg{generation['cfg_scale']:g}"]
    with Image.open(records["generation"][1].artifacts / "samples_cfg2.png") as picture:
        assert picture.size == (4 * 16, 3 * 16)


def test_a_decoder_of_clips_can_be_trained_on(tmp_path):
    gan = "{weight: 0.1, start: 0, discriminator: {kind: patchgan, width: 4, depth: 1}}"
    section = f"""\
  decoder_finetune:
    training: {{images: 64, batch_size: 16, lr: 1e-3}}
    losses: {{perceptual: {{kind: random-vgg}}, gan: {gan}}}
"""
    text = SPEC.replace("  latents: {images", f"{section}  latents: {{images", 1)
    records, _ = run_all(text, tmp_path, only=("tokenizer", "decoder_finetune", "reconstruction"))
    record, folder = records["decoder_finetune"]
    assert record.measures["finetune_images"] == 64
    assert {"perceptual", "gan", "discriminator"} <= json.loads(folder.progress.read_text().splitlines()[-1]).keys()
    assert {"psnr", "rfcd"} <= records["reconstruction"][0].measures.keys()


def test_i3d_is_asked_for_in_one_message_where_it_is_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    text = SPEC.replace("frames: 4", "frames: 10").replace("{pictures: 3}", "{clip_features: i3d}")
    with pytest.raises(WeightsError, match="clip_features needs the weights i3d"):
        run_all(text, tmp_path)


def test_videos_from_files_go_through_the_stages_and_bad_ones_are_counted(tmp_path):
    generator = np.random.default_rng(0)
    for kind in ("run", "walk"):
        for number in range(8):
            path = tmp_path / "videos" / kind / f"{number}.mkv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(path), "w") as container:
                stream = container.add_stream("ffv1", rate=10)
                stream.width, stream.height, stream.pix_fmt = 24, 18, "bgr0"
                for _ in range(6):
                    picture = generator.integers(0, 256, (18, 24, 3), np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode(None))
    for split in range(40):
        (tmp_path / "videos" / "run" / f"bad{split}.mp4").write_bytes(b"no video")
    data = f"{{kind: video_folder, root: {tmp_path / 'videos'}, resolution: 16, frames: 4, validation_fraction: 0.4}}"
    text = SPEC.replace("{kind: procedural_video, resolution: 16, frames: 4, validation_images: 24}", data)
    records, _ = run_all(text.replace("latents: {images: 64}", "latents: {augment: flip}"), tmp_path)
    reconstruction, latents = records["reconstruction"][0], records["latents"][0]
    assert reconstruction.measures["skipped_files"] > 0
    assert latents.measures["skipped_files"] == 40
    assert sum("not a video that can be decoded" in note for note in latents.notes) == 40
    assert reconstruction.measures["dataset"] == "video_folder"

"""Columns of the results table, and the record: the JSON evidence that a stage leaves when it is done.

A record exists if and only if its stage is done. It is written last, to a temporary name, flushed to disk and renamed,
so a reader sees a whole record or none, whatever was killed and whenever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tokscale.columns import Column, Columns
from tokscale.errors import StoreError

SCHEMA = 1
RECORD_NAME = "record.json"


COLUMNS = Columns(
    Column("sweep", "identity", "Sweep"),
    Column("trial", "identity", "Trial", definition="hash of the trial's complete resolved config"),
    Column("label", "identity", "Tokenizer", definition="encoder-decoder/patch, tokens and bottleneck, for people"),
    Column("status", "identity", "Status", definition="done, or what the trial's least advanced stage is"),
    Column("seed", "identity", "Seed"),
    Column("encoder", "identity", "Encoder"),
    Column("decoder", "identity", "Decoder"),
    Column("bottleneck", "identity", "Bottleneck"),
    Column("layout", "identity", "Layout",
           definition="what latent tokens stand for: patches, tubelets of some frames, learned latent tokens, "
           "GigaTok's 2d or 1d; and whether tails were masked"),
    Column("dataset", "identity", "Data set"),
    Column("features", "identity", "Features",
           definition="the network behind every Fréchet distance of the row, or several, joined by +"),
    Column("clip_features", "identity", "Clip features", definition="the network behind Fréchet distances of clips"),
    Column("reference", "identity", "Reference set", definition="what Fréchet distances are measured against"),
    Column("generation_reference", "identity", "Reference set of samples",
           definition="what those of generated images are measured against, where that is another than `reference`"),
    Column("encoder_params", "size", "Encoder parameters"),
    Column("decoder_params", "size", "Decoder parameters"),
    Column("tokenizer_params", "size", "Tokenizer parameters"),
    Column("training_only_params", "size", "Training-only parameters"),
    Column("finetune_only_params", "size", "Training-only parameters of the second stage"),
    Column("probe_params", "size", "Probe parameters"),
    Column("bottleneck_tokens", "size", "Bottleneck tokens L"),
    Column("bottleneck_channels", "size", "Bottleneck channels c"),
    Column("bottleneck_floats", "size", "Bottleneck floats E = L x c"),
    Column("bottleneck_bits", "size", "Bottleneck bits L log2 K", "bits"),
    Column("codebook_size", "size", "Codebook size K"),
    Column("classes", "identity", "Classes", definition="classes of the data set, among which linear probes choose"),
    Column("pixels_per_float", "size", "Pixels per float", definition="T x H x W x 3 / E: a pixel counts three times"),
    Column("floats_per_pixel", "size", "Bottleneck floats per pixel", definition="E / (T x H x W)"),
    Column("train_images", "budget", "Training images"),
    Column("train_flops", "budget", "Training FLOPs"),
    Column("finetune_images", "budget", "Training images of the second stage",
           definition="that the decoder alone was trained on, with the rest frozen; no part of `train_images`"),
    Column("finetune_flops", "budget", "Training FLOPs of the second stage",
           definition="no part of `train_flops`, which trials that stand on one tokenizer share"),
    Column("gpu_seconds", "budget", "GPU time", "s"),
    Column("wall_seconds", "budget", "Wall time", "s"),
    Column("mse", "measure", "MSE", "", "lower", "mean squared error of 8-bit images scaled to [0, 1]"),
    Column("psnr", "measure", "PSNR", "dB", "higher", "mean over images of the peak signal-to-noise ratio at 8 bits"),
    Column("ssim", "measure", "SSIM", "", "higher", "structural similarity, 11 x 11 Gaussian window"),
    Column("lpips", "measure", "LPIPS", "", "lower", "VGG16 perceptual distance with the published weights"),
    Column("rfid", "measure", "rFID", "", "lower", "Fréchet Inception distance of reconstructions"),
    Column("rfdd", "measure", "rFDD", "", "lower", "Fréchet distance of reconstructions in DINOv2's class token"),
    Column("rfd", "measure", "rFD", "", "lower", "Fréchet distance of reconstructions in `features`"),
    Column("ris", "measure", "rIS", "", "higher", "Inception score of reconstructions"),
    Column("rfvd", "measure", "rFVD", "", "lower", "Fréchet video distance of reconstructed clips, in I3D"),
    Column("rfcd", "measure", "rFCD", "", "lower", "Fréchet distance of reconstructed clips in `clip_features`"),
    Column("kl_bits_per_image", "measure", "KL to the prior", "bits/image", "lower",
           "KL divergence of the posterior from the standard normal prior"),
    Column("codebook_usage", "measure", "Codebook usage", "", "higher", "share of codes seen on the validation set"),
    Column("codebook_entropy", "measure", "Codebook entropy", "bits", "higher", "entropy of the code histogram"),
    Column("ar_loss", "measure", "AR probing loss", "nats/token", "lower",
           "validation loss of the AR probe; comparable only at equal vocabulary and length"),
    Column("ar_bits_per_image", "measure", "AR rate", "bits/image", "lower",
           "rate of the tokenizer under its probe: L x ar_loss / ln 2, or E[log2 q(z|x) - log2 p(z)] for KL"),
    Column("ar_bits_per_pixel", "measure", "AR rate", "bits/pixel", "lower",
           "ar_bits_per_image / (H x W), of clips / (T x H x W)"),
    Column("diffusion_loss", "measure", "Diffusion loss", "", "lower",
           "validation loss of the diffusion probe's objective; comparable only at equal objective and latents' shape"),
    Column("gfid", "measure", "gFID", "", "lower", "Fréchet Inception distance of generated images"),
    Column("gfdd", "measure", "gFDD", "", "lower", "Fréchet distance of generated images in DINOv2's class token"),
    Column("gfd", "measure", "gFD", "", "lower", "Fréchet distance of generated images in `features`"),
    Column("gfid_inf", "measure", "gFID, extrapolated", "", "lower",
           "gFID as a line in 1 / images has it for infinitely many"),
    Column("gfdd_inf", "measure", "gFDD, extrapolated", "", "lower",
           "gFDD as a line in 1 / images has it for infinitely many"),
    Column("gfd_inf", "measure", "gFD, extrapolated", "", "lower",
           "gFD as a line in 1 / images has it for infinitely many"),
    Column("gis", "measure", "gIS", "", "higher", "Inception score of generated images"),
    Column("precision", "measure", "Precision", "", "higher", "in the features of the first of several networks"),
    Column("recall", "measure", "Recall", "", "higher", "in the features of the first of several networks"),
    Column("gfvd", "measure", "gFVD", "", "lower", "Fréchet video distance of generated clips, in I3D"),
    Column("gfcd", "measure", "gFCD", "", "lower", "Fréchet distance of generated clips in `clip_features`"),
    Column("cfg_scale", "identity", "CFG scale", definition="classifier-free guidance of the generated images"),
    Column("teacher_accuracy", "measure", "Stand-in teacher accuracy", "", "higher",
           "share of validation images whose class the classifier names that stands in for a pretrained teacher"),
    Column("ar_linear_accuracy", "measure", "AR linear accuracy", "", "higher",
           "top-1 accuracy of a linear classifier on the AR probe's middle block, without the class"),
    Column("diffusion_linear_accuracy", "measure", "Diffusion linear accuracy", "", "higher",
           "top-1 accuracy of a linear classifier on the diffusion probe's middle block, without the class"),
    Column("tokenizer_linear_accuracy", "measure", "Tokenizer linear accuracy", "", "higher",
           "top-1 accuracy of a linear classifier on the encoder's latents before quantisation"),
    Column("skipped_files", "budget", "Skipped files", "", "lower", "files of the data set that could not be read"),
    Column("pictures", "identity", "Reconstructions", definition="picture of reconstructions, below the runs folder"),
    Column("originals", "identity", "Originals", definition="picture of the originals, below the runs folder"),
    Column("samples", "identity", "Samples", definition="picture of probe samples, below the runs folder"),
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What a finished stage leaves: what it was, what it measured, what it wrote, and where it ran."""

    kind: str
    id: str
    config: dict[str, Any]
    parents: dict[str, str]
    measures: dict[str, float | int | str]
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    schema: int = SCHEMA


def write_record(folder: Path, record: Record) -> Path:
    """Write ``record.json`` into a stage's folder, atomically and durably; a measure that is not finite is refused."""
    for name, value in record.measures.items():
        assert name in COLUMNS, f"{name} is not a column of the results table"
        if isinstance(value, float) and not math.isfinite(value):
            raise StoreError(
                f"{record.kind} stage measured {name} = {value}",
                where=str(folder),
                allowed="finite numbers: a measure that cannot be taken is left out",
            )
    path = folder / RECORD_NAME
    write_atomically(path, json.dumps(asdict(record), indent=1, allow_nan=False).encode())
    return path


def read_record(folder: Path) -> Record | None:
    """The record of a stage's folder, or None if the stage is not done; a damaged record raises ``StoreError``."""
    path = folder / RECORD_NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse_record(text, where=str(path))


def parse_record(text: bytes, *, where: str) -> Record:
    """The record that a file holds; ``where`` names the file in the ``StoreError`` that a damaged one raises."""
    try:
        fields = json.loads(text)
        record = Record(**fields)
        for name, expected in (("config", dict), ("parents", dict), ("measures", dict), ("artifacts", dict),
                               ("provenance", dict), ("notes", list), ("schema", int)):  # fmt: skip
            if not isinstance(getattr(record, name), expected):
                raise TypeError(f"{name} is no {expected.__name__}")
    except (ValueError, TypeError) as error:
        raise StoreError(
            "a record is damaged", where=where, given=str(error),
            allowed="remove the file to have the stage run again",
        ) from error  # fmt: skip
    if record.schema > SCHEMA:
        raise StoreError(
            "a record was written by a newer tokscale", where=where, given=f"schema {record.schema}",
            allowed=f"schema {SCHEMA} or less",
        )  # fmt: skip
    return record


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk sees the old content or the new one, never a part.

    Raises ``StoreError`` when the folder cannot be written or has no room.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The message for a write that the file system refused."""
    return StoreError(
        f"cannot write {path.name}: {error.strerror or error}", where=str(path.parent),
        allowed="a folder with free space and write permission (choose another with --runs or TOKSCALE_RUNS)",
    )  # fmt: skip


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as records keep them of artifacts."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return {"bytes": path.stat().st_size, "sha256": hasher.hexdigest()}

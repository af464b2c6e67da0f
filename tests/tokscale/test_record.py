"""Records: whole or absent, whatever happens; and the columns of the results table, frozen."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokscale.columns import at_scale, without_scale
from tokscale.errors import StoreError
from tokscale.record import COLUMNS, Record, digest, read_record, write_atomically, write_record

COLUMN_NAMES = """
    sweep trial label status seed encoder decoder bottleneck layout dataset features clip_features reference
    generation_reference encoder_params decoder_params tokenizer_params training_only_params finetune_only_params
    probe_params bottleneck_tokens bottleneck_channels bottleneck_floats bottleneck_bits codebook_size classes
    pixels_per_float floats_per_pixel train_images train_flops finetune_images finetune_flops gpu_seconds wall_seconds
    mse psnr ssim lpips rfid rfdd rfd ris rfvd rfcd kl_bits_per_image codebook_usage codebook_entropy ar_loss
    ar_bits_per_image ar_bits_per_pixel diffusion_loss gfid gfdd gfd gfid_inf gfdd_inf gfd_inf gis precision recall
    gfvd gfcd cfg_scale teacher_accuracy ar_linear_accuracy diffusion_linear_accuracy tokenizer_linear_accuracy
    skipped_files pictures originals samples
"""


def record(**changes):
    fields = {
        "kind": "probe",
        "id": "ab",
        "config": {"seed": 0},
        "parents": {"latents": "cd"},
        "measures": {"psnr": 3.5},
    }
    return Record(**{**fields, **changes})


def test_the_columns_are_a_frozen_surface():
    assert list(COLUMNS) == COLUMN_NAMES.split()


def test_a_measure_at_a_scale_of_guidance_is_a_column_that_nobody_lists():
    assert [at_scale(name, scale) for name, scale in (("gfid", 1.5), ("gis", 3.0), ("gfd", 1.25))] == [
        "gfid_cfg1.5", "gis_cfg3", "gfd_cfg1.25",
    ]  # fmt: skip
    column = COLUMNS["gfid_cfg1.5"]
    assert (column.name, column.axis) == ("gfid_cfg1.5", "gFID at CFG 1.5")
    assert (column.better, column.kind) == ("lower", "measure")
    assert COLUMNS.get("precision_cfg2").label == "Precision at CFG 2"
    for name in ("psnr_cfg2", "gfid_cfg", "gfid_cfgx", "gfid_cfg1.", "cfg_scale_cfg1"):
        assert name not in COLUMNS
    assert "gfid_cfg1.5" not in list(COLUMNS)
    assert [without_scale(name) for name in ("gfid_cfg1.5", "gfid", "psnr_cfg2")] == ["gfid", "gfid", "psnr_cfg2"]


def test_columns_of_a_table_stand_in_order_with_scales_after_their_measure():
    given = ["gis_cfg3", "gfid_cfg10", "probe.kind", "gfid_cfg1.5", "gis", "sweep", "gfid", "gfid_cfg3"]
    assert COLUMNS.among(given) == ["sweep", "gfid", "gfid_cfg1.5", "gfid_cfg3", "gfid_cfg10", "gis", "gis_cfg3"]


def test_a_record_comes_back_as_it_was(tmp_path):
    written = record(notes=["features are a stand-in"], artifacts={"a": {"bytes": 1, "sha256": "x"}})
    write_record(tmp_path, written)
    assert read_record(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_an_unfinished_stage_has_no_record(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "absent") is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measure_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path, value):
    with pytest.raises(StoreError, match="psnr"):
        write_record(tmp_path, record(measures={"psnr": value}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"kind": "probe"}', b'{"unknown": 1}'])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "record.json").write_bytes(text)
    with pytest.raises(StoreError, match=r"record\.json"):
        read_record(tmp_path)


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    write_record(tmp_path, record(schema=99))
    with pytest.raises(StoreError, match="newer"):
        read_record(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


LIMITED = """
import resource, sys
from pathlib import Path
from tokscale.errors import StoreError
from tokscale.record import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path(sys.argv[1]), b"x" * 5000)
except StoreError as error:
    print(error)
"""


def test_a_disk_that_refuses_more_bytes_is_one_message(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert "cannot write file: File too large" in done.stdout
    assert "--runs" in done.stdout
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_place_that_is_no_folder_is_one_message():
    with pytest.raises(StoreError, match="cannot write"):
        write_atomically(Path("/dev/null/file"), b"x")


WRITER = """
import sys
from pathlib import Path
from tokscale.record import write_atomically
n = 0
while True:
    write_atomically(Path(sys.argv[1]), (f"{n % 10}" * 200_000).encode())
    n += 1
"""


def test_kill_9_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    for round_ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.03 + 0.017 * round_)
        writer.kill()
        writer.wait()
        content = path.read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_a_digest_is_the_files_own(tmp_path):
    import hashlib

    content = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(content)
    assert digest(tmp_path / "file") == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

"""What a stage says of inputs that do not belong together: one message, before any work is lost."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.config import TrialConfig
from tokscale.data.latents import LatentSpec
from tokscale.errors import DataError, StoreError
from tokscale.parsing import parse
from tokscale.record import read_record
from tokscale.stage import stages_of
from tokscale.stages import run
from tokscale.stages.probe import WEIGHTS, check_same_tokens, load_probe

VQ = 2  # of the small sweep's trials


@pytest.fixture
def folders(small_spec, tmp_path):
    """Folders of a trial's stages, whose tokenizer and latents are done."""
    text = small_spec.read_text().replace("images: 640", "images: 32").replace("images: 320", "images: 32")
    small_spec.write_text(text)
    store = Store(tmp_path / "runs")
    folders = {stage.kind: store.prepare(stage) for stage in expand(*load_spec(small_spec))[VQ].stages}
    for kind in ("tokenizer", "latents"):
        run(str(folders[kind].path))
    return folders


def test_a_probe_refuses_token_files_of_another_vocabulary(folders):
    path = folders["latents"].artifacts / "train.indices.npy"
    tokens = np.load(path)
    tokens[5, 3] = 32
    np.save(path, tokens)
    with pytest.raises(StoreError, match=r"another vocabulary.*\n.*train.indices.npy\n.*code 32 of 32"):
        run(str(folders["probe"].path))


def test_a_probe_refuses_a_token_file_that_is_cut_short(folders):
    path = folders["latents"].artifacts / "train.indices.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(StoreError, match=r"missing or cut short\n.*train.indices.npy"):
        run(str(folders["probe"].path))


def test_a_probe_of_one_vocabulary_is_refused_on_tokens_of_another(folders):
    run(str(folders["probe"].path))
    path = folders["probe"].artifacts / WEIGHTS
    weights = load_file(path)
    weights["tokens.head.weight"] = weights["tokens.head.weight"][:16].clone()
    save_file(weights, path)
    record = read_record(folders["probe"].path)
    with pytest.raises(StoreError, match=r"do not fit the latents.*\n.*\n.*\(16, 32\)\n.*\(32, 32\), for 16 tokens"):
        load_probe(record, folders["probe"], "cpu")


def test_a_probe_of_other_tokens_than_the_tokenizers_is_one_message():
    spec = LatentSpec("discrete", (4, 4), 16, 4, 32)
    check_same_tokens(spec, spec, "here")
    for other in (LatentSpec("discrete", (4, 4), 16, 4, 64), LatentSpec("discrete", (1, 16), 16, 4, 32)):
        with pytest.raises(
            StoreError, match=r"other tokens than the tokenizer has\n.*here\n.*16 tokens \(4 x 4\) of 32"
        ):
            check_same_tokens(spec, other, "here")


def test_a_codebook_larger_than_the_images_can_fill_is_refused_before_training(tmp_path):
    for split, count in (("train", 40), ("val", 32)):
        for label in ("a", "b"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(count // 2):
                Image.new("RGB", (16, 16), (number, 0, 0)).save(folder / f"{number}.png")
    trial = parse(TrialConfig, {
        "data": {"kind": "image_folder", "root": str(tmp_path / "images"), "resolution": 16},
        "tokenizer": {"encoder": "pico", "decoder": "pico", "patch": 8, "bottleneck": {"kind": "lfq", "bits": 8}},
        "training": {"images": 400, "batch_size": 8}, "probe": None,
    })  # fmt: skip
    folder = Store(tmp_path / "runs").prepare(stages_of(trial)[0])
    with pytest.raises(DataError, match=r"larger than the data can fill\n(.*\n)*.*256 codes, 40 images of 4 tokens"):
        run(str(folder.path))
    assert not folder.checkpoints.exists()

"""Compiled blocks train as plain ones do, up to rounding, and are compiled once for all steps."""

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.config import VitTokenizer
from tokscale.errors import ConfigError
from tokscale.models.tokenizer import build_tokenizer
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.training.compiling import compile_blocks

SPEC = """\
name: compiled
trial:
  data: {kind: procedural, resolution: 16, validation_images: 64}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, bottleneck: {kind: kl, channels: 4}}
  training: {images: 64, batch_size: 8, lr: 1.0e-3}
  probe: null
"""
CPU = torch.device("cpu")


@pytest.mark.filterwarnings("default")  # torch's compiler sets off warnings of torch's own
@pytest.mark.usefixtures("one_thread")
def test_a_compiled_training_is_the_plain_one_up_to_rounding(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "compiled.yaml"
    path.write_text(SPEC)
    (stage,) = [one for one in expand(*load_spec(path))[0].stages if one.kind == "tokenizer"]
    folders = {compiled: Store(tmp_path / f"runs {compiled}").prepare(stage) for compiled in (False, True)}
    counters.clear()
    for compiled, folder in folders.items():
        run(str(folder.path), compile=compiled)
    # Encoder and decoder have blocks of one size: one graph serves both, and all eight steps.
    assert counters["stats"]["unique_graphs"] == 1
    plain, ours = (load_file(folder.artifacts / "tokenizer.safetensors") for folder in folders.values())
    assert list(plain) == list(ours)
    moved = build_tokenizer(VitTokenizer.model_validate(stage.config["tokenizer"]), 16).state_dict()
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)
        assert not value.ndim > 1 or not torch.equal(value, moved[name]), "it was trained"
    notes = [read_record(folder.path).notes for folder in folders.values()]
    assert [any("compiled" in note for note in each) for each in notes] == [False, True]


def test_names_of_weights_stay_and_blocks_are_counted():
    tokenizer = build_tokenizer(VitTokenizer(encoder="pico", decoder="micro", patch=4), 16)
    names = list(tokenizer.state_dict())
    assert compile_blocks(tokenizer, CPU, backend="eager") == 1 + 2
    assert list(tokenizer.state_dict()) == names


def test_without_a_compiler_the_run_is_refused_before_it_begins(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="blocks cannot be compiled") as refused:
        compile_blocks(torch.nn.Linear(1, 1), CPU)
    assert "no C++ compiler no-such-compiler" in str(refused.value)

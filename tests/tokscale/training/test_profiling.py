"""Profiles of stages: FLOPs as the formulas have them, waits that are there, and results as without."""

import contextlib
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale import cost
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.training.counting import Counting
from tokscale.training.profiling import RECORDED, Findings, Operation, StageProfile, matrix_product_flops

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: profiled
trial:
  data: {kind: procedural, resolution: 16, validation_images: 2048}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, bottleneck: {kind: kl, channels: 4}}
  training: {images: STEPS, batch_size: 8}
  probe: null
"""


@pytest.fixture
def prepared(tmp_path):
    """Makes the stages of a trial of so many training steps, ready to run."""

    def prepare(name, steps=20):
        path = tmp_path / f"{name}.yaml"
        path.write_text(SPEC.replace("STEPS", str(8 * steps)))
        trial = expand(*load_spec(path))[0]
        store = Store(tmp_path / name)
        return trial, {stage.kind: store.prepare(stage) for stage in trial.stages}

    return prepare


def profile_of(folder):
    return folder.path / "attempts" / "01" / "profile"


def test_a_training_is_seen_and_comes_out_the_same(prepared, capsys):
    trial, folders = prepared("seen")
    run(str(folders["tokenizer"].path), profile=True)
    found = json.loads((profile_of(folders["tokenizer"]) / "profile.json").read_text())
    each = cost.tokenizer_training_flops(trial.config) / trial.config.training.images
    assert found["flops"] == pytest.approx(8 * each, rel=0.03)  # no gradient goes back to the pixels
    assert (found["steps"], found["images"]) == (RECORDED, 8)
    assert {"aten::mm", "aten::addmm"} & {operation["name"] for operation in found["operations"]}
    assert (profile_of(folders["tokenizer"]) / "trace.json.gz").stat().st_size > 1000
    page = (profile_of(folders["tokenizer"]) / "profile.txt").read_text()
    assert page in capsys.readouterr().out  # so that the stage's log has it
    assert any("profiler" in note for note in read_record(folders["tokenizer"].path).notes)
    _, plain = prepared("plain")
    run(str(plain["tokenizer"].path))
    ours, theirs = (load_file(one["tokenizer"].artifacts / "tokenizer.safetensors") for one in (folders, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not profile_of(plain["tokenizer"]).exists()


def test_a_stage_that_measures_is_seen_pass_by_pass(prepared, monkeypatch):
    _, folders = prepared("measured", steps=2)
    monkeypatch.setenv("TOKSCALE_PROFILE", "1")
    run(str(folders["tokenizer"].path))
    assert not profile_of(folders["tokenizer"]).exists(), "two steps leave none to record"
    run(str(folders["reconstruction"].path))
    found = json.loads((profile_of(folders["reconstruction"]) / "profile.json").read_text())
    assert found["steps"] > 0
    assert found["flops"] > 0
    assert found["images"] is None


def test_the_loop_of_a_training_does_not_wait_for_numbers(prepared):
    _, folders = prepared("waits")
    run(str(folders["tokenizer"].path), profile=True, progress_seconds=1e9, checkpoint_seconds=1e9)
    found = json.loads((profile_of(folders["tokenizer"]) / "profile.json").read_text())
    assert found["waits"] == {}


def test_what_reads_a_number_in_every_step_is_caught(tmp_path):
    profile = StageProfile(tmp_path, "errand", torch.device("cpu"), trains=True)
    for _ in range(20):
        torch.ones(3).sum().item()
        profile.passed()  # not what counts here
        profile.step()
    profile.close()
    found = json.loads((tmp_path / "profile.json").read_text())
    assert found["waits"] == {"numbers read": 1.0}


@pytest.mark.parametrize("gradients", [True, False])
def test_flops_are_counted_as_torch_counts_them(gradients):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Flatten(2), nn.Linear(64, 16))
    images = torch.randn(2, 3, 16, 16)

    def work():
        with contextlib.nullcontext() if gradients else torch.inference_mode():
            x = model(images)
            x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])
            if gradients:
                x.sum().backward()
        return x

    ours = Counting()
    counted = work()
    ours.off()
    assert torch.equal(counted, work())
    convolution, line, attention = 2 * 2 * 64 * 8 * 27, 2 * 2 * 8 * 64 * 16, 2 * 2 * 2 * 8 * 8 * 16
    passes = 3 if gradients else 1
    first = convolution * (passes - gradients)  # no gradient goes back to the pixels
    assert ours.flops == first + passes * (line + attention)


def test_the_page_says_the_share_of_a_matrix_product():
    found = Findings("a processor, 1 threads", 10, 50.0, 16, 10**9, 4e10, {"aten::item": 2.0}, None,
                     [Operation("aten::mm", 12.0, 30.0), Operation("aten::add", 3.0, 10.0)])  # fmt: skip
    page = found.page("tokenizer/abc")
    assert "2e+10, 50.0% of a matrix product's 4e+10" in page
    assert "images a second   320" in page
    assert "75.0%" in page
    assert page.index("aten::mm") < page.index("aten::add")


def test_a_matrix_product_is_counted_with_two_flops_a_multiplication():
    assert 1e8 < matrix_product_flops(torch.device("cpu"), "fp32") < 1e13

"""Stages of ten steps that are ready to run, and when the weights of two layouts are the same."""

import pytest
import torch
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.errors import StoppedError
from tokscale.stages import run
from tokscale.training.callbacks import Budget

# Layouts differ in the order of sums. Adam makes of the difference, for a gradient near zero, up to a step's length.
# AdamW lets a weight whose gradient is about nothing go by the gradient's rounding; a step is up to 2e-3.
CLOSE = {"rtol": 1e-5, "atol": 5e-5}
CASES = {
    "kl": (0, "tokenizer"),
    "fsq": (1, "tokenizer"),
    "vq": (2, "tokenizer"),
    "probe": (0, "probe"),
    "diffusion": (0, "probe"),
}
CHANGES = {
    "images: 640,": "images: 160,",
    "images: 320,": "images: 160,",
    "probe: {size: pico,": "probe: {size: pico, dropout: 0,",  # its masks are the one thing that a layout changes
    "revive_after: 10": "revive_after: 3",
}


@pytest.fixture
def prepared(small_spec, tmp_path):
    """Makes a stage of a case in a store of its own, ready to run."""
    text = small_spec.read_text()
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    small_spec.write_text(text)

    def prepare(name, case="kl"):
        if case == "diffusion":  # of the continuous tokenizer alone
            lines = text.replace("size: pico, dropout: 0", "kind: diffusion, size: pico").splitlines()
            small_spec.write_text("\n".join(line for line in lines if "fsq" not in line and "vq" not in line))
        number, kind = CASES[case]
        trial = expand(*load_spec(small_spec))[number]
        store = Store(tmp_path / name)
        folders = {stage.kind: store.prepare(stage) for stage in trial.stages}
        for earlier in ("tokenizer", "latents"):
            if earlier == kind:
                break
            run(str(folders[earlier].path))
        return folders[kind]

    return prepare


@pytest.fixture(scope="session")
def assert_close():
    """Asserts that two stages of one config left the same weights, up to rounding."""

    def compare(folder, expected):
        ours, theirs = (load_file(next(each.artifacts.glob("*.safetensors"))) for each in (folder, expected))
        assert ours.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(
                ours[name], theirs[name], **CLOSE, msg=lambda words, name=name: f"{name}: {words}"
            )

    return compare


class FourSteps(Budget):
    """Asks to stop after four steps."""

    def on_train_batch_end(self, trainer, task, *rest):
        super().on_train_batch_end(trainer, task, *rest)
        if task.step == 4:
            trainer.callbacks[-1].flag.number = 15


@pytest.fixture
def run_four_steps(monkeypatch):
    """Runs a stage's training until a signal stops it after four steps, with a line for each."""

    def start(folder):
        with monkeypatch.context() as patched:
            patched.setattr("tokscale.training.loop.Budget", FourSteps)
            with pytest.raises(StoppedError):
                run(str(folder.path), progress_seconds=0.0)

    return start

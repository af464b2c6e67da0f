"""A batch in several passes is the batch in one: same gradients, same random numbers, same step."""

import json

import pytest
import torch

from tokscale.bottlenecks.draws import BLOCK, Draws
from tokscale.errors import StoppedError
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.training.callbacks import Budget

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICE = torch.device("cpu")


@pytest.mark.parametrize("case", ["kl", "fsq", "vq", "probe"])
def test_passes_of_any_size_give_the_weights_of_one(prepared, assert_close, case):
    whole = prepared("whole", case)
    run(str(whole.path), progress_seconds=0.0)
    for micro_batch in (8, 4, 5):
        folder = prepared(str(micro_batch), case)
        run(str(folder.path), micro_batch=micro_batch, progress_seconds=0.0)
        assert_close(folder, whole)
        assert read_record(folder.path).provenance["micro_batch"] == micro_batch
        lines, expected = ([json.loads(line) for line in each.progress.read_text().splitlines()]
                           for each in (folder, whole))  # fmt: skip
        for name in expected[-1].keys() - {"time", "per_second"}:
            assert lines[-1][name] == pytest.approx(expected[-1][name], rel=2e-3), name


def test_bf16_takes_micro_batches_too(prepared, small_spec):
    small_spec.write_text(small_spec.read_text().replace("lr: 2e-3}", "lr: 2e-3, precision: bf16}"))
    last = []
    for micro_batch in (None, 4):
        folder = prepared(str(micro_batch))
        run(str(folder.path), micro_batch=micro_batch)
        last.append(json.loads(folder.progress.read_text().splitlines()[-1]))
    assert last[1]["loss"] == pytest.approx(last[0]["loss"], rel=0.01)
    assert last[1]["gradient_norm"] == pytest.approx(last[0]["gradient_norm"], rel=0.05)


@pytest.mark.parametrize("case", ["kl", "vq", "probe"])
def test_a_run_goes_on_with_another_micro_batch(prepared, assert_close, monkeypatch, case):
    class Stop(Budget):
        def on_train_batch_end(self, trainer, task, *rest):
            super().on_train_batch_end(trainer, task, *rest)
            if task.step == 5:
                trainer.callbacks[-1].flag.number = 15

    unbroken, broken = prepared("unbroken", case), prepared("broken", case)
    run(str(unbroken.path))
    with monkeypatch.context() as patched:
        patched.setattr("tokscale.training.loop.Budget", Stop)
        with pytest.raises(StoppedError):
            run(str(broken.path), micro_batch=8)
    run(str(broken.path), micro_batch=4)
    assert_close(broken, unbroken)


@pytest.mark.parametrize("first", [0, 3, BLOCK, 2 * BLOCK - 1])
@pytest.mark.parametrize("count", [1, BLOCK, 2 * BLOCK + 3])
def test_an_images_numbers_do_not_depend_on_its_neighbours(first, count):
    whole, part = Draws(17), Draws(17, first)
    for draw in ("normal", "uniform"):
        expected = getattr(whole, draw)("x", (5 * BLOCK, 3, 2), DEVICE)[first : first + count]
        assert torch.equal(getattr(part, draw)("x", (count, 3, 2), DEVICE), expected)


def test_steps_purposes_and_images_draw_different_numbers():
    rows = torch.cat([Draws(key).normal(purpose, (4 * BLOCK, 3), DEVICE) for key in (1, 2) for purpose in "ab"])
    assert len(rows.unique(dim=0)) == len(rows)
    assert not torch.equal(Draws(1).integers("a", 100, 50, DEVICE), Draws(2).integers("a", 100, 50, DEVICE))
    assert torch.equal(Draws(1).integers("a", 100, 50, DEVICE), Draws(1, 64).integers("a", 100, 50, DEVICE))


def test_numbers_have_the_distributions_they_should():
    normal = Draws(3).normal("x", (256, 400), DEVICE)
    assert normal.mean().item() == pytest.approx(0, abs=5 / 320)
    assert normal.std().item() == pytest.approx(1, abs=5 / 450)
    correlations = torch.corrcoef(normal)[0, 1:]
    assert correlations.abs().max() < 5 / 20
    uniform = Draws(3).uniform("x", (1000,), DEVICE)
    assert uniform.mean().item() == pytest.approx(0.5, abs=5 * 0.29 / 31)
    assert 0 <= uniform.min() < 0.01 < 0.99 < uniform.max() < 1

"""One attempt after another: what each learns from those before it, and when there is no use in one more."""

import json
import shutil
import signal
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale import claim
from tokscale.data.latents import open_latents
from tokscale.errors import CancelledError, DivergedError, MemoryRunOutError, NodeError, NoProgressError, StoppedError
from tokscale.owner import this_process
from tokscale.record import read_record
from tokscale.stages import reconstruction, run, running
from tokscale.training import callbacks
from tokscale.training.tokenizer_task import TokenizerTask


@pytest.fixture
def stages(small_spec, tmp_path):
    """The folders of one short trial's stages, by kind, for stores by name."""
    small_spec.write_text(small_spec.read_text().replace("images: 640,", "images: 160,"))

    def prepare(name):
        trial = expand(*load_spec(small_spec))[0]
        store = Store(tmp_path / name)
        return {stage.kind: store.prepare(stage) for stage in trial.stages}

    return prepare


@pytest.fixture
def folder(stages):
    return stages("runs")["tokenizer"]


@pytest.fixture
def memory(monkeypatch):
    """A device that takes so many images at once and no more."""
    room = {"images": 16}
    losses_of = TokenizerTask.losses_of

    def limited(self, part, draws):
        if len(part[0]) > room["images"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return losses_of(self, part, draws)

    monkeypatch.setattr(TokenizerTask, "losses_of", limited)
    return room


class Interrupted(callbacks.Budget):
    """Sends this process a signal after a step."""

    at = 0

    def on_train_batch_end(self, trainer, task, *arguments):
        super().on_train_batch_end(trainer, task, *arguments)
        if task.step == Interrupted.at:
            signal.raise_signal(signal.SIGTERM)


def outcome(folder):
    return claim.state(folder.path).outcome


def fail(folder, error, **options):
    with pytest.raises(error) as caught:
        run(str(folder.path), **options)
    return caught.value


def forgive(folder):
    path = folder.attempt(claim.state(folder.path).attempt) / "forgiven"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def vanish(folder, at_once):
    """Leave an attempt whose process is gone without a word."""
    owner = {**asdict(this_process(1)), "pid": 2**22 + 1, "token": "another"}
    (folder.path / "claim").mkdir()
    (folder.path / "claim" / "0001").write_text(json.dumps(owner))
    folder.attempt(1).mkdir(parents=True)
    (folder.attempt(1) / "begun.json").write_text(json.dumps({"from": 0, "micro_batch": at_once}))


def test_out_of_memory_halves_until_it_fits_and_changes_nothing_else(stages, folder, memory):
    expected = stages("unlimited")["tokenizer"]
    run(str(expected.path))
    memory["images"] = 5
    for size in (16, 8):
        error = fail(folder, MemoryRunOutError)
        assert error.again
        assert f"{size} images at once" in str(error)
        assert (outcome(folder)["state"], outcome(folder)["cause"]) == ("interrupted", "out of memory")
        assert outcome(folder)["micro_batch"] == size
    run(str(folder.path))
    assert read_record(folder.path).provenance["micro_batch"] == 4
    ours, theirs = (load_file(each.artifacts / "tokenizer.safetensors") for each in (folder, expected))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=2e-5)


def test_a_single_image_that_does_not_fit_is_a_failure_for_good(folder, memory):
    memory["images"] = 0
    tries = [fail(folder, MemoryRunOutError).again for _ in range(6)]
    assert tries == [True, True, True, True, False, False]  # 16, 8, 4, 2, 1, and not even begun
    assert (outcome(folder)["state"], outcome(folder)["again"]) == ("failed", False)
    forgive(folder)
    memory["images"] = 16
    run(str(folder.path))
    assert read_record(folder.path).provenance["micro_batch"] == 16


@pytest.mark.parametrize(("end", "taken"), [("out of memory", 8), ("killed", 16)])
def test_what_the_cluster_saw_of_a_process_that_vanished_counts(folder, monkeypatch, end, taken):
    vanish(folder, 16)
    monkeypatch.setenv("JOB_PREVIOUS_END", end)
    monkeypatch.setattr("tokscale.training.loop.Budget", Interrupted)
    Interrupted.at = 2
    fail(folder, StoppedError)
    assert outcome(folder)["micro_batch"] == taken
    monkeypatch.setenv("JOB_PREVIOUS_END", "preempted")
    Interrupted.at = 0
    run(str(folder.path))
    assert read_record(folder.path).provenance["micro_batch"] == taken


def test_what_was_asked_for_is_halved_and_never_exceeded(folder, memory):
    memory["images"] = 5
    assert "6 images" in str(fail(folder, MemoryRunOutError, micro_batch=6))
    run(str(folder.path), micro_batch=6)
    assert read_record(folder.path).provenance["micro_batch"] == 3


def test_a_bad_node_is_tried_three_times(folder, monkeypatch):
    def broken(device):
        raise NodeError("the GPU failed")

    monkeypatch.setattr(running, "check_device", broken)
    assert [fail(folder, NodeError).again for _ in range(3)] == [True, True, False]
    assert (outcome(folder)["state"], outcome(folder)["cause"]) == ("failed", "node")


def test_being_stopped_five_times_without_getting_further_is_a_failure(folder, monkeypatch):
    def stopped(context):
        raise StoppedError("stopped by SIGUSR2")

    with monkeypatch.context() as patched:
        patched.setitem(running.STAGES, "tokenizer", stopped)
        for _ in range(4):
            assert fail(folder, StoppedError).again
            assert outcome(folder)["state"] == "interrupted"
        assert not fail(folder, NoProgressError).again
    assert (outcome(folder)["state"], outcome(folder)["cause"]) == ("failed", "no progress")
    forgive(folder)
    run(str(folder.path))
    assert folder.record.exists()


def test_being_stopped_with_a_new_checkpoint_each_time_never_is(folder, monkeypatch):
    monkeypatch.setattr("tokscale.training.loop.Budget", Interrupted)
    for Interrupted.at in range(1, 8):
        assert fail(folder, StoppedError).again
    Interrupted.at = 0
    run(str(folder.path))
    assert read_record(folder.path).provenance["attempts"] == 8


def test_attempts_that_vanish_again_and_again_are_ended_before_they_begin(folder):
    vanish(folder, 16)
    for number in range(2, 6):
        content = (folder.path / "claim" / "0001").read_text()
        (folder.path / "claim" / f"{number:04}").write_text(content)
    assert not fail(folder, NoProgressError).again
    assert not folder.progress.exists()


def test_a_cancelled_stage_is_refused_untouched(folder):
    (folder.path / "cancelled").write_text('{"who": "somebody"}')
    error = fail(folder, CancelledError)
    assert (error.again, error.cause) == (False, "cancelled")
    assert claim.state(folder.path).kind == "free"
    (folder.path / "cancelled").unlink()
    run(str(folder.path))


def test_cancelling_a_running_stage_leaves_it_stopped(folder, monkeypatch):
    class Cancelled(Interrupted):
        def on_train_batch_end(self, trainer, task, *arguments):
            (folder.path / "cancelled").write_text("{}")
            super().on_train_batch_end(trainer, task, *arguments)

    monkeypatch.setattr("tokscale.training.loop.Budget", Cancelled)
    Interrupted.at = 2
    error = fail(folder, StoppedError)
    assert (error.again, error.cause) == (False, "cancelled")
    assert list(folder.checkpoints.iterdir())


def test_what_diverged_keeps_its_checkpoints_and_does_not_go_on_from_them(folder, monkeypatch):
    class Poisoned(callbacks.Budget):
        def on_train_batch_end(self, trainer, task, *arguments):
            super().on_train_batch_end(trainer, task, *arguments)
            if task.step == 6:
                task.losses["loss"] = task.losses["loss"] * float("nan")

    with monkeypatch.context() as patched:
        patched.setattr("tokscale.training.loop.Budget", Poisoned)
        assert not fail(folder, DivergedError, checkpoint_seconds=0.0, progress_seconds=0.0).again
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [f"{16 * step:015d}" for step in (4, 5)]
    forgive(folder)
    run(str(folder.path), progress_seconds=0.0)
    assert json.loads(folder.progress.read_text().splitlines()[6 - 1])["done"] == 16  # after five lines, from the start
    assert len(list((folder.attempt(1) / "checkpoints").iterdir())) == 2


def test_what_is_measured_does_not_depend_on_the_size_of_a_pass(stages, tmp_path):
    whole = stages("whole")
    for kind in ("tokenizer", "latents", "probe"):
        run(str(whole[kind].path))
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    parts = stages("parts")
    for kind in ("reconstruction", "generation"):
        run(str(whole[kind].path))
        run(str(parts[kind].path), micro_batch=7)
        record, expected = (read_record(each[kind].path) for each in (parts, whole))
        assert (record.provenance["micro_batch"], record.measures.keys()) == (7, expected.measures.keys())
        for name, value in expected.measures.items():
            if "seconds" not in name:
                near = value if isinstance(value, str) else pytest.approx(value, rel=1e-5)
                assert record.measures[name] == near, name
    shutil.rmtree(parts["latents"].path)
    stages("parts")
    run(str(parts["latents"].path), micro_batch=7)
    ours, theirs = (open_latents(each["latents"].artifacts).train for each in (parts, whole))
    for name, expected in theirs.batch(range(128)).items():
        torch.testing.assert_close(ours.batch(range(128))[name], expected, rtol=1e-4, atol=1e-5)


def test_measuring_stops_when_it_is_asked_to(stages, monkeypatch):
    folders = stages("runs")
    run(str(folders["tokenizer"].path))

    def signalled(*extent):
        signal.raise_signal(signal.SIGUSR2)
        return 64

    monkeypatch.setattr(reconstruction, "images_at_once", signalled)
    assert "SIGUSR2" in str(fail(folders["reconstruction"], StoppedError))
    assert outcome(folders["reconstruction"])["state"] == "interrupted"

"""Checkpoints: whole or not there, the newest two kept, nothing executable inside, foreign ones passed over."""

import os
import signal

import pytest
import torch

from tokscale.errors import StoreError
from tokscale.training.checkpoints import KEPT, FolderCheckpoints, newest_checkpoint
from tokscale.training.stopping import watch_signals


def checkpoint(step):
    optimizer = {"state": {0: {"exp_avg": torch.full((3,), float(step))}}, "param_groups": [{"lr": 0.1}]}
    weights = {"w": torch.arange(6.0).reshape(2, 3).T + step}  # not contiguous, as a tied or sliced weight may be
    return {"state_dict": weights, "optimizer_states": [optimizer], "task": {"step": step}}


def save(folder, step, owner="ab"):
    path = folder / f"{step:015d}"
    FolderCheckpoints(owner).save_checkpoint(checkpoint(step), path)
    return path


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    path = save(tmp_path, 7)
    read = FolderCheckpoints("ab").load_checkpoint(path)
    assert torch.equal(read["state_dict"]["w"], checkpoint(7)["state_dict"]["w"])
    assert torch.equal(read["optimizer_states"][0]["state"][0]["exp_avg"], torch.full((3,), 7.0))
    assert read["task"] == {"step": 7}


def test_only_the_newest_are_kept_and_found(tmp_path):
    paths = [save(tmp_path, step) for step in (1, 2, 3, 10)]
    assert sorted(tmp_path.iterdir()) == paths[-KEPT:]
    assert newest_checkpoint(tmp_path, "ab") == paths[-1]
    assert newest_checkpoint(tmp_path / "absent", "ab") is None


@pytest.mark.parametrize("name", ["weights.safetensors", "training.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path, name, damage):
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    content = bytearray((newer / name).read_bytes())
    if damage == "remove":
        (newer / name).unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        (newer / name).write_bytes(content[:-3] if damage == "cut" else content)
    assert newest_checkpoint(tmp_path, "ab") == older


def test_one_of_another_stage_is_passed_over(tmp_path):
    save(tmp_path, 5, owner="cd")
    assert newest_checkpoint(tmp_path, "ab") is None


def test_a_killed_writers_leftovers_are_ignored(tmp_path):
    path = save(tmp_path, 1)
    (tmp_path / f".{2:015d}.1234").mkdir()
    assert newest_checkpoint(tmp_path, "ab") == path


@pytest.mark.parametrize("writer", ["save_file", "torch.save"])
def test_a_disk_that_refuses_is_one_message_and_leaves_the_one_before(tmp_path, monkeypatch, writer):
    path = save(tmp_path, 1)

    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"tokscale.training.checkpoints.{writer}", refuse)
    with pytest.raises(StoreError, match="No space left on device"):
        save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_sets_the_flag_and_nothing_else(number):
    before = signal.getsignal(number)
    with watch_signals() as flag:
        assert not flag
        os.kill(os.getpid(), number)
        assert flag
        assert flag.signal == number.name
    assert signal.getsignal(number) == before

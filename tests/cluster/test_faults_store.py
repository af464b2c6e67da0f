"""A runs folder without room, or that cannot be written: the sweep pauses, nothing is damaged, and it goes on later."""

import subprocess

import pytest

from tests.cluster.chore_book import eventually
from tests.cluster.sweep_desk import Desk

pytestmark = pytest.mark.xdist_group("slurm")


@pytest.fixture
def desk(lab, tmp_path):
    """A desk whose runs folder is a file system of its own, of 40 MB."""
    desk = Desk.make(tmp_path, lab)
    desk.runs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "runs", str(desk.runs)], check=True)
    yield desk
    lab.heal()  # nobody writes there any more
    subprocess.run(["umount", str(desk.runs)], check=True)


def fill(desk):
    """Leave no room at all; returns the file that takes it."""
    filler = desk.runs / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def remount(desk, how):
    subprocess.run(["mount", "-o", f"remount,{how}", str(desk.runs)], check=True)


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_submitted(lab, desk):
    remount(desk, "ro")
    for command in ("submit", "run"):
        output = desk.tokscale(command, desk.spec, "--cluster", "lab", expected=1)
        assert "cannot write" in output
        assert "Read-only" in output
        assert "allowed:" in output
    assert not lab.queue()
    remount(desk, "rw")
    filler = fill(desk)
    output = desk.tokscale("submit", desk.spec, "--cluster", "lab", expected=1)
    assert "No space left" in output or "no room" in output
    assert not lab.queue()
    assert list(desk.runs.iterdir()) == [filler]


def test_a_folder_that_fills_up_during_training_pauses_the_sweep(lab, desk, undisturbed):
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    eventually(lambda: any(desk.progress().values()))
    filler = fill(desk)
    eventually(lambda: not lab.queue())
    status = desk.tokscale("status", desk.name)
    assert "room" in status or "No space left" in status
    assert desk.records() == {}
    output = desk.tokscale("submit", desk.spec, "--cluster", "lab", expected=1)
    assert "No space left" in output or "no room" in output
    filler.unlink()
    output = desk.tokscale("run", desk.spec, "--cluster", "lab")
    assert "2 of 2 trials done" in output
    desk.check_whole(undisturbed)

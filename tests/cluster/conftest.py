"""One real SLURM for all tests of this folder, whole and empty again after each."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm.batch import SlurmExecutor
from slurm.profiles import ClusterProfile
from tests.cluster.chore_book import ChoreBook
from tests.cluster.lab import Lab
from tests.cluster.sweep_desk import Desk

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Four nodes with two fake GPUs each; the path is short because Unix sockets live below it."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        lab = Lab.start(Path(folder))
        try:
            yield lab
        finally:
            lab.stop()


@pytest.fixture(autouse=True)
def whole_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process's SLURM is the lab, and whatever a test did to it is undone before the next one."""
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    yield
    lab.heal()


@pytest.fixture(scope="session")
def undisturbed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The sweep of ``SPEC`` as one process of this machine does it, to compare with what survived a fault."""
    desk = Desk.make(tmp_path_factory.mktemp("undisturbed"), lab)
    desk.run_undisturbed()
    return desk


@pytest.fixture
def closed(lab: Lab) -> Lab:
    """The lab with a partition that takes jobs and starts none."""
    lab.ask("scontrol", "update", "partition=main", "state=down")
    return lab


@pytest.fixture
def open_executor(tmp_path: Path) -> Callable[..., SlurmExecutor]:
    """Executors of one submitter's folder and ledger, with any profile."""

    def make(**profile: object) -> SlurmExecutor:
        known = {"partition": "main", "gpus_per_node": 2, **profile}
        return SlurmExecutor(
            ClusterProfile("lab", **known), tmp_path / "jobs", ledger=tmp_path / "submissions.jsonl", name="chores",
            python_path=[ROOT],
        )  # fmt: skip

    return make


@pytest.fixture
def chores(tmp_path: Path) -> ChoreBook:
    """Chores of one test, and what they left behind."""
    return ChoreBook(tmp_path / "chores")

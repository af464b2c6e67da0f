"""Jobs made of errands, which a worker of these tests can import."""

from pathlib import Path

import pytest

from slurm import Job


@pytest.fixture
def errands_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def job(tmp_path, errands_importable):
    def make(key, target="note", *arguments, **fields):
        return Job(
            key=key, name=f"job {key}", target=f"errands:{target}", arguments=arguments,
            log=tmp_path / "logs" / f"{key}.log", **fields,
        )  # fmt: skip

    return make

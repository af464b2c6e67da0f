"""A runs folder, a clock that only sleeping moves, and a sweep of forty trials."""

import pytest

from sweeps import watching
from sweeps.planning import Plan, make_plan
from sweeps.store import Store
from tests.sweeps.forty import FORTY


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves; the real one for those who wait for threads."""
    now = [1000.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.fixture(scope="module")
def forty(tmp_path_factory) -> tuple[Plan, Store]:
    """A sweep of forty trials, of which nothing was begun."""
    folder = tmp_path_factory.mktemp("forty")
    (folder / "forty.yaml").write_text(FORTY)
    store = Store(folder / "runs")
    return make_plan(folder / "forty.yaml", store), store

"""Making jobs out of chores, and reading from their files what really happened."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.executor import Executor, Job, JobStatus, Resources

PATIENCE = 240.0  # seconds; reached only by a failure


@dataclass(frozen=True)
class Attempt:
    """One start of a chore: where, which of its job's starts, and from which step."""

    node: str
    restart: int
    begin: int


@dataclass(frozen=True)
class ChoreBook:
    """Chores that leave their evidence in one folder."""

    folder: Path

    def count(self, key: str, steps: int = 1, pause: float = 0.0, **fields: Any) -> Job:
        """A job that counts."""
        return self.job(key, "count", [str(self.folder), key, steps, pause], **fields)

    def need(self, key: str, *parents: str, **fields: Any) -> Job:
        """A job that comes after others and checks it."""
        return self.job(key, "need", [str(self.folder), key, list(parents)], after=parents, **fields)

    def job(self, key: str, target: str, arguments: list[Any], **fields: Any) -> Job:
        """A job of any chore, small enough that a dozen share a node."""
        fields.setdefault("resources", Resources(cpus=1, memory_gb=0.25, minutes=5))
        return Job(key=key, name=f"{target}/{key}", target=f"tests.cluster.chores:{target}", arguments=arguments,
                   log=self.folder / "logs" / f"{key}.txt", **fields)  # fmt: skip

    def attempts(self, key: str) -> list[Attempt]:
        """Every start of a counting chore."""
        path = self.folder / f"{key}.attempts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [Attempt(node, int(restart), int(begin)) for node, restart, begin in map(str.split, lines)]

    def step(self, key: str) -> int:
        """How far a count got."""
        path = self.folder / f"{key}.step"
        return int(path.read_text()) if path.exists() else 0

    def done(self) -> set[str]:
        """Keys of the chores that are done; nothing was done twice, and nothing before its parents."""
        assert [path.name for end in ("twice", "early") for path in self.folder.glob(f"*.{end}")] == []
        return {path.stem for path in self.folder.glob("*.done")}

    def log(self, key: str) -> str:
        """What a chore printed."""
        return (self.folder / "logs" / f"{key}.txt").read_text()


def finish(executor: Executor, keys: Iterable[str], seconds: float = PATIENCE) -> dict[str, JobStatus]:
    """The statuses of jobs once all of them are final."""
    wanted, deadline = set(keys), time.monotonic() + seconds
    while True:
        statuses = executor.poll()
        mine = {key: statuses[key] for key in wanted}
        if all(status.state.final for status in mine.values()):
            return mine
        assert time.monotonic() < deadline, mine
        time.sleep(0.5)


def eventually(condition: Any, seconds: float = PATIENCE) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.1)
    return value


def states(statuses: Mapping[str, JobStatus]) -> dict[str, str]:
    """The words of statuses by key."""
    return {key: status.state.value for key, status in statuses.items()}

"""How the ranks of one attempt meet, agree, and hear of each other's end.

Rank 0 opens a small key-value server on a port that its system picks, so that no two jobs of a node can collide, and
says where in a file of the stage's folder: the one place that all nodes share. The others wait for that file. It also
says when there is nothing to do, because the stage is done or somebody else has it.

Signals and timers are agreed upon between two steps, on the processors: no rank waits for its GPU for that.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from tokscale.errors import NodeError
from tokscale.record import write_atomically
from tokscale.training.ranks import Ranks

FOLDER = "meetings"
MEETING_SECONDS = 600.0  # longer than an NFS client may remember that a file is not there
COLLECTIVE_SECONDS = 1800.0  # within which the slowest rank must come to a collective: a checkpoint on a slow disk
FAREWELL_SECONDS = 20.0  # in which rank 0 hears of another rank's failure and ends
_LOOK_SECONDS = 0.1

T = TypeVar("T")


class Team:
    """The ranks of one attempt, connected; one that is alone agrees with itself."""

    def __init__(self, ranks: Ranks | None = None, store: TCPStore | None = None) -> None:
        self.ranks = ranks or Ranks()
        self._store = store
        self._control: dist.ProcessGroup | None = None

    @property
    def called(self) -> bool:
        """Whether other ranks were called together."""
        return self._store is not None

    def form(self) -> None:
        """Connect all ranks; a rank that does not come in time raises ``NodeError``."""
        if self._store is None:
            return
        self._store.set(f"here/{self.ranks.rank}", socket.gethostname())
        self._await_all()
        backend = "nccl" if self.ranks.device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("group", self._store), rank=self.ranks.rank, world_size=self.ranks.world,
            timeout=timedelta(seconds=COLLECTIVE_SECONDS),
        )  # fmt: skip
        self._control = dist.new_group(backend="gloo", timeout=timedelta(seconds=COLLECTIVE_SECONDS))

    def agree(self, *wishes: int) -> tuple[int, ...]:
        """The largest of each wish over all ranks."""
        if self._control is None:
            return wishes
        largest = torch.tensor(wishes)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._control)
        return tuple(largest.tolist())

    def shared(self, value: T) -> T:
        """Rank 0's value, on all ranks."""
        if self._control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def part(self) -> None:
        """Training is over: the others leave, and rank 0 goes on alone."""
        if self._control is not None:
            dist.destroy_process_group()
            self._control = None

    def abandon(self) -> None:
        """Break the connections, so that no other rank waits for this one; nothing to do for one that is alone."""
        if self._control is None:
            return
        self._control = None
        with contextlib.suppress(Exception):
            if dist.get_backend() == "nccl":  # a collective that waits for a rank that is gone never ends by itself
                dist.distributed_c10d._abort_process_group()
            else:
                dist.destroy_process_group()

    def tell(self, failure: Mapping[str, Any]) -> bool:
        """Tell rank 0 of this rank's failure, the first to do so, and wait until it has ended; whether it has."""
        assert self._store is not None
        words = json.dumps({"rank": self.ranks.rank, "host": socket.gethostname(), **failure})
        try:
            self._store.compare_set("failure", "", words)
            self.abandon()
            return self._appears("ended", FAREWELL_SECONDS)
        except RuntimeError:  # its server is gone, and so is rank 0
            return True

    def failure(self, seconds: float = 5.0) -> dict[str, Any] | None:
        """What another rank told of its failure, within some seconds; for rank 0."""
        if self._store is None or not self._appears("failure", seconds):
            return None
        told: dict[str, Any] = json.loads(self._store.get("failure"))
        return told

    def end(self) -> None:
        """Rank 0 has said how the attempt ended: who waits to say more may leave."""
        if self._store is not None:
            with contextlib.suppress(RuntimeError):
                self._store.set("ended", "")

    def _appears(self, key: str, seconds: float) -> bool:
        assert self._store is not None
        deadline = time.monotonic() + seconds
        while not self._store.check([key]):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _await_all(self) -> None:
        """Wait for every rank in Python, where signals are heard, not inside the server's client."""
        assert self._store is not None
        keys = [f"here/{rank}" for rank in range(self.ranks.world)]
        deadline = time.monotonic() + MEETING_SECONDS
        while not self._store.check(keys):
            if self._store.check(["failure"]) or time.monotonic() > deadline:
                absent = [rank for rank, key in enumerate(keys) if not self._store.check([key])]
                raise NodeError("ranks of this stage did not come to the meeting", given=f"without rank {absent}",
                                allowed=f"all {self.ranks.world} within {MEETING_SECONDS:g} seconds")  # fmt: skip
            time.sleep(_LOOK_SECONDS)


def call_together(folder: Path, ranks: Ranks, plan: Mapping[str, Any] | None) -> Team:
    """Rank 0's side: open the meeting and say where it is, with what the others need to know; None sends them home."""
    if ranks.world == 1:
        return Team(ranks)
    if plan is None:
        _publish(folder, ranks, {"go": False})
        return Team(ranks)
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    node = os.environ.get("SLURMD_NODENAME", "")
    _publish(folder, ranks, {"go": True, "hosts": [socket.gethostname(), node], "port": store.port, "plan": dict(plan)})
    return Team(ranks, store)


def follow(folder: Path, ranks: Ranks) -> tuple[Team, dict[str, Any]] | None:
    """The other ranks' side: go to where rank 0 calls, with what it said; None when there is nothing to do."""
    assert not ranks.first
    call = _await_call(folder, ranks)
    if not call["go"]:
        return None
    store = TCPStore(_reachable(call["hosts"]), call["port"], is_master=False, wait_for_workers=False)
    return Team(ranks, store), call["plan"]


def _publish(folder: Path, ranks: Ranks, call: Mapping[str, Any]) -> None:
    write_atomically(folder / FOLDER / f"{ranks.name}.json", json.dumps(call).encode())


def _await_call(folder: Path, ranks: Ranks) -> dict[str, Any]:
    path = folder / FOLDER / f"{ranks.name}.json"
    deadline = time.monotonic() + MEETING_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            os.listdir(path.parent)  # has an NFS client look at the folder again
            call: dict[str, Any] = json.loads(path.read_bytes())
            return call
        time.sleep(_LOOK_SECONDS)
    raise NodeError("rank 0 never called this rank", where=str(path), given=f"rank {ranks.rank} waited",
                    allowed=f"a call within {MEETING_SECONDS:g} seconds")  # fmt: skip


def _reachable(hosts: list[str]) -> str:
    """The first of rank 0's names that this node can resolve; its own name is that of rank 0 on the same machine."""
    if hosts[0] == socket.gethostname():
        return "localhost"
    for host in hosts:
        with contextlib.suppress(OSError):
            if host and socket.getaddrinfo(host, None):
                return host
    return hosts[0]

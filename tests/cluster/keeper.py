"""Run one daemon and answer for everything that it starts.

``python keeper.py COMMAND...`` adopts every orphan below it (Linux' child subreaper), so that a daemon's jobs stay its
descendants also when they detach. It ends with the daemon and all of them when its standard input closes, that is also
when whoever started it was killed. SIGTERM asks the daemon first, SIGUSR1 is a power cut.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PATIENCE = 10.0  # seconds for an orderly end


def descendants(ancestor: int) -> list[int]:
    """Process ids below a process, nearest first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [ancestor]
    for pid in found:
        found.extend(children.get(pid, []))
    return found[1:]


def kill_all() -> None:
    """Kill whatever is below this process until nothing is left."""
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def main() -> None:
    """Start the daemon and stay until there is nothing left to keep, or until asked to end."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    asked = threading.Event()
    power_cut = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: power_cut.set())
    daemon = os.posix_spawn(
        sys.argv[1], sys.argv[1:], os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGUSR1],
    )  # fmt: skip

    def watch_input() -> None:
        os.read(0, 1)
        power_cut.set()

    threading.Thread(target=watch_input, daemon=True).start()
    deadline = None
    while not power_cut.is_set():
        if asked.is_set() and deadline is None:
            deadline = time.monotonic() + PATIENCE
            try:
                os.kill(daemon, signal.SIGTERM)
            except ProcessLookupError:
                break
        try:
            pid = os.waitpid(-1, os.WNOHANG)[0]
        except ChildProcessError:
            break
        if (pid == daemon and asked.is_set()) or (deadline is not None and time.monotonic() > deadline):
            break
        if pid == 0:
            time.sleep(0.05)
    kill_all()


if __name__ == "__main__":
    main()

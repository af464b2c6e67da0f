"""Targets for the tests of elements: each leaves a line of what it saw in one file, and ends in its own way."""

import os
import resource
import signal
import time
from pathlib import Path

RESTART = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
RANK = int(os.environ.get("SLURM_PROCID") or 0)


class Stopped(Exception):
    again = True


class RanOut(Exception):
    again = True
    cause = "out of memory"


class NodeIsBroken(Exception):
    again = True
    cause = "node"


def tell(file: str, *words: object) -> None:
    with open(file, "a") as out:
        out.write(" ".join(str(word) for word in words) + "\n")


def work_until_told(file: str, finish_at: int = 1, deaf_for: float = 0.0) -> None:
    """Stop when a signal says so; from the given start on, finish at once."""
    tell(file, "start", RESTART, os.environ.get("JOB_PREVIOUS_END", "-"))
    if finish_at <= RESTART:
        tell(file, "finished")
        return
    time.sleep(deaf_for)
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: heard.append(number))
    tell(file, "listening", os.getpid())
    while not heard:
        time.sleep(0.02)
    raise Stopped(f"stopped by {signal.Signals(heard[0]).name}")


def eat_memory(file: str) -> None:
    tell(file, "start", RESTART, os.environ.get("JOB_PREVIOUS_END", "-"))
    hoard = []
    while True:
        hoard.append(os.urandom(1 << 20) * 16)
        time.sleep(0.01)


def kill_yourself(file: str, until: int) -> None:
    tell(file, "start", RESTART, os.environ.get("JOB_PREVIOUS_END", "-"))
    if until > RESTART:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)


def fail_in_rank(file: str, rank: int, how: str) -> None:
    """One rank fails; the others wait for it as in a collective call, and hear no signal."""
    tell(file, "start", RESTART, RANK)
    if rank == RANK and RESTART == 0:
        time.sleep(1.0)
        raise {"memory": RanOut, "code": ValueError}[how]("this rank's own trouble")
    while RESTART == 0:
        time.sleep(0.1)


def need_good_node(file: str, bad: str) -> None:
    tell(file, "start", RESTART, os.environ["SLURMD_NODENAME"])
    if os.environ["SLURMD_NODENAME"] == bad:
        raise NodeIsBroken("no GPU")


def say(file: str, text: str) -> None:
    tell(file, text)
    print(text)


def leave_at_once(file: str) -> None:
    tell(file, "start", RESTART)
    os._exit(7)


def wait_for(file: str, path: str) -> None:
    tell(file, "start", RESTART)
    while not Path(path).exists():
        time.sleep(0.05)

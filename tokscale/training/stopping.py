"""The one owner of signals: the handler only sets a flag, the loop looks at it between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopFlag:
    """Whether the process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number = 0
        """of the signal; 0 while there was none"""

    def __bool__(self) -> bool:
        return self.number != 0

    @property
    def signal(self) -> str | None:
        """The signal's name."""
        return signal.Signals(self.number).name if self.number else None

    def set(self, number: int, frame: FrameType | None) -> None:
        self.number = number


@contextmanager
def watch_signals() -> Iterator[StopFlag]:
    """A flag that SIGTERM, SIGUSR1 and SIGUSR2 set while the context lasts; earlier handlers come back afterwards."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may install handlers
        yield flag
        return
    earlier = {number: signal.signal(number, flag.set) for number in STOP_SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def ignore_signals(worker: int) -> None:
    """For the data loader's processes, which SLURM signals along with us: batches must last until the step is over."""
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

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
        self.signal: str | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def set(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name


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

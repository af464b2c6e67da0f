"""What a job hears from SLURM: signals, taken from the very start and handed to the target when it can hear itself.

Before a preemption or the time limit SLURM sends ``WARNING``, of which processes that do not know it take no notice. It
may come up to a minute early, which of a short job is all its time: so slurmctld is asked, and the target is told, by
USR2, when the time has really come.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slurm.requeue import time_left

WARNING = signal.SIGURG
WARNING_SECONDS = 120  # from the warning to the time limit: to save a large checkpoint on a slow disk
STOP_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
LISTEN_SECONDS = 0.05  # between two looks whether the target has installed its own handlers


class Hearing:
    """Handlers that only note a signal; ``stop`` is the name of the first that asked to stop and was not passed on.

    Python runs handlers in the main thread, so this is made there.
    """

    def __init__(self) -> None:
        self.stop: str | None = None
        self._pending: list[int] = []
        self._listening = threading.Event()
        self._warned = threading.Event()
        self._job = ""
        self._warning_seconds = float(WARNING_SECONDS)
        self.listen()

    def heed_warnings(self, job: str, seconds: float) -> None:
        """Have a warning of this job's end become a USR2 that many seconds before it, at once for a preemption."""
        self._job, self._warning_seconds = job, seconds
        threading.Thread(target=self._weigh_warnings, name="warnings", daemon=True).start()

    def listen(self) -> None:
        """Take the signals, from whoever had them before."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)
        signal.signal(WARNING, lambda number, frame: self._warned.set())
        # SLURM sends it before SIGTERM, for jobs that are suspended.
        signal.signal(signal.SIGCONT, lambda number, frame: None)

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """While the target runs: what reaches us is sent again as soon as the target has a handler of its own.

        A target that never installs one is not interrupted: it ends by itself, or SLURM kills it.
        """
        over = threading.Event()
        messenger = threading.Thread(target=self._pass_on, args=(over,), name="signals", daemon=True)
        messenger.start()
        try:
            yield
        finally:
            over.set()
            self._listening.set()
            messenger.join()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.stop = self.stop or signal.Signals(number).name
        self._pending.append(number)
        self._listening.set()

    def _weigh_warnings(self) -> None:
        self._warned.wait()
        self._warned.clear()
        while True:
            left = time_left(self._job)
            early = 0.0 if left is None else left - self._warning_seconds
            # A second warning may be a preemption's.
            if early <= 1.0 or not self._warned.wait(early):
                break
            self._warned.clear()
        os.kill(os.getpid(), signal.SIGUSR2)

    def _pass_on(self, over: threading.Event) -> None:
        while not over.is_set():
            self._listening.wait()
            self._listening.clear()
            while self._pending and not over.is_set():
                for number in [one for one in self._pending if signal.getsignal(one) != self._note]:
                    self._pending.remove(number)
                    if not self._pending:
                        self.stop = None
                    os.kill(os.getpid(), number)
                over.wait(LISTEN_SECONDS)


def warning_seconds(minutes: int | None) -> int:
    """How long before the time limit a job is told: two minutes, or a quarter of a short job."""
    return WARNING_SECONDS if minutes is None else max(5, min(WARNING_SECONDS, minutes * 15))

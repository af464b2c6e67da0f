"""What a job hears from SLURM: signals, taken from the very start and handed to the target when it can hear itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
        self.listen()

    def listen(self) -> None:
        """Take the signals, from whoever had them before."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)
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

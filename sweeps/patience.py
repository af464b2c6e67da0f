"""Saying that one waits: a person at a silent terminal must know for what, and for how long at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_AFTER_SECONDS = 3.0


@contextmanager
def telling(words: str, say: Callable[[str], None], after: float = _AFTER_SECONDS) -> Iterator[None]:
    """Say ``words`` when what is done inside takes longer than ``after`` seconds."""
    timer = threading.Timer(after, say, (words,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

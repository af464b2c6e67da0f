"""What the C library does with memory that a stage has freed: kept for the stage's next pass, returned at its end."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, as glibc's malloc.h numbers them
_NEVER = -1


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Have memory that is freed inside kept for what is allocated next, and returned to the system at the end.

    By itself glibc returns large blocks as soon as they are free, and gets them again in the next pass page by page,
    each filled with zeros: half the time of a convolution whose maps take many megabytes. What is computed does not
    change. Other C libraries are left as they are.
    """
    library = _glibc()
    if library is not None:
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        if library is not None:  # what follows in this process must not count it among its own
            library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - elsewhere the numbers have other meanings, or none
    except (OSError, AttributeError, TypeError):
        return None
    return library

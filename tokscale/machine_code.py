"""Functions compiled by numba. Importing this module fails without it; nothing is compiled before the first call.

numba keeps machine code where Python keeps its own, in ``__pycache__`` beside the file, or in the user's cache folder
where that one is read-only (``NUMBA_CACHE_DIR`` overrides both); where no folder can be written, each process compiles
anew. It notices changes only of the file that a kept function stands in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., object])


def machine_code(function: _F, fastmath: bool | set[str] = False) -> _F:
    """Compiled with what calls it; ``fastmath`` names the liberties that sums and products may take."""
    return cast(_F, numba.njit(function, fastmath=fastmath, error_model="numpy"))


def kept(function: _F, fastmath: bool | set[str] = False) -> _F:
    """Compiled at the first call, with all it calls, and kept on disk where some folder can be written."""
    try:
        return cast(_F, numba.njit(function, cache=True, fastmath=fastmath, error_model="numpy"))
    except RuntimeError:
        return machine_code(function, fastmath)

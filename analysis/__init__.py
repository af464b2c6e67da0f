"""From a results table to fitted laws, intervals, figures and a report.

Names are loaded when they are first used: importing this package costs nothing, so that the command line stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparison import compare as compare
    from analysis.fitting import Fit as Fit
    from analysis.fitting import Parameter as Parameter
    from analysis.fitting import fit as fit
    from analysis.laws import LAWS as LAWS
    from analysis.laws import Law as Law
    from analysis.published_tables import published as published
    from analysis.published_tables import published_names as published_names
    from analysis.table import load_table as load_table
    from analysis.table import select as select

_HOME = {
    "compare": "comparison",
    "Fit": "fitting",
    "Parameter": "fitting",
    "fit": "fitting",
    "LAWS": "laws",
    "Law": "laws",
    "published": "published_tables",
    "published_names": "published_tables",
    "load_table": "table",
    "select": "table",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

"""From a results table to fitted laws, intervals, figures and a report.

    fit, Fit             one law, or all that apply, on columns of any table
    choose, Choice       laws weighed and averaged: what to predict by
    questions            the questions of the field as functions, each with an answer in a sentence
    next_trials          (package) which trials narrow a stated prediction the most per GPU hour
    figures              one function a figure: table and axes in, axes out
    compare              groups side by side, with intervals over seeds
    published            the points of the published studies
    load_table, select   tables from files, and rows by a condition

Names are loaded when they are first used: importing this package costs nothing, so that the command line stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis import figures as figures
    from analysis import questions as questions
    from analysis.choosing import Choice as Choice
    from analysis.choosing import choose as choose
    from analysis.comparison import compare as compare
    from analysis.fitted import Fit as Fit
    from analysis.fitted import Parameter as Parameter
    from analysis.fitting import fit as fit
    from analysis.laws import LAWS as LAWS
    from analysis.laws import Law as Law
    from analysis.laws import law_named as law_named
    from analysis.published_tables import published as published
    from analysis.published_tables import published_names as published_names
    from analysis.table import load_table as load_table
    from analysis.table import select as select

_HOME = {
    "Choice": "choosing",
    "choose": "choosing",
    "compare": "comparison",
    "Fit": "fitted",
    "Parameter": "fitted",
    "fit": "fitting",
    "LAWS": "laws",
    "Law": "laws",
    "law_named": "laws",
    "published": "published_tables",
    "published_names": "published_tables",
    "load_table": "table",
    "select": "table",
}
_PACKAGES = ("figures", "questions")
__all__ = sorted([*_HOME, *_PACKAGES])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_PACKAGES])

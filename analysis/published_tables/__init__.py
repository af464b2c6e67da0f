"""Points of published tables and figures, shipped with the package: to certify the fits and to overlay in figures.

Each row names how it was obtained (``provenance``: read in a text, in code, off a vector figure, or derived) and
where (``source``). The figures of vector PDFs were read exactly: ViTok's printed R2 come out of them again.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from tokscale.errors import TableError, one_of

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "published:"


@cache
def published_names() -> tuple[str, ...]:
    """The names of the published tables, in alphabetical order."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".csv") for file in files if file.name.endswith(".csv")))


def published(name: str) -> pd.DataFrame:
    """One published table, with its ``provenance`` and ``source`` columns; ``TableError`` for a name that is none."""
    import pandas as pd

    if name not in published_names():
        raise TableError("no such published table", given=name, allowed=one_of(published_names(), name))
    with (resources.files(__name__) / f"{name}.csv").open("rb") as file:
        return pd.read_csv(file, encoding="utf-8")

"""What a report of published points is made of: the same parts for every study."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.fitting import Fit
from analysis.questions import Answer
from analysis.report.decisions import Decision

_READ = {
    "READ-TEXT": "printed in the paper", "READ-CODE": "in the authors' repository",
    "READ-FIGURE-VECTOR": "read off a vector figure", "READ-FIGURE-RASTER": "digitised from a picture",
    "DERIVED": "computed from what was read",
}  # fmt: skip


@dataclass(frozen=True)
class Refit:
    """A published curve fitted again: which figure and what it shows, our fit, and the R2 that the paper prints."""

    figure: str
    what: str
    fit: Fit
    printed: float | None = None


@dataclass(frozen=True)
class Sketch:
    """A figure to draw: its name, what draws it on axes, what it shows in words, and what stands below it."""

    name: str
    draw: Callable[[Axes], Any]
    alt: str
    caption: str


@dataclass(frozen=True)
class Study:
    """A published study in the words of the results table, with everything that its page says."""

    name: str
    title: str
    lead: str
    found: Sequence[Decision]
    sketches: Sequence[Sketch]
    refits: Sequence[Refit]
    limits: Sequence[str]
    tables: Mapping[str, str]


@dataclass(frozen=True)
class Observation(Answer):
    """What was seen once, and so is neither resolved nor without worth."""

    text: str
    resolved: bool = False

    def sentence(self) -> str:
        return self.text


def several(heading: str, *groups: Answer | Sequence[Answer]) -> Decision:
    """A question with its answers, single ones and lists of them."""
    return Decision(
        heading, tuple(one for group in groups for one in ([group] if isinstance(group, Answer) else group))
    )


def how_read(table: pd.DataFrame) -> str:
    """How the numbers of a published table were obtained, in words."""
    found = dict.fromkeys(name for text in table["provenance"] for name in _READ if str(text).startswith(name))
    # READ-FIGURE-VECTOR begins with no other name, so each row has one
    return ", ".join(_READ[name] for name in found) or "see its provenance column"


def sources(table: pd.DataFrame) -> str:
    """Where a published table was read, each place once."""
    places = dict.fromkeys(re.sub(r"\s*\(text read via\s*$", "", str(text)) for text in table["source"])
    return "; ".join(places)

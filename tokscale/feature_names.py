"""Names of feature networks, and the columns in which each measures; known without loading any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from tokscale.columns import without_scale
from tokscale.errors import one_of

JOINT = "+"
"""between the names of several networks that measured one row, in its column ``features``"""
INCEPTIONS = ("inception-tf2015", "inception-torchvision")
DINOV2S = tuple(f"dinov2-{letter}{suffix}" for suffix in ("", "-reg") for letter in "sblg")
DISTANCES = {"random-conv": "fd", **dict.fromkeys(INCEPTIONS, "fid"), **dict.fromkeys(DINOV2S, "fdd")}
"""network -> end of the columns of its Fréchet distances: rfd, rfid, rfdd of reconstructions, gfd, gfid, gfdd of
generated images"""
Features = str | tuple[str, ...]
"""one network, or several that measure in one pass"""


def read_features(value: object) -> Features:
    """The networks that a spec names: one word, or several words that measure in different columns.

    Anything else raises ``ValueError``. A list of one is that one, so that both ways to write it are one config.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("features are a network's name, or a list of names")
    for name in names:
        if name not in DISTANCES:
            raise ValueError(f"no such features {name!r}; one of: {one_of(DISTANCES, name)}")
    for one, other in combinations(names, 2):
        if DISTANCES[one] == DISTANCES[other]:
            raise ValueError(f"{one} and {other} both measure r{DISTANCES[one]}: name one of them")
    return names[0] if len(names) == 1 else tuple(names)


def named(features: Features) -> tuple[str, ...]:
    """The names, however many: the first is the one that stands for the row where only one can."""
    return (features,) if isinstance(features, str) else tuple(features)


def behind(column: str, features: str) -> str:
    """The network, of the column ``features``, that measured another column of the row.

    Fréchet distances and Inception scores tell it by their name; precision, recall and all else are the first's. What
    cannot be told is left as it is.
    """
    names = features.split(JOINT)
    measure = without_scale(column.lower()).removesuffix("_inf")
    if len(names) == 1 or measure in ("precision", "recall"):
        return names[0]
    end = "fid" if measure in ("ris", "gis") else measure[1:]
    return next((name for name in names if DISTANCES.get(name) == end), features)

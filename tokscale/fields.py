"""What configs are made of: their base class, counts with suffixes, bounded numbers, and unions chosen by ``kind``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field

_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


class Config(BaseModel):
    """Base of every config: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def parse_count(value: object) -> object:
    """A count with an optional k, M or G (powers of 1000): ``102.4M`` is 102,400,000; it must come out whole."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)([kKMG]?)", value.strip().replace("_", ""))
        if match is None:
            raise ValueError("a count is a whole number, which may carry k, M or G")
        value = float(match[1]) * _SUFFIXES[match[2]]
    if isinstance(value, bool):
        raise ValueError("a count is a whole number, not true or false")
    if isinstance(value, float):
        if not math.isfinite(value) or not math.isclose(value, round(value), rel_tol=1e-12):
            raise ValueError("a count must be a whole number")
        return round(value)
    return value


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a whole number is needed, not true or false")
    return value


VALIDATION, TRAIN = "validation", "train"
"""sets that images are measured against"""


def _reference(value: str) -> str:
    if value != VALIDATION and not value.endswith(".npz"):
        raise ValueError("a reference is `validation`, or the path of an .npz file")
    return value


def _reference_of_samples(value: str) -> str:
    name, colon, count = value.partition(":")
    if name == TRAIN and not value.endswith(".npz"):
        number = parse_count(count) if colon else None
        if isinstance(number, int) and number < MIN_MEASURED:
            raise ValueError(f"a reference of training images needs {MIN_MEASURED} or more")
        return TRAIN if number is None else f"{TRAIN}:{number}"
    if value != VALIDATION and not value.endswith(".npz"):
        raise ValueError("a reference is `validation`, or the path of an .npz file, or `train` or `train:50k`")
    return value


def train_images(reference: str) -> int | None:
    """How many training images a reference ``train:COUNT`` asks for; None for ``train``, which is all."""
    count = reference.partition(":")[2]
    return int(count) if count else None


def kind_of(default: str) -> Discriminator:
    """Tells the members of a union apart by the word under ``kind``; a mapping without one is of the default kind."""

    def kind(value: object) -> object:
        return value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", None)

    return Discriminator(kind)


MIN_MEASURED = 4
"""images below which there is no covariance worth the name, nor a third neighbour for precision and recall"""
MIN_EXTRAPOLATED = 20
"""images below which no line through Fréchet distances of subsets is drawn"""

Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0, lt=2**53)]
CountOrZero = Annotated[int, BeforeValidator(parse_count), Field(ge=0, lt=2**53)]
Seed = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, lt=2**63)]
Measured = Annotated[int, BeforeValidator(parse_count), Field(ge=MIN_MEASURED)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Natural = Annotated[int, Field(gt=0)]
ReferenceSet = Annotated[str, AfterValidator(_reference)]
"""what images are measured against: `validation`, the validation set, or the path of a file in ADM's format"""
SampleReferenceSet = Annotated[str, AfterValidator(_reference_of_samples)]
"""what samples are measured against: as ``ReferenceSet``, or `train`, or `train:COUNT`, training images"""

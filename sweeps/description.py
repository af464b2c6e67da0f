"""``stage.yaml``: what a stage is, for the job that runs it and for people.

It is written by hand because a sweep has thousands, and a general YAML writer takes longer for one than the disk does.
Mappings are blocks, all else is JSON, which YAML 1.2 reads as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokscale.stage import Stage

# What JSON leaves as it is within quotes but YAML does not allow there, or takes for the end of a line.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_WORDS = ("null", "true", "false")  # of YAML 1.2, in any case


def describe(stage: Stage) -> str:
    """The text of a stage's description."""
    values = {"kind": stage.kind, "id": stage.id, "config": stage.config, "parents": stage.parents}
    if stage.watch:
        values["watch"] = stage.watch
    return "".join(f"{line}\n" for line in _block(values, ""))


def _block(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in values.items():
        name = key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _WORDS else _scalar(key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _block(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

"""Sizes by name: each size is a row in a table, and only its numbers go into a config, a hash or a record.

Names are for people. Published sizes keep their published letters; sizes below S are ours, for processors and tests.
"""

from __future__ import annotations

from typing import NamedTuple

from tokscale.errors import ConfigError, one_of


class Size(NamedTuple):
    """Width, depth (blocks) and attention heads of a transformer, and where the row comes from."""

    width: int
    depth: int
    heads: int
    source: str


_OURS = "ours, for processors and tests"
_VITOK = "ViTok (arXiv 2501.09755) Table 1"
_LLAMAGEN = "LlamaGen (arXiv 2406.06525) Table 1"
_DIT = "DiT (arXiv 2212.09748) Table 1"
_GIGATOK = "GigaTok (arXiv 2504.08736) Table 1"

VIT: dict[str, Size] = {
    "pico": Size(32, 1, 2, _OURS),
    "nano": Size(64, 1, 2, _OURS),
    "micro": Size(96, 2, 3, _OURS),
    "mini": Size(128, 4, 4, _OURS),
    "tiny": Size(192, 6, 6, _OURS),
    "S": Size(768, 6, 12, _VITOK),
    "B": Size(768, 12, 12, _VITOK),
    "L": Size(1152, 24, 16, _VITOK),
}

GPT: dict[str, Size] = {
    "pico": Size(32, 1, 2, _OURS),
    "nano": Size(64, 1, 2, _OURS),
    "micro": Size(96, 2, 3, _OURS),
    "mini": Size(128, 4, 4, _OURS),
    "tiny": Size(192, 6, 6, _OURS),
    "B": Size(768, 12, 12, _LLAMAGEN),
    "L": Size(1024, 24, 16, _LLAMAGEN),
    "XL": Size(1280, 36, 20, _LLAMAGEN),
    "XXL": Size(1536, 48, 24, _LLAMAGEN),
    "3B": Size(3200, 24, 32, _LLAMAGEN),
}

GIGATOK: dict[str, Size] = {
    "pico": Size(32, 1, 2, _OURS),
    "nano": Size(64, 1, 2, _OURS),
    "micro": Size(96, 2, 3, _OURS),
    "mini": Size(128, 4, 4, _OURS),
    "tiny": Size(192, 6, 6, _OURS),
    "S": Size(512, 6, 8, _GIGATOK),
    "B": Size(768, 12, 12, _GIGATOK),
    "L": Size(1024, 24, 16, _GIGATOK),
    "XL": Size(1280, 36, 20, _GIGATOK),
    "XXL": Size(1536, 48, 24, _GIGATOK),
}

DIT: dict[str, Size] = {
    "pico": Size(32, 1, 2, _OURS),
    "nano": Size(64, 1, 2, _OURS),
    "micro": Size(96, 2, 3, _OURS),
    "mini": Size(128, 4, 4, _OURS),
    "tiny": Size(192, 6, 6, _OURS),
    "B": Size(768, 12, 12, _DIT),
    "L": Size(1024, 24, 16, _DIT),
    "XL": Size(1152, 28, 16, _DIT),
}

FAMILIES: dict[str, dict[str, Size]] = {"vit": VIT, "gpt": GPT, "gigatok": GIGATOK, "dit": DIT}
"""all sizes that a spec may name"""


def lookup(family: str, name: str) -> dict[str, int]:
    """Width, depth and heads of a named size; an unknown name raises ``ConfigError`` with the nearest one."""
    table = FAMILIES[family]
    if name not in table:
        raise ConfigError(f"no {family} size of this name", given=name, allowed=one_of(table, name))
    size = table[name]
    return {"width": size.width, "depth": size.depth, "heads": size.heads}


def name_of(family: str, width: int, depth: int, heads: int) -> str:
    """The preset's name for these numbers, or the numbers themselves as ``width x depth x heads``."""
    for name, size in FAMILIES[family].items():
        if size[:3] == (width, depth, heads):
            return name
    return f"{width}x{depth}x{heads}"


def vit_mlp_width(width: int) -> int:
    """Hidden width of a ViT's SwiGLU: 8/3 of the width, to the nearest multiple of 64 (of 8 below 192).

    ViTok's code takes 2.67 x the width; the multiple keeps matrix products aligned and moves the published parameter
    counts by less than 0.1 %.
    """
    multiple = 64 if width >= 192 else 8
    return max(multiple, round(width * 8 / 3 / multiple) * multiple)


def gpt_mlp_width(width: int) -> int:
    """Hidden width of the AR probe's SwiGLU: 8/3 of the width, up to a multiple of 256 (8 below 192), as LlamaGen's."""
    multiple = 256 if width >= 192 else 8
    return -(-(width * 8) // (3 * multiple)) * multiple

"""Tables on the terminal and their JSON twins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tokscale import cost, presets
from tokscale.config import (
    AutoregressiveProbe,
    DiffusionProbe,
    GigaTokTokenizer,
    KLBottleneck,
    VitTokenizer,
    VQBottleneck,
)
from tokscale.record import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_RESULT_COLUMNS = (
    "label", "seed", "status", "bottleneck_floats", "bottleneck_bits", "psnr", "ssim", "rfd", "ar_loss",
    "ar_bits_per_image", "diffusion_loss", "gfd",
)  # fmt: skip


def console() -> Console:
    """Standard output, as wide as the terminal; 120 columns where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=120, soft_wrap=True)


def count(number: float) -> str:
    """A count for people: ``43.1 M``, ``1.2 T``."""
    for limit, letter in ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {letter}"
    return f"{number:.3g}" if isinstance(number, float) else str(number)


def results_table(table: pd.DataFrame) -> Table:
    """The measures that a person looks at first; ``--output`` has all columns."""
    names = [name for name in _RESULT_COLUMNS if name in table]
    shown = Table(title=None, box=None)
    for name in names:
        shown.add_column(COLUMNS[name].axis if name != "label" else "tokenizer",
                         justify="left" if name in ("label", "status") else "right")  # fmt: skip
    for row in table[names].to_dict("records"):
        shown.add_row(*(_cell(row[name]) for name in names))
    return shown


def preset_tables() -> list[Table]:
    """One table for each family of sizes."""
    tables = []
    for family, rows in _presets().items():
        table = Table(title=f"{family} sizes", box=None, title_justify="left")
        for name in ("name", "width", "depth", "heads", "parameters", "source"):
            table.add_column(name, justify="left" if name in ("name", "source") else "right")
        for row in rows:
            table.add_row(row["name"], str(row["width"]), str(row["depth"]), str(row["heads"]),
                          count(float(row["parameters"])), row["source"])  # fmt: skip
        tables.append(table)
    return tables


def presets_json() -> str:
    """All named sizes with their parameters."""
    return json.dumps(_presets(), indent=1)


def _presets() -> dict[str, list[dict[str, Any]]]:
    return {
        family: [
            {"name": name, "width": size.width, "depth": size.depth, "heads": size.heads,
             "parameters": _parameters(family, name), "source": size.source}
            for name, size in sizes.items()
        ]
        for family, sizes in presets.FAMILIES.items()
    }  # fmt: skip


def _parameters(family: str, name: str) -> int:
    """Parameters as published: an encoder at 256 pixels (a ViT with 16-pixel patches, a CNN with a Q-Former), a GPT
    over 16384 codes and 1000 classes, a DiT of 256 tokens of 16 channels and 1000 classes."""
    if family == "gigatok":
        return cost.tokenizer_params(GigaTokTokenizer.model_validate({"kind": "gigatok", "encoder": name}))[
            "encoder_params"
        ]
    if family == "dit":
        probe = DiffusionProbe.model_validate({"kind": "diffusion", "size": name})
        return cost.probe_params(probe, KLBottleneck(), 1000)
    if family == "vit":
        return cost.tokenizer_params(VitTokenizer.model_validate({"encoder": name}))["encoder_params"]
    return cost.probe_params(AutoregressiveProbe.model_validate({"size": name}), VQBottleneck(kind="vq"), 1000)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or value != value:  # absent: NaN is not equal to itself
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and not float(value).is_integer() else f"{value:.0f}"

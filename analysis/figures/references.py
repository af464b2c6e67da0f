"""Published points under one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.figures.curves import Reference
from analysis.figures.series import finite
from analysis.published_tables import published, published_names
from analysis.style import feature_names
from tokscale.errors import UsageError, one_of


@dataclass(frozen=True)
class Overlay:
    """A published table to lay under one's own points: which rows, and which of its columns are which of ours."""

    table: str
    label: str
    rows: tuple[str, str]
    columns: dict[str, str]
    features: str


# PSNR and SSIM depend on data and resolution, which the label names; a Fréchet distance on its features as well.
OVERLAYS = {
    "vitok": Overlay(
        "vitok_fig2_bottleneck_256p", "ViTok S-B, 256 px ImageNet (arXiv:2501.09755, Fig. 2)",
        ("dataset", "imagenet"), {"bottleneck_floats": "E", "psnr": "PSNR", "ssim": "SSIM", "rfid": "rFID"},
        "inception-torchvision",
    ),
}  # fmt: skip


def references(names: Sequence[str], table: pd.DataFrame, x: str, y: str) -> list[Reference]:
    """Published points for these axes, as far as the tables have both and an FID is of the same features.

    ``names`` are the words of ``OVERLAYS`` or the tables' own names; raises ``UsageError`` for any other.
    """
    by_table = {overlay.table: overlay for overlay in OVERLAYS.values()}
    found = []
    for name in names:
        overlay = OVERLAYS.get(name) or by_table.get(name)
        if overlay is None:
            what = "a published table without an overlay" if name in published_names() else "no such published curve"
            raise UsageError(what, given=name, allowed=one_of(OVERLAYS, name))
        if not {x, y} <= set(overlay.columns) or (y == "rfid" and feature_names(table, y) != overlay.features):
            continue
        rows = published(overlay.table)
        rows = rows[rows[overlay.rows[0]].str.startswith(overlay.rows[1])]
        points = finite(rows.rename(columns={theirs: ours for ours, theirs in overlay.columns.items()}), x, y)
        found.append(Reference(overlay.label, points[x].to_numpy(float), points[y].to_numpy(float)))
    return found

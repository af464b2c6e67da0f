"""Published points under one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.figures.curves import Reference
from analysis.figures.series import finite
from analysis.published_tables import published, published_names
from analysis.style import feature_names, is_frechet
from tokscale.errors import UsageError, one_of


@dataclass(frozen=True)
class Overlay:
    """A published table to lay under one's own points: which rows, and which of its columns are which of ours.

    ``columns`` has for each of ours theirs, and what one of theirs is in ours.
    """

    table: str
    label: str
    rows: tuple[str, str]
    columns: dict[str, tuple[str, float]]
    features: str


# PSNR and SSIM depend on data and resolution, which the label names; a Fréchet distance on its features as well.
_GIGATOK = {"tokenizer_params": ("params_M", 1e6), "rfid": ("rFID", 1.0), "lpips": ("LPIPS", 1.0),
            "gfid": ("ar_probe_gFID", 1.0), "ar_linear_accuracy": ("ar_probe_lin_acc_pct", 0.01)}  # fmt: skip
_VITOK = {"bottleneck_floats": ("E", 1.0), "floats_per_pixel": ("E", 1 / 256**2), "psnr": ("PSNR", 1.0),
          "ssim": ("SSIM", 1.0), "rfid": ("rFID", 1.0)}  # fmt: skip
OVERLAYS: dict[str, tuple[Overlay, ...]] = {
    "vitok": (
        Overlay(
            "vitok_fig2_bottleneck_256p", "ViTok S-B, 256 px ImageNet (arXiv:2501.09755, Fig. 2)",
            ("dataset", "imagenet"), _VITOK, "inception-torchvision",
        ),
    ),
    "gigatok": tuple(
        Overlay(
            "gigatok_fig3_fig7_semreg_scaling", f"GigaTok {words}, 256 px ImageNet (arXiv:2504.08736, Fig. 7)",
            ("semantic_regularization", rows), _GIGATOK, "inception-tf2015",
        )
        for rows, words in (("without", "unaligned"), ("with (", "aligned"))
    ),
}  # fmt: skip


def references(names: Sequence[str], table: pd.DataFrame, x: str, y: str) -> list[Reference]:
    """Published points for these axes, as far as the tables have both and an FID is of the same features.

    ``names`` are the words of ``OVERLAYS`` or the tables' own names; raises ``UsageError`` for any other.
    """
    by_table = {overlays[0].table: overlays for overlays in OVERLAYS.values()}
    found = []
    for name in names:
        overlays = OVERLAYS.get(name) or by_table.get(name)
        if overlays is None:
            what = "a published table without an overlay" if name in published_names() else "no such published curve"
            raise UsageError(what, given=name, allowed=one_of(OVERLAYS, name))
        for overlay in overlays:
            if not {x, y} <= set(overlay.columns):
                continue
            if is_frechet(y) and feature_names(table, y) != overlay.features:
                continue
            rows = published(overlay.table)
            rows = rows[rows[overlay.rows[0]].str.startswith(overlay.rows[1])]
            scaled = {ours: rows[theirs] * factor for ours, (theirs, factor) in overlay.columns.items()}
            points = finite(pd.DataFrame(scaled), x, y)
            found.append(Reference(overlay.label, points[x].to_numpy(float), points[y].to_numpy(float)))
    return found

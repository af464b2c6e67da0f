"""Published points under one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_QUALITY = {"psnr": ("PSNR", 1.0), "ssim": ("SSIM", 1.0), "rfid": ("rFID", 1.0)}
_FLOATS = {"bottleneck_floats": ("E", 1.0), "floats_per_pixel": ("E", 1 / 256**2)}
_SHAPES = {**_FLOATS, **_QUALITY}
_SIZES = {"encoder_params": ("enc_params_M", 1e6), "decoder_params": ("dec_params_M", 1e6)}
_GENERATED = {"gfid": ("gFID_cfg1.5", 1.0), "gfid_cfg1.5": ("gFID_cfg1.5", 1.0), "gfid_cfg3": ("gFID_cfg3.0", 1.0)}


def _vitok(table: str, words: str, rows: tuple[str, str], columns: Mapping[str, tuple[str, float]]) -> Overlay:
    return Overlay(table, f"ViTok {words}", rows, dict(columns), "inception-torchvision")


OVERLAYS: dict[str, tuple[Overlay, ...]] = {
    "vitok": (
        _vitok("vitok_fig2_bottleneck_256p", "S-B, 256 px ImageNet (arXiv:2501.09755, Fig. 2)", ("dataset", "imagenet"),
               _SHAPES),
        _vitok("vitok_fig6to9_encoder_decoder_sweep", "E = 4096, 256 px ImageNet (arXiv:2501.09755, Figs. 6 to 9)",
               ("model", "ViTok"), {**_SIZES, **_QUALITY, **_GENERATED}),
        _vitok("vitok_fig5_generation_vs_E", "S-B and DiT-L, guidance 1.5 or 3 (arXiv:2501.09755, Fig. 5)",
               ("model", "ViTok"), {**_FLOATS, **_GENERATED}),
    ),
    "vitok-latent": (
        _vitok("vitok_fig19_simple_vs_latent", "patches (arXiv:2501.09755, Fig. 19)", ("model", "Simple"), _SHAPES),
        _vitok("vitok_fig19_simple_vs_latent", "latent tokens (Fig. 19)", ("model", "Latent"), _SHAPES),
        _vitok("vitok_fig20_masking", "patches, masked tails (Fig. 20)", ("model", "Mask Simple"), _SHAPES),
        _vitok("vitok_fig20_masking", "latent tokens, masked tails (Fig. 20)", ("model", "Mask Latent"), _SHAPES),
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
    every = [overlay for overlays in OVERLAYS.values() for overlay in overlays]
    found = []
    for name in names:
        overlays = OVERLAYS.get(name) or [overlay for overlay in every if overlay.table == name]
        if not overlays:
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

"""Trials that share a stage: what that stage measured is one measurement, in however many rows it stands.

Trials that differ by their probe alone stand on one tokenizer. Its PSNR is in the row of each, and counted as often it
would make every interval of a law too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tokscale.columns import without_scale

_LATER = ("latents.", "probe.", "generation.", "linear_probe.")
"""sections of a trial on which its tokenizer does not stand"""
_OF_THE_TOKENIZER = frozenset({
    "encoder_params", "decoder_params", "tokenizer_params", "training_only_params", "bottleneck_tokens",
    "bottleneck_channels", "bottleneck_floats", "bottleneck_bits", "codebook_size", "pixels_per_float",
    "floats_per_pixel", "train_images", "train_flops", "finetune_only_params", "finetune_images", "finetune_flops",
    "mse", "psnr", "ssim", "lpips", "rfid", "rfdd", "rfd", "ris", "rfvd", "rfcd", "kl_bits_per_image",
    "codebook_usage", "codebook_entropy",
})  # fmt: skip
_EARLIER = ("data.", "tokenizer.", "losses.", "training.", "decoder_finetune.", "evaluation.")


def counted_once(table: pd.DataFrame, names: Sequence[str | None]) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a results table that are measurements of their own in some columns, and a warning about the others.

    All columns must be the tokenizer's own, or all rows stay; and rows that differ in nothing but what comes after the
    tokenizer, with equal values in these columns, are one.
    """
    asked = [str(name) for name in names if name is not None]
    own = all(name in _OF_THE_TOKENIZER or name.startswith(_EARLIER) for name in map(without_scale, asked))
    columns = [str(name) for name in table.columns]
    later = [name for name in columns if name.startswith(_LATER)]
    if not own or "trial" not in columns or all(table[name].nunique(dropna=False) < 2 for name in later):
        return table, []
    told_by = [name for name in columns if name.startswith(_EARLIER) or name in (*asked, "seed")]
    repeated = table[told_by].astype("string").duplicated().to_numpy()
    if not (count := int(repeated.sum())):
        return table, []
    what = "1 row is" if count == 1 else f"{count} rows are"
    return table[~repeated], [f"{what} of a tokenizer that stands in another row, and counts once"]

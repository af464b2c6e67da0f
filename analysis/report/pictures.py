"""Originals, reconstructions and samples as rows of pictures that need no other file."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from PIL import Image

from analysis.report.answers import count
from analysis.report.load import Sweep
from analysis.report.markup import Embedded, Html, join, tag
from analysis.style import plain

MOST_ROWS = 24
# Below this width of a tile eight fit on a row; above, fewer, so that a page of 256-pixel images can still be mailed.
SMALL_TILE = 128


@dataclass(frozen=True)
class Picture:
    """A PNG and its size in pixels."""

    png: bytes
    width: int
    height: int


def reconstructions(sweep: Sweep) -> Html:
    """Originals above the reconstructions of each trial, the smallest bottleneck first."""
    rows = _one_seed(_with_pictures(sweep, "pictures"))
    if rows.empty:
        return tag("p", "No pictures of reconstructions were kept.", class_="absent")
    parts: list[Html] = []
    shown: Picture | None = None
    kept = _spread(rows)
    for _, row in kept.iterrows():
        originals = _picture(sweep, row, "originals")
        if originals is not None and originals != shown:  # once for all trials that show the same images
            parts.append(_row(originals, "Originals", "", "Original images, before the tokenizer", "originals"))
            shown = originals
        picture = _picture(sweep, row, "pictures")
        assert picture is not None, "rows without a picture were left out"
        name, detail = describe(row)
        parts.append(_row(picture, name, detail, f"Reconstructions by {name}: {detail}", anchor=anchor(row)))
    left = len(rows) - len(kept)
    more = tag("p", f"{left} more trials have pictures; rows evenly spread over the sizes are shown.") if left else None
    return join(tag("div", parts, class_="pictures"), more)


def samples(sweep: Sweep) -> Html:
    """What the probe of each trial generates; says so where nothing was sampled."""
    rows = _one_seed(_with_pictures(sweep, "samples"))
    if rows.empty:
        return tag("p", "No samples: no probe generated images in this sweep.", class_="absent")
    parts, wide = [], True
    for _, row in _spread(rows).iterrows():
        name, _ = describe(row)
        rate = row.get("ar_bits_per_image", math.nan)
        detail = f"{count(rate)} bits/image" if pd.notna(rate) else ""
        picture = _picture(sweep, row, "samples")
        assert picture is not None, "rows without a picture were left out"
        wide = wide and picture.width >= 3 * picture.height
        parts.append(_row(picture, name, detail, f"Images sampled from the probe of {name}"))
    return tag("div", parts, class_="pictures" if wide else "pictures grids")


def describe(row: pd.Series[Any]) -> tuple[str, str]:
    """A trial in words: its label, and its size and PSNR as far as there are any."""
    name = str(row["label"]) if pd.notna(row.get("label")) else f"trial {row.get('trial', '')}"
    detail = []
    if pd.notna(row.get("bottleneck_bits")):
        detail.append(f"{count(row['bottleneck_bits'])} bits")
    elif pd.notna(row.get("bottleneck_floats")):
        detail.append(f"E = {count(row['bottleneck_floats'])}")
    if pd.notna(row.get("psnr")):
        detail.append(f"PSNR {plain(row['psnr'], 4)} dB")
    return name, ", ".join(detail)


def _with_pictures(sweep: Sweep, column: str) -> pd.DataFrame:
    there = [_picture(sweep, row, column) is not None for _, row in sweep.table.iterrows()]
    return sweep.table[pd.Series(there, index=sweep.table.index, dtype=bool)]


def _one_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """One trial of those that differ in the seed only: their pictures look alike."""
    columns = [
        c for c in ("dataset", "label", "bottleneck_floats", "bottleneck_bits", "decoder", "encoder") if c in rows
    ]
    return rows.drop_duplicates(columns) if "label" in columns else rows


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) <= MOST_ROWS:
        return rows
    places = [round(i * (len(rows) - 1) / (MOST_ROWS - 1)) for i in range(MOST_ROWS)]
    return rows.iloc[places]


def _picture(sweep: Sweep, row: pd.Series[Any], column: str) -> Picture | None:
    """A trial's picture, or None if it has none or it cannot be read: a page without one picture is still a page."""
    value = row.get(column)
    path = sweep.runs / value if isinstance(value, str) and value else None
    if path is None or not path.is_file():
        return None
    try:
        return _strip(path.read_bytes())
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for damaged files
        return None


def _strip(content: bytes) -> Picture:
    """A PNG as it is; of a strip of square tiles the first eight, or the first five where the tiles are large."""
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        most = (8 if height <= SMALL_TILE else 5) * height
        if width <= most or width % height:
            return Picture(content, width, height)
        cropped = io.BytesIO()
        image.crop((0, 0, most, height)).save(cropped, "PNG", optimize=True)
        return Picture(cropped.getvalue(), most, height)


def anchor(row: pd.Series[Any]) -> str | None:
    """Where the reconstructions of a trial are on the page."""
    return f"pictures-{row['trial']}" if isinstance(row.get("trial"), str) else None


def shown_trials(sweep: Sweep) -> set[str]:
    """The anchors of the trials whose reconstructions are on the page."""
    rows = _spread(_one_seed(_with_pictures(sweep, "pictures")))
    return {place for _, row in rows.iterrows() if (place := anchor(row)) is not None}


def _row(
    picture: Picture, name: str, detail: str, alt: str, class_: str | None = None, anchor: str | None = None
) -> Html:
    caption = tag("figcaption", tag("strong", name), tag("span", detail) if detail else None)
    source = Embedded(picture.png, "image/png")
    image = tag("img", src=source, alt=alt, width=picture.width, height=picture.height, class_="pixels")
    return tag("figure", caption, image, class_=class_, id=anchor)

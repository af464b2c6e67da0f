"""What was run, and what stands in for what, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.figures.series import NAMES
from analysis.report.answers import count, parameters
from analysis.report.load import Sweep
from analysis.style import plain
from tokscale.feature_names import DINOV2S, JOINT

FEATURES = {
    "random-conv": (
        "Fréchet distances here are taken in the features of a fixed convolutional network with random weights "
        "(random-conv). They rank the trials of this sweep; they are not FIDs and must never be compared with "
        "published FIDs."
    ),
    "inception-torchvision": (
        "Fréchet distances use torchvision's Inception v3 weights, as the ViTok code does; they are not on the scale "
        "of FIDs from the 2015 TensorFlow network."
    ),
    **{name: f"Fréchet distances in the features of DINOv2 ({name}) are not on the scale of FIDs." for name in DINOV2S},
    "inception-tf2015": "Fréchet distances use the 2015 TensorFlow Inception network, the one of published FIDs.",
}


def what_was_run(sweep: Sweep) -> str:
    """One paragraph: how many trials, of what kinds and sizes, on which data and budget, how long and on what."""
    table = sweep.table
    if table.empty:
        return f"The sweep {sweep.name} has no finished trial yet. {_duration(sweep)}".strip()
    parts = [f"{_states(sweep)}: {_bottlenecks(table)}{_decoders(table)}."]
    parts += [_training(table), _probing(sweep), _duration(sweep)]
    return " ".join(part for part in parts if part)


def _states(sweep: Sweep) -> str:
    """``17 trials, of which 16 done and 1 failed``, by the summary or, without one, by the table."""
    states = sweep.summary.get("trials") or {}
    if not states and "status" in sweep.table:
        states = sweep.table["status"].value_counts().to_dict()
    states = {state: n for state, n in states.items() if n}
    total = _number(sum(states.values()) or len(sweep.table), "trial")
    if set(states) <= {"done"}:
        return f"{total}, all done" if states else total
    return f"{total}, of which {listed(f'{n} {state}' for state, n in states.items())}"


def _number(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(words: Iterable[object]) -> str:
    """Words in a sentence: a, b and c."""
    items = [str(word) for word in words]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def _bottlenecks(table: pd.DataFrame) -> str:
    if "bottleneck" not in table:
        return "tokenizers"
    return listed(_bottleneck(str(kind), rows) for kind, rows in table.groupby("bottleneck", sort=False))


def _bottleneck(kind: str, rows: pd.DataFrame) -> str:
    name = f"{NAMES.get(kind, kind)} bottlenecks"
    for column, what in (("bottleneck_bits", "{} bits"), ("bottleneck_floats", "E = {} floats")):
        sizes = sorted(rows[column].dropna().unique()) if column in rows else []
        if sizes:
            ends = count(sizes[0]) if len(sizes) == 1 else f"{count(sizes[0])} to {count(sizes[-1])}"
            return f"{name} of {what.format(ends)} ({_number(len(sizes), 'size')})"
    return name


def _decoders(table: pd.DataFrame) -> str:
    parts = []
    for part in ("encoder", "decoder"):
        if part in table and table[part].notna().any():
            names = list(dict.fromkeys(table[part].dropna().astype(str)))
            named = [_preset(table, part, name) for name in names]
            parts.append(f"{part}{'s' if len(names) > 1 else ''} {listed(named)}")
    return f", with {listed(parts)}" if parts else ""


def _preset(table: pd.DataFrame, part: str, name: str) -> str:
    column = f"{part}_params"
    known = column in table and table.loc[table[part].astype(str) == name, column].notna().any()
    return f"{name} ({parameters(table, part, name)} parameters)" if known else name


def _training(table: pd.DataFrame) -> str:
    budget = _range(table, "train_images")
    data = listed(dict.fromkeys(table["dataset"].dropna().astype(str))) if "dataset" in table else ""
    pixels, frames = _range(table, "data.resolution"), _range(table, "data.frames")
    seeds = int(table["seed"].nunique()) if "seed" in table else 0
    if not (budget or data):
        return ""
    words = f"Each tokenizer was trained on {budget or 'its budget of'} images"
    words += f" of the data set {data}" if data else ""
    words += f" at {pixels} x {pixels} pixels" if pixels else ""
    words += f", an image being a clip of {frames} frames" if frames else ""
    words += f", with {_number(seeds, 'seed')} a configuration" if seeds else ""
    return f"{words}, and measured on validation images."


def _range(table: pd.DataFrame, column: str) -> str:
    values = sorted(table[column].dropna().unique()) if column in table else []
    if not values:
        return ""
    return f"{values[0]:,.0f}" if len(values) == 1 else f"{values[0]:,.0f} to {values[-1]:,.0f}"


def _probing(sweep: Sweep) -> str:
    autoregressive = sweep.has("ar_loss") or sweep.has("ar_bits_per_image")
    probes = ["a small autoregressive model (the AR probe)"] * autoregressive
    probes += ["a diffusion model (the diffusion probe)"] * sweep.has("diffusion_loss")
    if not probes:
        return "No probe was trained, so nothing is known here about generation."
    sampled = any(sweep.has(c) for c in ("gfid", "gfdd", "gfd", "gis"))
    were, them = ("was", "it") if len(probes) == 1 else ("were", "them")
    generated = f"and images were sampled from {them}" if sampled else "but no generated images were measured"
    what = " and ".join(probes)
    return f"{what[0].upper()}{what[1:]} {were} then trained on each tokenizer's latents, {generated}."


def _duration(sweep: Sweep) -> str:
    wall = sweep.summary.get("wall_seconds")
    if not isinstance(wall, (int, float)):
        return ""
    environment = sweep.summary.get("environment") or {}
    where = environment.get("device") or environment.get("host")
    on = f" on {where}" if where else ""
    gpu = sweep.summary.get("gpu_seconds")
    used = f", of GPU time {duration(gpu)}" if isinstance(gpu, (int, float)) and gpu > 0 else ""
    return f"All of it took {duration(wall)}{on}{used}{_longest(sweep.summary.get('stages') or [])}."


def _longest(stages: Sequence[dict[str, object]]) -> str:
    spent: dict[str, float] = {}
    for stage in stages:
        if isinstance(seconds := stage.get("seconds"), (int, float)):
            spent[str(stage.get("kind"))] = float(seconds)
    total = sum(spent.values())
    if total <= 0:
        return ""
    kind = max(spent, key=lambda name: spent[name])
    return f"; the longest part was the stage {kind}, {100 * spent[kind] / total:.0f}\N{NO-BREAK SPACE}% of the work"


def duration(seconds: float) -> str:
    """A time for people: 42 s, 5 min 12 s, 3 h 20 min, 2 d 4 h."""
    whole = round(seconds)
    for size, unit, lower_size, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = (whole % size) // lower_size
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{seconds:.0f} s"


def limits(sweep: Sweep) -> list[str]:
    """Every note of the sweep, then what follows from the table itself, one sentence each."""
    table = sweep.table
    lines = [str(note) for note in sweep.summary.get("notes") or []]
    if any(sweep.has(c) for c in ("rfid", "rfdd", "rfd", "gfid", "gfdd", "gfd")) and "features" in table:
        joined = dict.fromkeys(name for names in table["features"].dropna().unique() for name in names.split(JOINT))
        named = [name for name in joined if name in FEATURES]
        # a network that a note of the sweep explains is not explained again
        lines += [FEATURES[name] for name in named if not any(f"({name})" in line for line in lines)]
    if sweep.has("ar_loss"):
        lines.append(
            "The AR probing loss compares only tokenizers of equal vocabulary and length; across kinds and sizes "
            "compare the AR rate in bits per image."
        )
    if sweep.has("ar_bits_per_image"):
        lines.append(_rate_bound(table))
    if any(sweep.has(c) for c in ("gfd", "gfdd", "gfid", "precision", "recall")):
        images = _range(table, "generation.images")
        lines.append(
            "Fréchet distances, precision and recall of generated images depend on the numbers of images"
            f"{f' ({images} generated)' if images else ''} and compare only at equal numbers."
        )
    if len(table) and ("seed" not in table or table["seed"].nunique() < 2):
        lines.append(
            "One seed was run for each configuration: intervals tell how well the law fits the points, not how much a "
            "repeated training would move them."
        )
    return lines


def _rate_bound(table: pd.DataFrame) -> str:
    classes = table["data.classes"].dropna().unique() if "data.classes" in table else []
    if len(classes) == 1:
        more = f"log2({classes[0]:.0f}) = {plain(math.log2(classes[0]), 2)}"
    else:
        more = "log2(classes)"
    return (
        "The AR rate is an upper bound for every bottleneck, and it is conditional on the class: without the class up "
        f"to {more} bits per image more; a better probe can only lower it."
    )

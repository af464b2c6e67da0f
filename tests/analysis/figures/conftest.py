"""What tests of figures share: tables to draw, axes to draw on, and an eye for labels that touch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

PARAMS = {"S": 43.3e6, "B": 85.8e6, "L": 383.7e6}
SIZES = tuple(2**k for k in range(8, 16))


def make_trials(decoders=("S", "B", "L"), sizes=SIZES, seeds=3, encoders=("S",), kinds=("kl",)) -> pd.DataFrame:
    """A results table of made-up trials: a line in PSNR, power laws in errors, a valley in gFID, all with noise."""
    noise = np.random.default_rng(1)
    rows = []
    for kind, e, d, enc, s in itertools.product(kinds, sizes, decoders, encoders, range(seeds)):
        rows.append({
            "trial": f"{kind}{e}{d}{enc}{s}", "label": f"{enc}-{d}/{e} {kind}", "seed": s, "bottleneck": kind,
            "bottleneck_floats": e, "bottleneck_channels": e // 256, "encoder": enc, "encoder_params": PARAMS[enc],
            "decoder": d, "decoder_params": PARAMS[d], "tokenizer_params": PARAMS[enc] + PARAMS[d],
            "features": "random-conv", "dataset": "imagenet", "bottleneck_bits": math.nan if kind == "kl" else 2.0 * e,
            "psnr": 2.3 * math.log2(e) - 0.6 + 0.5 * math.log10(PARAMS[d] / 1e7) + noise.normal(0, 0.3),
            "mse": 0.5 * e**-0.55 * math.exp(noise.normal(0, 0.05)),
            "rfid": 9000 * e**-1.1 * (PARAMS[d] / 4e7) ** -0.1 * math.exp(noise.normal(0, 0.1)),
            "gfid": (900 * e**-0.8 + 0.5 * (e / 256) ** 0.55 + 2) * math.exp(noise.normal(0, 0.05)),
            "ar_bits_per_image": (8 if kind == "kl" else 6) * e**0.93 * math.exp(noise.normal(0, 0.01)),
        })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(name="trials", scope="session")
def trials_fixture() -> Callable[..., pd.DataFrame]:
    """Makes tables of trials."""
    return make_trials


@pytest.fixture(name="axes")
def axes_fixture() -> Axes:
    """Empty axes of a figure of the style's size."""
    return Figure(layout="constrained").subplots()


def shown_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, with its place in pixels, but slanted ones: their boxes are larger than they are."""
    figure.draw_without_rendering()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            room = 1e-6 * (high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low - room <= tick.get_loc() <= high + room:
                    hidden |= {id(tick.label1), id(tick.label2)}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in hidden]
    return [(t.get_text(), t.get_window_extent()) for t in found if t.get_rotation() in (0, 90)]


def find_faults(figure: Figure) -> list[str]:
    """Texts that overlap each other or leave the figure, and legends that cover a panel."""
    texts = shown_texts(figure)
    faults = [
        f"{a!r} overlaps {b!r}"
        for (a, first), (b, second) in itertools.combinations(texts, 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 0.5
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 0.5
    ]
    width, height = figure.bbox.width, figure.bbox.height
    faults += [f"{text!r} leaves the figure" for text, box in texts
               if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]  # fmt: skip
    for axes in figure.axes:
        if (legend := axes.get_legend()) is not None:
            box = legend.get_window_extent()
            faults += ["the legend covers a panel" for other in figure.axes
                       if min(box.y1, other.bbox.y1) - max(box.y0, other.bbox.y0) > 0.5
                       and min(box.x1, other.bbox.x1) - max(box.x0, other.bbox.x0) > 0.5]  # fmt: skip
    return faults


@pytest.fixture(name="faults", scope="session")
def faults_fixture() -> Callable[[Figure], list[str]]:
    """Finds what is wrong with the layout of a figure."""
    return find_faults


@pytest.fixture(name="texts", scope="session")
def texts_fixture() -> Callable[[Figure], list[str]]:
    """All the words that a figure shows."""
    return lambda figure: [text for text, _ in shown_texts(figure)]

"""Layouts of the bottleneck in a report: images beside clips, patches beside learned tokens, at equal floats."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import questions
from analysis.report.decisions import answers_of, decisions
from analysis.report.questions import ask

SAVED = {"patches": 1.0, "tubelets of 1": 1.0, "tubelets of 4": 0.5, "latent tokens": 2.0}
"""what each layout needs of the floats that patches need"""
CLIPS = ("patches", "tubelets of 1", "tubelets of 4")


def row(layout: str, density: float, pixels: int, seed: int, noise: np.random.Generator) -> dict[str, Any]:
    return {
        "trial": f"{layout}{density}{seed}", "label": layout, "seed": seed, "status": "done", "bottleneck": "kl",
        "layout": layout, "encoder": "S", "decoder": "B", "encoder_params": 43e6, "decoder_params": 86e6,
        "tokenizer_params": 129e6, "bottleneck_floats": density * pixels, "floats_per_pixel": density,
        "bottleneck_channels": round(density * 256), "data.resolution": 32,
        "psnr": 30 + 3 * math.log2(density / SAVED[layout]) + noise.normal(0, 0.05),
    }  # fmt: skip


@pytest.fixture(scope="module")
def clips_and_images() -> pd.DataFrame:
    noise = np.random.default_rng(3)
    rows = []
    for layout, k, seed in itertools.product(CLIPS, range(-5, 0), range(3)):
        frames = 1 if layout == "patches" else 8
        images = 32_000 if frames == 1 else 4_000
        found = row(layout, 2.0**k, frames * 32**2, seed, noise)
        rows.append({**found, "data.frames": frames, "training.images": images})
    return pd.DataFrame(rows)


def test_clips_and_images_are_set_against_each_other_at_equal_floats_per_pixel(clips_and_images: pd.DataFrame) -> None:
    (answer,) = answers_of(decisions(clips_and_images), questions.RateDistortion)
    assert (answer.rate, answer.distortion, answer.by, answer.within) == ("floats_per_pixel", "psnr", "layout", ())
    found = {(one.first, one.second): one.difference for one in answer.differences}
    assert set(found) == set(itertools.combinations(CLIPS, 2))
    for (first, second), difference in found.items():
        assert difference is not None
        assert difference.low is not None
        assert difference.high is not None
        assert difference.low <= math.log(SAVED[second] / SAVED[first]) <= difference.high
    assert "fewer floats per pixel for tubelets of 4 than for patches: -" in answer.sentence()
    assert "patches and tubelets of 1 cannot be told apart" in answer.sentence()


def test_curves_of_clips_and_images_are_of_floats_per_pixel_and_named_by_their_layout(
    clips_and_images: pd.DataFrame,
) -> None:
    (answer,) = [one for one in ask(clips_and_images) if one.question.x == "floats_per_pixel" and one.measured]
    assert [one.label for one in answer.series] == list(CLIPS), "frames and budget are told by the layout"
    for label, fit in answer.fits:
        slope = fit.parameters["slope"]
        assert slope.low is not None
        assert slope.high is not None
        assert slope.low <= 3 <= slope.high, label


def test_references_that_the_layout_tells_are_not_named_beside_it(clips_and_images: pd.DataFrame) -> None:
    table = clips_and_images.assign(rfd=1 / clips_and_images["psnr"], features="random-conv")
    table["reference"] = np.where(table["data.frames"] == 1, "images-1f-32px-validation-256", "clips-8f-validation-256")
    (answer,) = [one for one in ask(table) if (one.question.x, one.question.y) == ("floats_per_pixel", "rfd")]
    assert [one.label for one in answer.series] == list(CLIPS)
    table.loc[table["seed"] == 0, "reference"] = "another"
    (answer,) = [one for one in ask(table) if (one.question.x, one.question.y) == ("floats_per_pixel", "rfd")]
    assert len(answer.series) == 2 * len(CLIPS)
    assert all("reference" in one.label for one in answer.series), "one layout against two sets"


def test_images_alone_are_asked_by_their_floats_as_ever(clips_and_images: pd.DataFrame) -> None:
    images = clips_and_images[clips_and_images["data.frames"] == 1]
    assert not [one for one in ask(images) if one.question.x == "floats_per_pixel"]
    assert not answers_of(decisions(images), questions.RateDistortion), "one layout leaves nothing to compare"


def test_layouts_are_not_compared_across_encoders(clips_and_images: pd.DataFrame) -> None:
    apart = clips_and_images.assign(encoder=np.where(clips_and_images["layout"] == "patches", "S", "B"))
    (answer,) = answers_of(decisions(apart), questions.RateDistortion)
    assert answer.within == ("encoder",)
    known = {(one.first, one.second): one.difference is not None for one in answer.differences}
    assert known == {pair: "patches" not in pair for pair in itertools.combinations(CLIPS, 2)}


def test_layouts_of_one_extent_compare_by_their_floats() -> None:
    noise = np.random.default_rng(4)
    rows = [
        row(layout, 2.0**k, 32**2, seed, noise)
        for layout, k, seed in itertools.product(("patches", "latent tokens"), range(-5, 0), range(3))
    ]
    (answer,) = answers_of(decisions(pd.DataFrame(rows)), questions.RateDistortion)
    assert answer.rate == "bottleneck_floats"
    assert "more floats for latent tokens than for patches: " in answer.sentence()

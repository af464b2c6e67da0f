"""The search for a scale of guidance: where it ends, what it measures, and what a stage keeps of it."""

from __future__ import annotations

import json

import pytest

from sweeps.grid import expand
from sweeps.spec import load_spec
from sweeps.store import Store
from tokscale.config import CfgSearch, GenerationConfig
from tokscale.record import read_record
from tokscale.stages import generation, run
from tokscale.stages.guidance import search_scale


def searched(begin, valley, **settings):
    asked = []

    def distance(scale):
        asked.append(scale)
        return (scale - valley) ** 2

    best, tried = search_scale(begin, CfgSearch(**settings), distance)
    assert list(tried) == asked, "every scale is measured once, in the order of trying"
    return best, asked


@pytest.mark.parametrize("begin", [1.0, 1.5, 2.0, 4.75])
def test_ends_in_the_valley_from_either_side(begin):
    best, asked = searched(begin, 2.04)
    assert best == 2.0
    assert {1.75, 2.0, 2.25} <= set(asked)
    assert len(asked) <= round(abs(best - begin) / 0.25) + 3  # the way, a neighbour on either side, and one begun wrong


@pytest.mark.parametrize(("valley", "settings", "best"), [(0.3, {}, 1.0), (9.0, {}, 5.0), (9.0, {"highest": 3}, 3.0)])
def test_stays_between_no_guidance_and_the_highest(valley, settings, best):
    found, asked = searched(1.75, valley, **settings)
    assert found == best
    assert min(asked) >= 1
    assert max(asked) <= settings.get("highest", 5)


def test_steps_do_not_add_up_rounding():
    assert searched(1.0, 1.7, step=0.1)[0] == 1.7


def test_a_plain_ends_where_it_begins():
    assert search_scale(2.0, CfgSearch(), lambda scale: 1.0) == (2.0, {2.0: 1.0, 2.25: 1.0, 1.75: 1.0})


def test_a_search_that_begins_beyond_its_end_is_refused():
    with pytest.raises(ValueError, match="begins at 6, beyond its highest of 5"):
        GenerationConfig(cfg_scale=6, cfg_search={})


def test_the_chosen_scale_is_measured_as_if_it_had_been_asked_for(small_spec, tmp_path):
    text = small_spec.read_text()
    store = Store(tmp_path / "runs")

    def folders(settings):
        small_spec.write_text(text.replace("batch_size: 40}", f"batch_size: 40, cfg_start: 0.18, {settings}}}"))
        return {stage.kind: store.prepare(stage) for stage in expand(*load_spec(small_spec))[2].stages}

    search = folders("cfg_scale: 1.5, cfg_search: {step: 0.5, highest: 2.5, images: 40}")
    for kind in ("tokenizer", "latents", "probe", "generation"):
        run(str(search[kind].path))
    record = read_record(search["generation"].path)
    tried = json.loads((search["generation"].artifacts / generation.TRIED).read_text())
    distances = {one["cfg_scale"]: one["gfd"] for one in tried["tried"]}
    assert len(distances) == len(tried["tried"]) >= 3
    assert tried["chosen"] == record.measures["cfg_scale"] == min(distances, key=distances.get)
    assert generation.TRIED in record.artifacts
    fixed = folders(f"cfg_scale: {record.measures['cfg_scale']}")["generation"]
    run(str(fixed.path))
    again = read_record(fixed.path)
    for name in ("gfd", "precision", "recall", "cfg_scale"):
        assert again.measures[name] == record.measures[name]
    assert again.artifacts["samples.png"] == record.artifacts["samples.png"]
    kept = record.artifacts[generation.TRIED]
    (search["generation"].path / "record.json").unlink()
    run(str(search["generation"].path))
    assert read_record(search["generation"].path).artifacts[generation.TRIED] == kept

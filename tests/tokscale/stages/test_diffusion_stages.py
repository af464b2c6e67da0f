"""Both kinds of probe on one tokenizer's latents, and several scales of guidance: whole records, of shared stages."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sweeps.planning import make_plan
from sweeps.results import collect
from sweeps.store import Store
from tokscale.errors import StoppedError
from tokscale.record import read_record
from tokscale.stages import run, sampler
from tokscale.stages.attempts import newest_images

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """\
name: both
trial:
  data: {kind: procedural, resolution: 16, validation_images: 40}
  tokenizer: {encoder: pico, decoder: pico, patch: 4, bottleneck: {kind: kl, channels: 4}}
  training: {images: 160, batch_size: 16, lr: 2e-3}
  latents: {images: 64}
  probe: {size: pico, training: {images: 160, batch_size: 16, lr: 2e-3}}
  generation: {images: 40, batch_size: 16, sampler_steps: 3, cfg_scales: [1, 1.5, 3]}
  linear_probe: {images: 60, batch_size: 20, lr: 40, epochs: 2, warmup_epochs: 1}
  evaluation: {pictures: 4}
grid:
  probe.kind: [autoregressive, diffusion]
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text(SPEC)
    return path


def done(spec, runs):
    torch.set_num_threads(1)
    store = Store(runs)
    plan = make_plan(spec, store)
    for stage in plan.stages.values():
        run(str(store.prepare(stage).path))
    return store, make_plan(spec, store)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A sweep of both probes that is done, in a store, with its spec."""
    spec = tmp_path_factory.mktemp("both") / "both.yaml"
    spec.write_text(SPEC)
    return spec, *done(spec, spec.parent / "runs")


def measured(store, trial, kind):
    return next(store.record(stage) for stage in trial.stages if stage.kind == kind)


def test_both_probes_stand_on_one_tokenizer_in_one_table(both):
    _, store, plan = both
    kinds = Counter(stage.kind for stage in plan.stages.values())
    assert (kinds["tokenizer"], kinds["latents"], kinds["probe"], kinds["generation"]) == (1, 1, 2, 2)
    table = collect(plan, store).set_index("probe.kind")
    ar, diffusion = table.loc["autoregressive"], table.loc["diffusion"]
    for name in ("ar_loss", "ar_bits_per_image", "ar_bits_per_pixel", "ar_linear_accuracy"):
        assert ar.notna()[name]
        assert diffusion.isna()[name]
    for name in ("diffusion_loss", "diffusion_linear_accuracy"):
        assert ar.isna()[name]
        assert diffusion.notna()[name]
    for trial, row in zip(plan.trials, (ar, diffusion), strict=True):
        assert row["probe_params"] == trial.sizes["probe_params"]
    columns = list(table.columns)
    assert columns.index("gfd_cfg1") == columns.index("gfd") + 1


def test_the_best_of_several_scales_stands_alone_and_all_have_columns_and_pictures(both):
    _, store, plan = both
    for trial in plan.trials:
        record = measured(store, trial, "generation")
        by_scale = {scale: record.measures[f"gfd_cfg{scale:g}"] for scale in (1, 1.5, 3)}
        best = min(by_scale, key=by_scale.get)
        assert record.measures["cfg_scale"] == best
        for name in ("gfd", "precision", "recall"):
            assert record.measures[name] == record.measures[f"{name}_cfg{best:g}"]
        assert {f"samples_cfg{scale:g}.png" for scale in by_scale} | {"samples.png"} == set(record.artifacts)
        for name in record.artifacts:
            with Image.open(store.stages / "generation" / record.id / "artifacts" / name) as picture:
                assert picture.size == (64, 16)


def test_a_scale_among_several_is_measured_as_if_it_were_alone(both):
    spec, store, plan = both
    other = spec.with_name("alone.yaml")
    other.write_text(SPEC.replace("cfg_scales: [1, 1.5, 3]", "cfg_scale: 1.5"))
    _, alone = done(other, spec.parent / "runs")
    for several, one in zip(plan.trials, alone.trials, strict=True):
        found, expected = measured(store, several, "generation"), measured(store, one, "generation")
        for name in ("gfd", "precision", "recall"):
            assert found.measures[f"{name}_cfg1.5"] == expected.measures[name]


def test_samples_outlive_an_attempt_that_is_cut_short(spec, tmp_path, monkeypatch):
    spec.write_text(SPEC.replace("[autoregressive, diffusion]", "[diffusion]").replace("[1, 1.5, 3]", "[1, 3]"))
    store = Store(tmp_path / "runs")
    stages = {stage.kind: store.prepare(stage) for stage in make_plan(spec, store).stages.values()}
    for kind in ("tokenizer", "latents", "probe"):
        run(str(stages[kind].path))
    asked, diffused = [], sampler.sample_diffusion

    def counted(probe, labels, noise, **settings):
        if len(asked) == 4:
            asked.clear()
            raise StoppedError("stopped")
        asked.append(settings["cfg_scale"])
        return diffused(probe, labels, noise, **settings)

    folder = stages["generation"]
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "sample_diffusion", counted)
        with pytest.raises(StoppedError):
            run(str(folder.path))
        assert newest_images(folder) == 4, "who tries again sees that it got further"
        kept = sorted((folder.checkpoints / "samples").rglob("*.safetensors"))
        assert len(kept) == 4, "three batches of one scale, one of the next"
        kept[0].write_bytes(b"damaged")
        run(str(folder.path))
        assert asked == [1, 3, 3], "the damaged one, and those that were still missing"
    broken = read_record(folder.path)
    assert not folder.checkpoints.exists()
    folder.record.unlink()
    run(str(folder.path), micro_batch=5)
    for name, value in read_record(folder.path).measures.items():
        if name.startswith(("gfd", "precision", "recall")):
            assert broken.measures[name] == pytest.approx(value, rel=1e-3, abs=0.05)


def test_the_average_is_what_is_kept(spec, tmp_path):
    weights = {}
    for decay in (0, 0.9999):
        spec.write_text(
            SPEC.replace("[autoregressive, diffusion]", "[diffusion]").replace(
                "{size: pico,", f"{{size: pico, ema_decay: {decay},"
            )
        )
        store = Store(tmp_path / "runs")
        for stage in make_plan(spec, store).stages.values():
            if stage.kind in ("tokenizer", "latents", "probe"):
                run(str(store.prepare(stage).path))
            if stage.kind == "probe":
                weights[decay] = load_file(store.stages / stage.key / "artifacts" / "probe.safetensors")
    last, average = weights.values()
    assert last.keys() == average.keys()
    assert 0 < average["head.out.weight"].norm() < last["head.out.weight"].norm(), "it began at zero"

"""The ``generation`` stage: sample the probe, decode, and measure the images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.columns import at_scale
from tokscale.config import EvaluationConfig
from tokscale.data import ImageSet, evaluation_batches, open_images
from tokscale.memory import images_at_once
from tokscale.metrics.panel import Panel, generation_metrics_of_all
from tokscale.metrics.seen import Reference
from tokscale.parsing import parse
from tokscale.pictures import save_pictures
from tokscale.probes import DiffusionProbe
from tokscale.probes.encoding import spec_of
from tokscale.record import write_atomically
from tokscale.stages.clips import ClipDistance
from tokscale.stages.configs import GenerationStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.decoder_finetune import load_judged
from tokscale.stages.features import open_panel
from tokscale.stages.guidance import search_scale
from tokscale.stages.probe import check_same_tokens, load_probe
from tokscale.stages.references import Against
from tokscale.stages.sampler import Sampler

TRIED = "cfg_search.json"
_COLUMNS = 8  # of a picture of samples


@torch.inference_mode()
def run(context: Context) -> Measures:
    """Sample as many images as asked for, with the validation set's labels in order, and measure against that set.

    Where a search for the scale of guidance is asked for, it comes first; what it tried is kept as ``cfg_search.json``.
    Scales that were asked for are all measured, of the same labels and random numbers.
    """
    config = parse(GenerationStage, context.config)
    generation = config.generation
    tokenizer = load_judged(context)
    probe = load_probe(context.parents["probe"], context.parent_folder("probe"), context.device)
    check_same_tokens(probe.spec, spec_of(tokenizer), str(context.folder.path))
    panel = open_panel(config.evaluation.features, context.device)
    images = open_images(config.data, "validation")
    size = context.pass_size(images_at_once(images.resolution, images.frames))
    against = Against(generation.reference, panel, images, config.data, context, size, rows=True)
    clips = ClipDistance("g", config.data, config.evaluation, context.device)
    labels = _labels(images, size, context, against, clips)
    references = against.references()
    seed = seed_for("sampling", config.seed)
    half = isinstance(probe, DiffusionProbe) and _probe_precision(context) == "bf16"
    sampler = Sampler(context, generation, tokenizer, probe, panel, labels, size, seed, half)
    measures, notes = _measured(sampler, references, config.evaluation, clips)
    context.notes += [*panel.notes, *notes, *clips.notes]
    # One row has one `reference`, that of its reconstructions: another one gets a column of its own.
    column = "reference" if generation.reference == config.evaluation.reference else "generation_reference"
    return {**measures, **clips.features(), "features": panel.name, column: references[0].name}


def _probe_precision(context: Context) -> str:
    return str(context.parents["probe"].config["probe"]["training"]["precision"])


def _measured(
    sampler: Sampler, references: Sequence[Reference], evaluation: EvaluationConfig, clips: ClipDistance
) -> tuple[Measures, list[str]]:
    """The measures at one scale of guidance, or at all that were asked for, of which the best also stands alone.

    Each scale of several leaves a picture of its own; ``samples.png`` is of the scale that stands in ``cfg_scale``.
    """
    config, context = sampler.config, sampler.context
    scales = config.cfg_scales
    if scales is None:
        scales = (_best_scale(sampler, references) if config.cfg_search is not None else config.cfg_scale,)
    found: dict[float, dict[str, float]] = {}
    pictures: dict[float, Tensor] = {}
    notes: list[str] = []
    for scale in scales:
        made, extrapolate = clips.again(), evaluation.extrapolate
        samples, pictures[scale] = sampler.samples(
            scale, config.images, evaluation.pictures, made, rows_of_all=extrapolate
        )
        found[scale], told = generation_metrics_of_all(references, samples, context.device, extrapolate=extrapolate)
        found[scale] |= made.distance()
        notes += [note for note in told if note not in notes]
    best = min(scales, key=lambda scale: found[scale][f"g{sampler.panel.distance}"])
    save_pictures(pictures[best], context.artifact("samples.png"))
    measures: Measures = {**found[best], "cfg_scale": best}
    for scale in config.cfg_scales or ():
        measures |= {at_scale(name, scale): value for name, value in found[scale].items()}
        path = context.artifact(f"samples_cfg{scale:.10g}.png")
        save_pictures(pictures[scale], path, columns=min(_COLUMNS, len(pictures[scale])))
    return measures, notes


def _labels(images: ImageSet, size: int, context: Context, against: Against, clips: ClipDistance) -> Tensor:
    """The labels of a set, in order: (n,). Where its images are the reference, ``against`` sees them on the way; and
    ``clips`` its clips, which always are."""
    found = []
    for batch, labels in evaluation_batches(images, batch_size=size):
        context.stop_if_asked()
        batch = batch.to(context.device)
        clips.see_original(batch)
        against.see(batch)
        found.append(labels)
    return torch.cat(found)


def _best_scale(sampler: Sampler, references: Sequence[Reference]) -> float:
    """The scale with the lowest Fréchet distance in the first network; all that were tried are kept as an artifact."""
    search = sampler.config.cfg_search
    assert search is not None
    first = replace(sampler, panel=Panel(sampler.panel.networks[:1]))

    def distance(scale: float) -> float:
        return first.samples(scale, search.images)[0].distance(references)

    best, tried = search_scale(sampler.config.cfg_scale, search, distance)
    column = f"g{sampler.panel.distance}"
    listed = [{"cfg_scale": scale, column: value} for scale, value in tried.items()]
    content = {"images": search.images, "features": first.panel.name, "chosen": best, "tried": listed}
    write_atomically(sampler.context.artifact(TRIED), json.dumps(content, indent=1).encode())
    return best

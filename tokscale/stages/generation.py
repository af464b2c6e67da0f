"""The ``generation`` stage: sample the probe, decode, and measure the images."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.columns import at_scale
from tokscale.config import EvaluationConfig
from tokscale.data import ImageSet, evaluation_batches, frames_of, open_images
from tokscale.metrics.features import open_features
from tokscale.metrics.seen import Reference, Seen, generation_metrics
from tokscale.parsing import parse
from tokscale.pictures import save_pictures
from tokscale.probes import DiffusionProbe
from tokscale.probes.encoding import spec_of
from tokscale.record import write_atomically
from tokscale.stages.clips import ClipDistance
from tokscale.stages.configs import GenerationStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.decoder_finetune import load_judged
from tokscale.stages.guidance import search_scale
from tokscale.stages.probe import check_same_tokens, load_probe
from tokscale.stages.reconstruction import images_at_once
from tokscale.stages.references import reference_file
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
    features = open_features(config.evaluation.features, context.device)
    reference = reference_file(generation.reference, features, context)
    images, given = open_images(config.data, "validation"), Seen(features)
    size = context.pass_size(images_at_once(images.resolution, images.frames))
    clips = ClipDistance("g", config.data, config.evaluation, context.device)
    labels = _labels(images, size, context, given if reference is None else None, clips)
    reference = reference or given.as_reference(images.reference)
    seed = seed_for("sampling", config.seed)
    half = isinstance(probe, DiffusionProbe) and _probe_precision(context) == "bf16"
    sampler = Sampler(context, generation, tokenizer, probe, features, labels, size, seed, half)
    measures, notes = _measured(sampler, reference, config.evaluation, clips)
    context.notes += [features.note, *notes, *clips.notes]
    # One row has one `reference`, that of its reconstructions: another one gets a column of its own.
    column = "reference" if generation.reference == config.evaluation.reference else "generation_reference"
    return {**measures, **clips.features(), "features": features.name, column: reference.name}


def _probe_precision(context: Context) -> str:
    return str(context.parents["probe"].config["probe"]["training"]["precision"])


def _measured(
    sampler: Sampler, reference: Reference, evaluation: EvaluationConfig, clips: ClipDistance
) -> tuple[Measures, list[str]]:
    """The measures at one scale of guidance, or at all that were asked for, of which the best also stands alone.

    Each scale of several leaves a picture of its own; ``samples.png`` is of the scale that stands in ``cfg_scale``.
    """
    config, context = sampler.config, sampler.context
    scales = config.cfg_scales
    if scales is None:
        scales = (_best_scale(sampler, reference) if config.cfg_search is not None else config.cfg_scale,)
    found: dict[float, dict[str, float]] = {}
    pictures: dict[float, Tensor] = {}
    notes: list[str] = []
    for scale in scales:
        made = clips.again()
        samples, pictures[scale] = sampler.samples(scale, config.images, evaluation.pictures, made)
        found[scale], told = generation_metrics(reference, samples, context.device, extrapolate=evaluation.extrapolate)
        found[scale] |= made.distance()
        notes += [note for note in told if note not in notes]
    best = min(scales, key=lambda scale: found[scale][f"g{sampler.features.distance}"])
    save_pictures(pictures[best], context.artifact("samples.png"))
    measures: Measures = {**found[best], "cfg_scale": best}
    for scale in config.cfg_scales or ():
        measures |= {at_scale(name, scale): value for name, value in found[scale].items()}
        path = context.artifact(f"samples_cfg{scale:.10g}.png")
        save_pictures(pictures[scale], path, columns=min(_COLUMNS, len(pictures[scale])))
    return measures, notes


def _labels(images: ImageSet, size: int, context: Context, given: Seen | None, clips: ClipDistance) -> Tensor:
    """The labels of a set, in order: (n,). Where its images are the reference, ``given`` sees them on the way; and
    ``clips`` its clips, which always are."""
    found = []
    for batch, labels in evaluation_batches(images, batch_size=size):
        context.stop_if_asked()
        batch = batch.to(context.device)
        clips.see_original(batch)
        if given is not None:
            given.update(frames_of(batch))
        found.append(labels)
    return torch.cat(found)


def _best_scale(sampler: Sampler, reference: Reference) -> float:
    """The scale with the lowest Fréchet distance; all that were tried are kept as an artifact."""
    search = sampler.config.cfg_search
    assert search is not None

    def distance(scale: float) -> float:
        return sampler.samples(scale, search.images)[0].distance(reference)

    best, tried = search_scale(sampler.config.cfg_scale, search, distance)
    column = f"g{sampler.features.distance}"
    listed = [{"cfg_scale": scale, column: value} for scale, value in tried.items()]
    content = {"images": search.images, "features": sampler.features.name, "chosen": best, "tried": listed}
    write_atomically(sampler.context.artifact(TRIED), json.dumps(content, indent=1).encode())
    return best

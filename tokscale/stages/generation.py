"""The ``generation`` stage: sample the probe, decode, and measure the images."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import GenerationConfig
from tokscale.data import ImageSet, evaluation_batches, open_images, to_uint8
from tokscale.metrics.features import FeatureNetwork, open_features
from tokscale.metrics.seen import Reference, Seen, generation_metrics
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.pictures import save_strip
from tokscale.probes import AutoregressiveProbe, sample
from tokscale.probes.encoding import spec_of
from tokscale.record import write_atomically
from tokscale.stages.configs import GenerationStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.decoder_finetune import load_judged
from tokscale.stages.guidance import search_scale
from tokscale.stages.probe import check_same_tokens, load_probe
from tokscale.stages.reconstruction import images_at_once
from tokscale.stages.references import reference_file

TRIED = "cfg_search.json"


@torch.inference_mode()
def run(context: Context) -> Measures:
    """Sample as many images as asked for, with the validation set's labels in order, and measure against that set.

    Where a search for the scale of guidance is asked for, it comes first; what it tried is kept as ``cfg_search.json``.
    """
    config = parse(GenerationStage, context.config)
    generation = config.generation
    tokenizer = load_judged(context)
    probe = load_probe(context.parents["probe"], context.parent_folder("probe"), context.device)
    check_same_tokens(probe.spec, spec_of(tokenizer), str(context.folder.path))
    features = open_features(config.evaluation.features, context.device)
    reference = reference_file(generation.reference, features, context)
    images, given = open_images(config.data, "validation"), Seen(features)
    size = context.pass_size(images_at_once(images.resolution))
    labels = _labels(images, size, context, given if reference is None else None)
    reference = reference or given.as_reference(images.reference)
    seed = seed_for("sampling", config.seed)
    sampler = _Sampler(context, generation, tokenizer, probe, features, labels, size, seed)
    scale = _best_scale(sampler, reference) if generation.cfg_search is not None else generation.cfg_scale
    samples = sampler.samples(scale, generation.images, config.evaluation.pictures)
    measures, notes = generation_metrics(reference, samples, context.device, extrapolate=config.evaluation.extrapolate)
    context.notes += [features.note, *notes]
    # One row has one `reference`, that of its reconstructions: another one gets a column of its own.
    column = "reference" if generation.reference == config.evaluation.reference else "generation_reference"
    return {**measures, "cfg_scale": scale, "features": features.name, column: reference.name}


def _labels(images: ImageSet, size: int, context: Context, given: Seen | None) -> Tensor:
    """The labels of a set, in order: (n,). Where its images are the reference, ``given`` sees them on the way."""
    found = []
    for batch, labels in evaluation_batches(images, batch_size=size):
        context.stop_if_asked()
        if given is not None:
            given.update(batch.to(context.device))
        found.append(labels)
    return torch.cat(found)


@dataclass(frozen=True)
class _Sampler:
    """Images of one probe at any scale of guidance.

    Every scale has the same labels and the same random numbers, so that scales differ by guidance and by nothing else.
    The sampler's batch is part of the config, as its random numbers go through the batch; only what follows, decoding
    and measuring, may be done in smaller passes of ``at_once`` images.
    """

    context: Context
    config: GenerationConfig
    tokenizer: Tokenizer
    probe: AutoregressiveProbe
    features: FeatureNetwork
    labels: Tensor
    at_once: int
    seed: int

    def samples(self, scale: float, count: int, pictures: int = 0) -> Seen:
        """What is seen of ``count`` images, of which the first ``pictures`` are kept as an artifact."""
        device, found = self.context.device, Seen(self.features, scored=True)
        wanted = self.labels.repeat(-(-count // len(self.labels)))[:count]
        generator = torch.Generator(device).manual_seed(self.seed)
        for number, part in enumerate(torch.split(wanted, self.config.batch_size)):
            self.context.stop_if_asked()
            tokens = sample(self.probe, part.to(device), cfg_scale=scale, cfg_start=self.config.cfg_start,
                            temperature=self.config.temperature, generator=generator)  # fmt: skip
            decoded = [self._decoded(some) for some in torch.split(tokens, self.at_once)]
            for some in decoded:
                found.update(some)
            if number == 0 and pictures:
                save_strip(torch.cat(decoded)[:pictures], self.context.artifact("samples.png"))
        return found

    def _decoded(self, tokens: Tensor) -> Tensor:
        """Codes (b, n) or latents (b, n, d) to uint8 images (b, 3, h, w)."""
        codes = self.probe.spec.kind == "discrete"
        latents = self.tokenizer.bottleneck.latents_of(tokens) if codes else tokens
        pictures: Tensor = to_uint8(self.tokenizer.decode(latents).float())
        return pictures


def _best_scale(sampler: _Sampler, reference: Reference) -> float:
    """The scale with the lowest Fréchet distance; all that were tried are kept as an artifact."""
    search = sampler.config.cfg_search
    assert search is not None

    def distance(scale: float) -> float:
        return sampler.samples(scale, search.images).distance(reference)

    best, tried = search_scale(sampler.config.cfg_scale, search, distance)
    column = f"g{sampler.features.distance}"
    listed = [{"cfg_scale": scale, column: value} for scale, value in tried.items()]
    content = {"images": search.images, "features": sampler.features.name, "chosen": best, "tried": listed}
    write_atomically(sampler.context.artifact(TRIED), json.dumps(content, indent=1).encode())
    return best

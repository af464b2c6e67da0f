"""The ``generation`` stage: sample the probe, decode, and measure the images."""

from __future__ import annotations

import torch
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.data import evaluation_batches, open_images, to_uint8
from tokscale.metrics.features import open_features
from tokscale.metrics.generation import FeatureSet, generation_metrics
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.pictures import save_strip
from tokscale.probes import AutoregressiveProbe, sample
from tokscale.stages.configs import GenerationStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.latents import spec_of
from tokscale.stages.probe import check_same_tokens, load_probe
from tokscale.stages.reconstruction import images_at_once
from tokscale.stages.tokenizer import load_tokenizer


@torch.inference_mode()
def run(context: Context) -> Measures:
    """Sample as many images as asked for, with the validation set's labels in order, and measure against that set.

    The sampler's batch is part of the config, as its random numbers go through the batch; only what follows may be
    done in smaller passes.
    """
    config = parse(GenerationStage, context.config)
    generation = config.generation
    tokenizer, _ = load_tokenizer(context.parents["tokenizer"], context.parent_folder("tokenizer"), context.device)
    probe = load_probe(context.parents["probe"], context.parent_folder("probe"), context.device)
    check_same_tokens(probe.spec, spec_of(tokenizer), str(context.folder.path))
    features = open_features(config.evaluation.features, context.device)
    reference, samples = FeatureSet(features.dim), FeatureSet(features.dim)
    images = open_images(config.data, "validation")
    seen = []
    size = context.pass_size(images_at_once(images.resolution))
    for batch, labels in evaluation_batches(images, batch_size=size):
        context.stop_if_asked()
        reference.update(features.features(batch.to(context.device)))
        seen.append(labels)
    labels = torch.cat(seen)
    wanted = labels.repeat(-(-generation.images // len(labels)))[: generation.images]
    generator = torch.Generator(context.device).manual_seed(seed_for("sampling", config.seed))
    for number, part in enumerate(torch.split(wanted, generation.batch_size)):
        context.stop_if_asked()
        tokens = sample(probe, part.to(context.device), cfg_scale=generation.cfg_scale,
                        temperature=generation.temperature, generator=generator)  # fmt: skip
        pictures = [_decoded(tokenizer, probe, some) for some in torch.split(tokens, size)]
        for some in pictures:
            samples.update(features.features(some))
        if number == 0:
            save_strip(torch.cat(pictures)[: config.evaluation.pictures], context.artifact("samples.png"))
    context.notes.append(features.note)
    return {**generation_metrics(reference, samples, context.device), "cfg_scale": generation.cfg_scale,
            "features": features.name, "reference": images.reference}  # fmt: skip


def _decoded(tokenizer: Tokenizer, probe: AutoregressiveProbe, tokens: Tensor) -> Tensor:
    """Codes (b, n) or latents (b, n, d) to uint8 images (b, 3, h, w)."""
    latents = tokenizer.bottleneck.latents_of(tokens) if probe.spec.kind == "discrete" else tokens
    pictures: Tensor = to_uint8(tokenizer.decode(latents).float())
    return pictures

"""The ``probe`` stage: train a probe on cached latents and measure the tokenizer by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tokscale.bottlenecks.draws import seed_for
from tokscale.config import DiffusionProbe as DiffusionConfig
from tokscale.data.latent_batches import latent_batches
from tokscale.data.latents import Latents, LatentSpec, LatentSplit, open_latents
from tokscale.errors import StoreError
from tokscale.parsing import parse
from tokscale.probes import (
    AutoregressiveProbe,
    DiffusionProbe,
    Probe,
    build_probe,
    measure_diffusion,
    measure_rate,
)
from tokscale.record import Record, write_atomically
from tokscale.stage import StageFolder
from tokscale.stages.configs import ProbeStage
from tokscale.stages.context import Context, Measures
from tokscale.training.diffusion_task import DiffusionTask
from tokscale.training.loop import train
from tokscale.training.tasks import ProbeTask, Task

WEIGHTS = "probe.safetensors"
_RATE_BATCH = 64


def run(context: Context) -> Measures:
    """Train, keep the weights, and measure on the validation set: the loss and the rate, or the diffusion's loss.

    Of a diffusion probe the average over its weights is what is kept and measured.
    """
    config = parse(ProbeStage, context.config)
    latents = open_latents(context.parent_folder("latents").artifacts)
    latents.check_codes()
    torch.manual_seed(seed_for("initialisation", config.seed))
    training, ranks = config.probe.training, context.team.ranks
    task = _task(config, new_probe(config, latents))
    trained = train(
        task,
        lambda step: latent_batches(
            latents.train, batch_size=training.batch_size, seed=config.seed, start_batch=step, rank=ranks.rank,
            world_size=ranks.world,
        ),
        context,
    )  # fmt: skip
    if not context.first:
        return {}
    weights = trained["average" if isinstance(task, DiffusionTask) else "probe"]
    write_atomically(context.artifact(WEIGHTS), save(weights))
    probe = new_probe(config, latents)
    probe.load_state_dict(weights)
    probe.to(context.device)
    return {
        **_measured(probe, config, latents, context),
        "probe_params": sum(parameter.numel() for parameter in probe.parameters()),
    }


def _task(config: ProbeStage, probe: Probe) -> Task:
    if isinstance(probe, AutoregressiveProbe):
        return ProbeTask(probe, config.probe.training, config.seed)
    assert isinstance(config.probe, DiffusionConfig)
    return DiffusionTask(probe, config.probe.training, config.probe.ema_decay, config.seed)


def _measured(probe: Probe, config: ProbeStage, latents: Latents, context: Context) -> Measures:
    """What the validation set says of a trained probe, with one fixed sample of each posterior."""
    batches, at_once = _batches(latents.validation, context), context.runtime.micro_batch
    if isinstance(probe, DiffusionProbe):
        return {**measure_diffusion(probe, batches, at_once)}
    generator = torch.Generator(context.device).manual_seed(seed_for("rate", config.seed))
    rate = measure_rate(probe, batches, generator, at_once)
    data = context.parents["latents"].config["data"]
    pixels = data.get("frames", 1) * data["resolution"] ** 2
    return {**rate, "ar_bits_per_pixel": rate["ar_bits_per_image"] / pixels}


def new_probe(config: ProbeStage, latents: Latents) -> Probe:
    """A fresh probe for these latents, normalised by their training statistics."""
    probe: Probe
    if isinstance(config.probe, DiffusionConfig):
        probe = DiffusionProbe(config.probe, latents.spec, latents.num_classes)
    else:
        probe = build_probe(config.probe, latents.spec, latents.num_classes)
    if latents.mean is not None and latents.std is not None:
        probe.set_normalisation(latents.mean, latents.std)
    return probe


def load_probe(record: Record, folder: StageFolder, device: torch.device) -> Probe:
    """A trained probe in evaluation mode."""
    config = parse(ProbeStage, record.config)
    latents = open_latents(folder.parent("latents", record.parents["latents"]).artifacts)
    probe = new_probe(config, latents)
    weights = load_file(folder.artifacts / WEIGHTS)
    _check_weights(weights, probe, folder)
    probe.load_state_dict(weights)
    return probe.to(device).eval()


def _check_weights(weights: Mapping[str, Tensor], probe: Probe, folder: StageFolder) -> None:
    """Raise ``StoreError`` for weights of a probe of another vocabulary, or otherwise of other tokens."""
    expected = {name: tuple(tensor.shape) for name, tensor in probe.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    differing = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    if differing:
        name = differing[0]
        raise StoreError(
            "a probe's weights do not fit the latents that it stands on", where=str(folder.artifacts / WEIGHTS),
            given=f"{name} {found.get(name, 'absent')}",
            allowed=f"{expected.get(name, 'absent')}, for {probe.spec.words}",
        )  # fmt: skip


def check_same_tokens(probe: LatentSpec, tokenizer: LatentSpec, where: str) -> None:
    """Raise ``StoreError`` when a probe models other tokens than a tokenizer has, which would decode to nothing."""
    if probe != tokenizer:
        raise StoreError("the probe is of other tokens than the tokenizer has", where=where, given=probe.words,
                         allowed=tokenizer.words)  # fmt: skip


def _batches(split: LatentSplit, context: Context) -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(split), _RATE_BATCH):
        context.stop_if_asked()
        yield split.batch(range(start, min(start + _RATE_BATCH, len(split))))

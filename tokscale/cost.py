"""What a trial costs: the compute, memory and disk of each stage, and the columns that follow from its config.

A plan of thousands of trials calls this, so nothing here imports torch, and a call takes microseconds. A training step
costs three forward passes, and those of frozen networks and discriminators beside the tokenizer; FLOPs are counted as
``tokscale.formulas`` says; memory and disk are estimates.
"""

from __future__ import annotations

from collections.abc import Callable

from tokscale.config import (
    AutoregressiveProbe,
    DiffusionProbe,
    TrialConfig,
    stand_in_teacher,
)
from tokscale.finetune_cost import finetune_sizes, finetune_stage_cost
from tokscale.formulas import (
    bottleneck_numbers,
    bottleneck_sizes,
    classifier_flops,
    classifier_params,
    probe_blocks,
    probe_feature_flops,
    probe_flops,
    probe_outputs,
    probe_params,
    tokenizer_blocks,
    tokenizer_flops,
    tokenizer_params,
    training_flops,
)
from tokscale.labels import decoder_name, encoder_name, label, layout
from tokscale.measuring_cost import (
    ASSUMED_VALIDATION_IMAGES,
    at_once,
    coding_bytes,
    generation_stage_cost,
    reconstruction_stage_cost,
    validation_images,
)
from tokscale.memory import (
    averaged_bytes,
    checkpointed_bytes,
    gradient_bytes,
    kept_by_blocks,
    kept_by_probe,
    kept_by_tokenizer,
    kept_pictures,
    likelihood_bytes,
    probe_mlp_width,
    rounded_bytes,
    size_of_float,
    spared_by_recomputing,
    trained_bytes,
    widest,
)
from tokscale.presets import vit_mlp_width
from tokscale.sampling_cost import probe_params_of
from tokscale.stage_cost import StageCost
from tokscale.training_cost import (
    ASSUMED_CLASSES,
    classes_of,
    loss_sizes,
    teacher_training,
    tokenizer_training_flops,
    training_images,
)

__all__ = [
    "ASSUMED_CLASSES",
    "ASSUMED_VALIDATION_IMAGES",
    "StageCost",
    "bottleneck_numbers",
    "bottleneck_sizes",
    "decoder_name",
    "encoder_name",
    "label",
    "layout",
    "loss_sizes",
    "probe_flops",
    "probe_params",
    "stage_cost",
    "tokenizer_flops",
    "tokenizer_params",
    "tokenizer_training_flops",
    "training_flops",
    "trial_sizes",
]


# --- stages ---


def stage_cost(kind: str, trial: TrialConfig) -> StageCost:
    """What one stage of a trial takes, for a plan.

    Photographs are assumed to be ImageNet's where only the data could tell (classes, validation images).
    """
    assert kind in _STAGES, f"no stage is called {kind}"
    return _STAGES[kind](trial)._replace(host_bytes=_pictures_kept(trial))


def _pictures_kept(trial: TrialConfig) -> int:
    """By a worker that has run all stages of a trial: it keeps them until another trial's take their place."""
    seen = training_images(trial.training) + trial.latents.images + validation_images(trial)
    return kept_pictures(trial.data, seen)


def _tokens(trial: TrialConfig) -> int:
    return trial.tokenizer.tokens_of(*trial.data.extent)


def _pixels(trial: TrialConfig) -> int:
    """Colour values of an image or a clip."""
    return 3 * trial.data.frames * trial.data.resolution**2


def _teacher_stage(trial: TrialConfig) -> StageCost:
    teacher, resolution = stand_in_teacher(trial.losses), trial.data.resolution
    assert teacher is not None, "a trial without a stand-in teacher has no teacher stage"
    classes = classes_of(trial) or ASSUMED_CLASSES
    params, flops = classifier_params(teacher, classes), classifier_flops(teacher, resolution, classes)
    training = teacher_training(teacher)
    tokens = (resolution // teacher.patch) ** 2
    kept = kept_by_blocks(teacher.size, vit_mlp_width(teacher.size.width), tokens)
    each = kept.kept_bytes(size_of_float(training))
    passes = 3 * training_images(training) + validation_images(trial)
    return StageCost(
        float(flops * passes),
        trained_bytes(params, training),
        each,
        teacher.batch_size,
        checkpointed_bytes(params),
        gradient_bytes=gradient_bytes(params),
        rounded_bytes=rounded_bytes(params, training),
    )


def _tokenizer_stage(trial: TrialConfig) -> StageCost:
    losses, training = loss_sizes(trial), trial.training
    kept = tokenizer_params(trial.tokenizer, *trial.data.extent)["tokenizer_params"]
    trained = kept + losses.trained_params
    size = size_of_float(training)
    own, judged = kept_by_tokenizer(trial).kept_bytes(size) + losses.image_bytes(size), losses.judged_bytes(size)
    own, pixels = own + losses.passing_bytes, 3 * 4 * _pixels(trial)  # images, patches, reconstructions
    each = max(own, judged) + pixels
    averaged = averaged_bytes(kept, training)
    fixed = trained_bytes(trained, training) + averaged + losses.frozen_bytes(size)
    blocks, block = tokenizer_blocks(trial.tokenizer)
    flops = tokenizer_training_flops(trial) + _watching_flops(trial)
    recomputed = max(own - spared_by_recomputing(trial, size), judged) + pixels
    shared = trained_bytes(blocks, training) + averaged_bytes(blocks, training)
    return StageCost(flops, fixed, each, training.batch_size, checkpointed_bytes(trained, averaged), shared, 4 * block,
                     recomputed, gradient_bytes(trained), rounded_bytes(trained, training))  # fmt: skip


def _watching_flops(trial: TrialConfig) -> float:
    """Of intermediate probes, which are no part of what the tokenizer's training takes by itself."""
    training, probe = trial.training, trial.training.probe
    if not training.probe_every:
        return 0.0
    model, tokens = AutoregressiveProbe(size=probe.size), _tokens(trial)
    held_out = probe.images // 4
    encoded = tokenizer_flops(trial.tokenizer, *trial.data.extent)["encode"] * (probe.images + held_out)
    passes = probe_flops(model, trial.tokenizer.bottleneck, tokens) * (3 * probe.epochs * probe.images + held_out)
    return float(training_images(training) // training.probe_every * (encoded + passes))


def _latents_stage(trial: TrialConfig) -> StageCost:
    numbers = bottleneck_numbers(trial.tokenizer.bottleneck)
    images = trial.latents.images * trial.latents.variants + validation_images(trial)
    if numbers.codebook_size is None:
        each = 2 * numbers.latent_dim * (2 if trial.latents.dtype == "float16" else 4)  # mean and log-variance
    else:
        each = 2 if numbers.codebook_size <= 1 << 16 else 4
    flops = tokenizer_flops(trial.tokenizer, *trial.data.extent)["encode"] * images
    return StageCost(float(flops), coding_bytes(trial), 0, 0, images * (_tokens(trial) * each + 4))


def _probe_stage(trial: TrialConfig) -> StageCost:
    probe, bottleneck, tokens = trial.probe, trial.tokenizer.bottleneck, _tokens(trial)
    assert probe is not None, "a trial without a probe has no probe stage"
    params = probe_params_of(trial)
    numbers = bottleneck_numbers(bottleneck)
    moment, image = likelihood_bytes(probe, probe_outputs(probe, numbers), tokens, numbers.codebook_size is not None)
    each = kept_by_probe(probe, tokens) + image
    flops = 3.0 * probe_flops(probe, bottleneck, tokens) * training_images(probe.training)
    fixed = trained_bytes(params, probe.training) + moment
    blocks, block = probe_blocks(probe)
    averaged = 4 if isinstance(probe, DiffusionProbe) else 0  # bytes of each weight's average
    return StageCost(flops, fixed + averaged * params, each, probe.training.batch_size,
                     checkpointed_bytes(params, averaged * params),
                     trained_bytes(blocks, probe.training) + averaged * blocks, 4 * block, 0,
                     gradient_bytes(params), rounded_bytes(params, probe.training) + moment)  # fmt: skip


def _linear_probe_stage(trial: TrialConfig) -> StageCost:
    probe, config, tokenizer = trial.probe, trial.linear_probe, trial.tokenizer
    assert probe is not None, "a trial without a probe has no linear_probe stage"
    assert config is not None, "a trial without linear_probe has no such stage"
    images = config.images + validation_images(trial)
    each = tokenizer_flops(tokenizer, *trial.data.extent)["encode"]
    each += probe_feature_flops(probe, tokenizer.bottleneck, _tokens(trial))
    widths = probe.size.width + bottleneck_numbers(tokenizer.bottleneck).latent_dim  # of both kinds of features
    classified = 3 * 2 * widths * (classes_of(trial) or ASSUMED_CLASSES) * config.epochs * config.images
    memory = 4 * probe_params_of(trial) + coding_bytes(trial)
    memory += widest(probe.size, probe_mlp_width(probe), at_once(trial), _tokens(trial))
    return StageCost(float(images * each + classified), memory, 0, 0, images * 4 * (widths + 2))


_STAGES: dict[str, Callable[[TrialConfig], StageCost]] = {
    "teacher": _teacher_stage,
    "tokenizer": _tokenizer_stage,
    "decoder_finetune": finetune_stage_cost,
    "reconstruction": reconstruction_stage_cost,
    "latents": _latents_stage,
    "probe": _probe_stage,
    "generation": generation_stage_cost,
    "linear_probe": _linear_probe_stage,
}


# --- a trial ---


def trial_sizes(trial: TrialConfig) -> dict[str, int | float]:
    """The size and budget columns of the results table that follow from a trial's config.

    Those of a second training stand apart, as other trials may share the first.
    ``probe_params`` is left out where there is no probe, and for photographs: their number of classes is known only to
    who has opened them.
    """
    sizes: dict[str, int | float] = {
        **tokenizer_params(trial.tokenizer, *trial.data.extent),
        "training_only_params": loss_sizes(trial).trained_params,
        **bottleneck_sizes(trial.tokenizer, *trial.data.extent),
        "train_images": training_images(trial.training),
        "train_flops": tokenizer_training_flops(trial),
    }
    if trial.decoder_finetune is not None:
        sizes |= finetune_sizes(trial)
    if trial.probe is not None and classes_of(trial) is not None:
        sizes["probe_params"] = probe_params_of(trial)
    return sizes

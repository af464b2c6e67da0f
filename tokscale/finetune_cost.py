"""What a decoder's second training takes: memory of the whole tokenizer, gradients and moments of the decoder alone."""

from __future__ import annotations

from tokscale.config import TrialConfig
from tokscale.formulas import half_blocks, tokenizer_params
from tokscale.memory import (
    DECODER,
    averaged_bytes,
    checkpointed_bytes,
    gradient_bytes,
    kept_by_tokenizer,
    rounded_bytes,
    size_of_float,
    spared_by_recomputing,
    trained_bytes,
    widest_half,
)
from tokscale.stage_cost import StageCost
from tokscale.training_cost import Finetuning, finetuning, finetuning_flops, loss_sizes, training_images


def finetune_stage_cost(trial: TrialConfig) -> StageCost:
    """The stage that trains the decoder; encoder and bottleneck are whole on every device, their pass keeps nothing."""
    second, sizes = _second(trial), tokenizer_params(trial.tokenizer, trial.data.resolution)
    training, losses, decoder = second.training, loss_sizes(second), sizes["decoder_params"]
    trained, averaged = decoder + losses.trained_params, averaged_bytes(decoder, training)
    size, encoding = size_of_float(training), widest_half(trial, 1)
    kept = kept_by_tokenizer(trial, DECODER).kept_bytes(size) + losses.image_bytes(size) + losses.passing_bytes
    beside = max(encoding, losses.judged_bytes(size))  # in passes of their own
    frozen = 4 * (sizes["tokenizer_params"] - decoder) + losses.frozen_bytes(size)
    recomputed = kept - spared_by_recomputing(trial, size, DECODER)
    pixels = 3 * 4 * 3 * trial.data.resolution**2  # images, patches, reconstructions
    blocks, block = half_blocks(trial.tokenizer, trial.tokenizer.decoder)
    return StageCost(
        finetuning_flops(second),
        fixed_bytes=trained_bytes(trained, training) + averaged + frozen,
        image_bytes=max(kept, beside) + pixels,
        batch=training.batch_size,
        disk_bytes=checkpointed_bytes(trained, averaged),
        blocks_bytes=trained_bytes(blocks, training) + averaged_bytes(blocks, training),
        block_bytes=4 * block,
        recomputed_bytes=max(recomputed, beside) + pixels,
        gradient_bytes=gradient_bytes(trained),
        rounded_bytes=rounded_bytes(trained, training),
    )


def finetune_sizes(trial: TrialConfig) -> dict[str, int | float]:
    """The results table's columns about the second training."""
    second = _second(trial)
    return {
        "finetune_only_params": loss_sizes(second).trained_params,
        "finetune_images": training_images(second.training),
        "finetune_flops": finetuning_flops(second),
    }


def _second(trial: TrialConfig) -> Finetuning:
    assert trial.decoder_finetune is not None, "a trial without decoder_finetune has no second training"
    return finetuning(trial.data, trial.tokenizer, trial.decoder_finetune)

"""The ``decoder_finetune`` stage: train a finished tokenizer's decoder on, with all before it frozen."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save

from tokscale.bottlenecks.draws import seed_for
from tokscale.data import open_images, train_batches
from tokscale.models.tokenizer import Tokenizer
from tokscale.parsing import parse
from tokscale.record import write_atomically
from tokscale.stability import read_points
from tokscale.stages.configs import DecoderFinetuneStage
from tokscale.stages.context import Context, Measures
from tokscale.stages.tokenizer import load_measured, load_tokenizer
from tokscale.training.decoder_task import DecoderTask
from tokscale.training.loop import train
from tokscale.training_cost import finetuning, finetuning_flops, loss_sizes

WEIGHTS = "decoder.safetensors"


def run(context: Context) -> Measures:
    """Train the decoder, keep its weights as safetensors, and report what was spent, apart from the first training."""
    config = parse(DecoderFinetuneStage, context.config)
    settings, ranks = config.decoder_finetune, context.team.ranks
    tokenizer, first = load_tokenizer(
        context.parents["tokenizer"], context.parent_folder("tokenizer"), torch.device("cpu")
    )
    tokenizer.checkpoint_blocks(context.runtime.recompute)
    seed = seed_for("decoder finetune", config.seed)  # other batches in another order than in the first training
    task = DecoderTask(tokenizer, settings, config.data.resolution, seed, config.data.frames)
    trained = finetuning(config.data, first.tokenizer, settings)
    planned = loss_sizes(trained).trained_params
    assert task.training_only_params == planned, f"planned {planned} parameters, built {task.training_only_params}"
    images = open_images(config.data, "train")
    states = train(
        task,
        lambda step: train_batches(
            images, batch_size=settings.training.batch_size, seed=seed, start_batch=step, rank=ranks.rank,
            world_size=ranks.world,
        ),
        context,
    )  # fmt: skip
    if not context.first:
        return {}
    write_atomically(context.artifact(WEIGHTS), save(states.get("average") or states["decoder"]))
    context.notes += [f"{skipped.path} was skipped: {skipped.reason}" for skipped in images.skipped]
    context.notes += task.notes(settings.training.batch_size // ranks.world)
    context.notes += task.warnings(read_points(context.folder.progress))
    return {
        "finetune_only_params": planned, "finetune_images": task.images_seen,
        "finetune_flops": finetuning_flops(trained), "skipped_files": len(images.skipped),
    }  # fmt: skip


def load_judged(context: Context) -> Tokenizer:
    """The tokenizer that a stage measures, in evaluation mode: with the finetuned decoder, where it stands on one."""
    tokenizer = load_measured(context)
    if "decoder_finetune" in context.parents:
        tokenizer.decoder.load_state_dict(load_file(context.parent_folder("decoder_finetune").artifacts / WEIGHTS))
    return tokenizer

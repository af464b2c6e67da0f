"""The ``teacher`` stage: train a small classifier whose patch features stand in for a pretrained vision encoder's."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save

from tokscale.bottlenecks.draws import seed_for
from tokscale.data import ImageSet, evaluation_batches, open_images, to_model_range, train_batches
from tokscale.errors import DataError
from tokscale.formulas import classifier_params
from tokscale.parsing import parse
from tokscale.record import Record, write_atomically
from tokscale.stage import StageFolder
from tokscale.stages.configs import TeacherStage
from tokscale.stages.context import Context, Measures
from tokscale.teachers.classifier import Classifier, StandInTeacher, correct
from tokscale.training.loop import train
from tokscale.training.tasks import TeacherTask
from tokscale.training_cost import teacher_training

WEIGHTS = "teacher.safetensors"
_CLASSES = "encoder.head.bias"  # has one number for each class
_MEASURED_AT_ONCE = 64


def run(context: Context) -> Measures:
    """Train, keep the weights, and measure the share of validation images that are given their class."""
    config = parse(TeacherStage, context.config)
    images, validation = (open_images(config.data, split) for split in ("train", "validation"))
    if images.num_classes < 2:
        raise DataError("a teacher of one class learns nothing", where=images.reference,
                        given=f"{images.num_classes} class", allowed="images of 2 or more classes")  # fmt: skip
    teacher, ranks = config.teacher, context.team.ranks
    torch.manual_seed(seed_for("initialisation", teacher.seed))
    classifier = Classifier(teacher, config.data.resolution, images.num_classes)
    built = sum(parameter.numel() for parameter in classifier.parameters())
    assert built == classifier_params(teacher, images.num_classes), "the plan counts other parameters"
    task = TeacherTask(classifier, teacher_training(teacher), teacher.seed)
    trained = train(
        task,
        lambda step: train_batches(
            images, batch_size=teacher.batch_size, seed=teacher.seed, start_batch=step, rank=ranks.rank,
            world_size=ranks.world,
        ),
        context,
    )  # fmt: skip
    if not context.first:
        return {}
    classifier = Classifier(teacher, config.data.resolution, images.num_classes)
    classifier.load_state_dict(trained["classifier"])
    write_atomically(context.artifact(WEIGHTS), save(trained["classifier"]))
    context.notes += [f"{skipped.path} was skipped: {skipped.reason}" for skipped in images.skipped]
    return {"teacher_accuracy": _accuracy(classifier.to(context.device), validation, context)}


def _accuracy(classifier: Classifier, images: ImageSet, context: Context) -> float:
    right = seen = 0
    for batch, labels in evaluation_batches(images, batch_size=context.pass_size(_MEASURED_AT_ONCE)):
        context.stop_if_asked()
        right += correct(classifier, to_model_range(batch.to(context.device)), labels.to(context.device))
        seen += len(labels)
    return right / seen


def load_teacher(record: Record, folder: StageFolder) -> StandInTeacher:
    """A trained stand-in teacher, on the processor."""
    config, stored = parse(TeacherStage, record.config), load_file(folder.artifacts / WEIGHTS)
    classifier = Classifier(config.teacher, config.data.resolution, len(stored[_CLASSES]))
    classifier.load_state_dict(stored)
    return StandInTeacher(classifier)

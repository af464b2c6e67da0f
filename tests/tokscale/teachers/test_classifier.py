"""The stand-in teacher: sizes by formula, logits that are a mean over patches, features of the last block."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokscale.config import ClassifierTeacher
from tokscale.formulas import classifier_flops, classifier_params
from tokscale.teachers.classifier import Classifier, StandInTeacher, correct


def built(**changes):
    config = ClassifierTeacher(**{"kind": "classifier", "size": "pico", "patch": 4, **changes})
    torch.manual_seed(0)
    return config, Classifier(config, 16, 7)


def test_parameters_and_flops_are_those_of_the_formula():
    config, classifier = built(size="micro")
    assert sum(p.numel() for p in classifier.parameters()) == classifier_params(config, 7)
    images = torch.zeros(1, 3, 16, 16)
    for look, classes in ((classifier, 7), (classifier.patches, 0)):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            look(images)
        assert counter.get_total_flops() == classifier_flops(config, 16, classes)


def test_logits_are_the_head_of_the_mean_patch():
    _, classifier = built()
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    teacher = StandInTeacher(classifier)
    patches = teacher.features(images)
    assert patches.shape == (3, 16, teacher.dim)
    expected = classifier.encoder.head(patches.mean(dim=1))
    torch.testing.assert_close(classifier(images), expected, rtol=1e-4, atol=1e-5)
    labels = expected.argmax(dim=1)
    assert correct(classifier, images, labels) == 3
    assert correct(classifier, images, (labels + 1) % 7) == 0


def test_it_is_frozen():
    _, classifier = built()
    teacher = StandInTeacher(classifier)
    assert not teacher.features(torch.zeros(1, 3, 16, 16, requires_grad=True)).requires_grad
    assert teacher.params == classifier_params(ClassifierTeacher(kind="classifier", size="pico"), 7)


def test_features_of_another_width_are_a_fault_of_ours():
    _, classifier = built()
    teacher = StandInTeacher(classifier)
    teacher.dim = 31
    with pytest.raises(AssertionError, match="32 wide, not 31"):
        teacher.features(torch.zeros(1, 3, 16, 16))

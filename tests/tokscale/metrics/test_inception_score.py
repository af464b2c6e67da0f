"""The Inception score against closed forms and a plain definition."""

import numpy as np
import pytest
import torch

from tokscale.errors import DataError
from tokscale.metrics.inception_score import InceptionScore


def score_of(logits, splits=10):
    score = InceptionScore()
    for batch in torch.split(logits, 7):
        score.update(batch)
    return score.compute(splits)


def test_a_classifier_that_knows_nothing_gives_one():
    assert score_of(torch.zeros(100, 1008)) == pytest.approx(1, abs=1e-12)
    assert score_of(torch.randn(1, 50).repeat(40, 1)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("certain", [1e3, float("inf")])
def test_sure_predictions_of_every_class_give_the_number_of_classes(certain):
    logits = torch.full((24, 8), -certain)
    logits[torch.arange(24), torch.arange(24) % 8] = 0
    assert score_of(logits, splits=1) == pytest.approx(8, rel=1e-12)


def test_sure_predictions_of_one_class_give_one():
    assert score_of(torch.tensor([[500.0, 0, 0]]).repeat(30, 1)) == pytest.approx(1)


def test_equals_the_definition_on_shuffled_splits():
    logits = torch.randn(103, 12, generator=torch.Generator().manual_seed(0)) * 2
    p = np.exp(logits.double().numpy())
    p = (p / p.sum(1, keepdims=True))[np.random.RandomState(2020).permutation(103)]
    scores = []
    for number in range(10):
        part = p[number * 103 // 10 : (number + 1) * 103 // 10]
        scores.append(np.exp((part * np.log(part / part.mean(0))).sum(1).mean()))
    assert score_of(logits) == pytest.approx(np.mean(scores), rel=1e-9)


def test_images_sorted_by_class_lose_nothing():
    logits = torch.full((1000, 10), -50.0)
    logits[torch.arange(1000), torch.arange(1000) // 100] = 50
    assert score_of(logits) > 9
    with pytest.raises(DataError, match="10 or more"):
        score_of(logits[:9])


def test_shares_of_processes_join():
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    first, second = InceptionScore(), InceptionScore()
    first.update(logits[:25])
    second.update(logits[25:])
    first.merge(second)
    assert (first.count, first.compute()) == (60, score_of(logits))

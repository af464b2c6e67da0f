"""Pixel losses by their formulas."""

import typing

import pytest
import torch
import torch.nn.functional as F

from tokscale.config import LossesConfig
from tokscale.losses.reconstruction import RECONSTRUCTION_LOSSES, reconstruction_loss

WORDS = typing.get_args(LossesConfig.model_fields["reconstruction"].annotation)


def pair(seed=0, shape=(2, 3, 5, 7)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator) * 2 - 1, torch.rand(shape, generator=generator) * 2 - 1


def test_every_word_of_the_config_is_a_loss_and_no_other():
    assert set(RECONSTRUCTION_LOSSES) == set(WORDS)


def test_formulas():
    prediction, target = pair()
    error = (prediction - target).double()
    expected = {"mse": error**2, "l1": error.abs(), "charbonnier": (error**2 + 1e-6).sqrt()}
    for word in WORDS:
        loss = reconstruction_loss(LossesConfig(reconstruction=word))(prediction, target)
        assert loss.shape == ()
        assert float(loss) == pytest.approx(float(expected[word].mean()), rel=1e-6)


@pytest.mark.parametrize("word", WORDS)
def test_a_perfect_prediction_is_a_minimum_with_a_finite_gradient(word):
    target = pair()[1]
    prediction = target.clone().requires_grad_()
    loss = RECONSTRUCTION_LOSSES[word](prediction, target)
    loss.backward()
    assert loss.item() == pytest.approx(1e-3 if word == "charbonnier" else 0, rel=1e-6)
    assert torch.equal(prediction.grad, torch.zeros_like(target))


@pytest.mark.parametrize("word", WORDS)
def test_the_gradient_points_from_target_to_prediction(word):
    prediction, target = pair()
    prediction.requires_grad_()
    RECONSTRUCTION_LOSSES[word](prediction, target).backward()
    assert torch.equal(prediction.grad.sign(), (prediction - target).sign())


def test_charbonnier_lies_between_quadratic_and_linear():
    for size, expected in ((1e-5, 1e-3 + 1e-10 / 2e-3), (1.0, 1.0)):
        error = torch.full((1, 3, 4, 4), size)
        loss = RECONSTRUCTION_LOSSES["charbonnier"](error, torch.zeros_like(error))
        assert float(loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("word", WORDS)
def test_bfloat16_predictions_are_compared_in_float32(word):
    prediction, target = pair()
    prediction = prediction.bfloat16()
    loss = RECONSTRUCTION_LOSSES[word](prediction, target)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, RECONSTRUCTION_LOSSES[word](prediction.float(), target))


def test_mse_and_l1_equal_torch():
    prediction, target = pair(1)
    assert torch.equal(RECONSTRUCTION_LOSSES["mse"](prediction, target), F.mse_loss(prediction, target))
    assert torch.equal(RECONSTRUCTION_LOSSES["l1"](prediction, target), F.l1_loss(prediction, target))


@pytest.mark.parametrize("word", WORDS)
def test_shapes_are_not_broadcast(word):
    prediction, target = pair()
    with pytest.raises(AssertionError, match="prediction"):
        RECONSTRUCTION_LOSSES[word](prediction, target[:1])

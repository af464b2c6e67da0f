"""Linear probing: LARS against its formula, and classifiers against data that can and cannot be told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tokscale.config import LinearProbeConfig
from tokscale.data.features import read_features, write_features
from tokscale.errors import DataError, DivergedError, StoreError
from tokscale.probes.linear import Lars, top_1_accuracy, train_linear_probe

CPU = torch.device("cpu")


def test_two_steps_of_lars_are_those_computed_by_hand():
    """w = (3, 4), g = (0, 2), decay .1: g + decay w = (.3, 2.4), of norm 2.41868; scaled by trust x 5 / 2.41868."""
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = Lars([weight, bias], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    scale = 0.01 * 5 / math.hypot(0.3, 2.4)
    velocity, expected = np.array([0.3, 2.4]) * scale, np.array([3.0, 4.0])
    for step in range(2):
        weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([3.0])
        if step == 1:
            decayed = np.array([0.0, 2.0]) + 0.1 * expected
            scale = 0.01 * np.linalg.norm(expected) / np.linalg.norm(decayed)
            velocity = 0.9 * velocity + scale * decayed
        expected = expected - 0.5 * velocity
        optimizer.step()
        np.testing.assert_allclose(weight.detach()[0].numpy(), expected, rtol=1e-6)
    # A vector neither decays nor scales: v = 3, then 5.7.
    assert bias.item() == pytest.approx(1 - 0.5 * 3 - 0.5 * 5.7)


@pytest.mark.parametrize(("value", "gradient"), [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])])
def test_lars_takes_a_gradient_as_it_is_where_a_norm_is_zero(value, gradient):
    weight = torch.nn.Parameter(torch.tensor([value]))
    weight.grad = torch.tensor([gradient])
    Lars([weight], lr=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([value]) - 0.1 * torch.tensor([gradient]))


def clusters(count, classes=5, dim=8, seed=0, noise=0.05):
    """Features around one centre for each class, far apart, on scales that differ a thousandfold between channels."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, dim))
    labels = generator.integers(0, classes, count)
    features = centres[labels] + noise * generator.normal(size=(count, dim))
    return (features * 10.0 ** np.linspace(-2, 1, dim) + 3).astype(np.float32), labels


def trained(features, labels, classes=5, steps=200, lr=20.0, **changes):
    config = LinearProbeConfig(batch_size=64, **changes)
    return train_linear_probe(features, labels, classes, config, lambda step: lr * (1 - step / steps), steps,
                              seed=3, device=CPU)  # fmt: skip


def test_what_a_plane_can_separate_is_told_apart_without_an_error():
    probe = trained(*clusters(600))
    assert top_1_accuracy(probe, *clusters(300, seed=1), CPU) == 1.0


def test_shuffled_labels_are_guessed_at_the_rate_of_chance():
    features, labels = clusters(600, noise=2.0)
    others = clusters(4000, seed=1, noise=2.0)
    assert top_1_accuracy(trained(features, labels), *others, CPU) > 0.35
    shuffled = trained(features, np.random.default_rng(2).permutation(labels))
    assert top_1_accuracy(shuffled, *others, CPU) == pytest.approx(0.2, abs=0.04)


def test_training_is_a_function_of_the_seed():
    features, labels = clusters(100)
    one, same = (trained(features, labels, steps=20).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_features_without_spread_and_a_rate_too_high_are_named():
    features, labels = clusters(100)
    with pytest.raises(DivergedError, match="linear probe"):
        trained(features * np.float32("nan"), labels, steps=3)


def test_the_warm_up_must_leave_something():
    with pytest.raises(ValueError, match="leaves nothing of 10"):
        LinearProbeConfig(epochs=10)


def test_cached_features_are_those_written_and_a_split_without_labels_is_unfinished(tmp_path):
    widths = {"ar": 3, "tokenizer": 2}
    batches = [{"ar": torch.randn(n, 3), "tokenizer": torch.randn(n, 2), "labels": torch.arange(n)} for n in (4, 3)]
    assert read_features(tmp_path, "train", widths) is None
    write_features(tmp_path, "train", widths, batches)
    found = read_features(tmp_path, "train", widths)
    for name, rows in found.items():
        np.testing.assert_array_equal(rows, torch.cat([batch[name] for batch in batches]).numpy())
    assert read_features(tmp_path, "validation", widths) is None
    (tmp_path / "train.labels").rename(tmp_path / "away")
    assert read_features(tmp_path, "train", widths) is None


def test_no_image_and_no_room_are_one_message(tmp_path):
    write_features(tmp_path, "train", {"ar": 3}, [])
    with pytest.raises(DataError, match="no image"):
        read_features(tmp_path, "train", {"ar": 3})
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_features(tmp_path / "file", "train", {"ar": 3}, [])

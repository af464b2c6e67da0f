"""Precision and recall against a brute-force reference, and on sets whose answer is known."""

import numpy as np
import pytest
import torch

from tokscale.errors import DataError
from tokscale.metrics.features import open_features
from tokscale.metrics.frechet import frechet_distance
from tokscale.metrics.generation import FeatureSet, precision_recall
from tokscale.metrics.seen import Seen, generation_metrics


def brute_force(reference, samples, neighbours):
    def inside(points, centres):
        own = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        radii = np.sort(own, axis=1)[:, neighbours]
        across = np.linalg.norm(points[:, None] - centres[None], axis=2)
        return (across <= radii).any(axis=1).mean()

    return inside(samples, reference), inside(reference, samples)


@pytest.mark.parametrize("neighbours", [1, 3, 10])
@pytest.mark.parametrize(("n", "m", "dim"), [(50, 60, 2), (700, 300, 8)])
def test_equals_brute_force(n, m, dim, neighbours):
    generator = np.random.default_rng(n + dim)
    reference = generator.standard_normal((n, dim)) + 100
    samples = generator.standard_normal((m, dim)) * 0.7 + 100.4
    expected = brute_force(reference, samples, neighbours)
    assert 0 < min(expected) < 1, "the sets should overlap in part"
    assert precision_recall(torch.from_numpy(reference), torch.from_numpy(samples), neighbours) == expected


def test_the_same_images_are_precise_and_complete():
    rows = torch.randn(600, 16, generator=torch.Generator().manual_seed(0)) * 1e3 + 1e5
    assert precision_recall(rows, rows.flip(0)) == (1, 1)


def test_sets_apart_are_neither():
    rows = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    assert precision_recall(rows, rows + 100) == (0, 0)


def test_a_generator_of_few_modes_is_precise_and_incomplete():
    generator = torch.Generator().manual_seed(0)
    modes = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]])
    reference = modes.repeat(100, 1) + torch.randn(400, 2, generator=generator)
    one_mode = reference[::4] + 0.01
    precision, recall = precision_recall(reference, one_mode)
    assert precision > 0.9
    assert 0.2 < recall <= 0.25


def test_equal_rows_are_at_distance_zero():
    # One image again and again: its balls have radius 0, and rounding must not push the image out of them.
    row = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)) * 1e4
    other = torch.randn(30, 64, generator=torch.Generator().manual_seed(1))
    assert precision_recall(torch.cat([row.repeat(300, 1), other]), row.repeat(7, 1))[0] == 1


def test_too_few_images_are_refused():
    rows = torch.zeros(4, 2)
    with pytest.raises(DataError, match=r"(?s)more generated images.*given: +3.*4 or more"):
        precision_recall(rows, rows[:3])
    with pytest.raises(DataError, match="more reference images"):
        precision_recall(rows[:0], rows)


def test_a_feature_set_keeps_some_rows_and_the_statistics_of_all():
    rows = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    whole, parts, other = (FeatureSet(5, keep=60) for _ in range(3))
    whole.update(rows)
    parts.update(rows[:30])
    parts.update(rows[30:50])
    other.update(rows[50:])
    parts.merge(other)
    assert torch.equal(whole.rows, rows[:60])
    assert torch.equal(parts.rows, rows[:60])
    assert parts.statistics.count == 100
    np.testing.assert_allclose(parts.statistics.covariance, np.cov(rows.double().numpy().T), rtol=1e-12, atol=1e-14)


def test_generation_measures_come_together():
    network = open_features("random-conv")
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    reference, samples = Seen(network), Seen(network)
    reference.update(images[:30])
    samples.update(images[30:] // 2)
    measures, notes = generation_metrics(reference.as_reference("these"), samples)
    precision, recall = precision_recall(reference.features.rows, samples.features.rows)
    distance = frechet_distance(reference.features.statistics, samples.features.statistics)
    assert measures == {"gfd": distance, "precision": precision, "recall": recall}
    assert notes == []

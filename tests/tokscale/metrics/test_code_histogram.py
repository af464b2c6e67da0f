"""Codebook usage and entropy."""

import pickle

import pytest
import scipy.stats
import torch

from tokscale.errors import DataError
from tokscale.metrics.codes import CodeHistogram


def test_every_code_once_is_full_usage_and_the_whole_entropy():
    histogram = CodeHistogram(1024)
    histogram.update(torch.randperm(1024).reshape(4, 16, 16))
    assert histogram.compute() == {"codebook_usage": 1.0, "codebook_entropy": 10.0}


def test_one_code_is_the_least_usage_and_no_entropy():
    histogram = CodeHistogram(8)
    histogram.update(torch.full((2, 5), 7, dtype=torch.int32))
    measures = histogram.compute()
    assert measures == {"codebook_usage": 1 / 8, "codebook_entropy": 0.0}
    assert str(measures["codebook_entropy"]) == "0.0"


def test_entropy_equals_scipy_and_shares_join():
    generator = torch.Generator().manual_seed(0)
    indices = (torch.randn(3000, generator=generator).abs() * 20).long().clamp(max=99)
    histogram, other = CodeHistogram(100), CodeHistogram(100)
    histogram.update(indices[:1000])
    histogram.update(indices[1000:1300])
    other.update(indices[1300:])
    histogram.merge(pickle.loads(pickle.dumps(other)))
    counts = torch.bincount(indices)
    measures = histogram.compute()
    assert measures["codebook_entropy"] == pytest.approx(scipy.stats.entropy(counts.numpy(), base=2), rel=1e-12)
    assert measures["codebook_usage"] == int((counts > 0).sum()) / 100


def test_an_index_beyond_the_codebook_is_no_code():
    with pytest.raises(AssertionError, match="beyond the 8 codes"):
        CodeHistogram(8).update(torch.tensor([8]))


def test_nothing_seen_is_nothing_to_measure():
    with pytest.raises(DataError, match="no image was encoded"):
        CodeHistogram(8).compute()

"""Reference files in the form of ADM's evaluator: statistics, images or both; and files that are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tokscale.errors import DataError
from tokscale.metrics import references
from tokscale.metrics.features import open_features
from tokscale.metrics.frechet import Gaussian
from tokscale.metrics.references import npz_images, open_reference
from tokscale.metrics.seen import Seen, generation_metrics
from tokscale.record import digest


@pytest.fixture(scope="module")
def network():
    return open_features("random-conv")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (37, 16, 20, 3), dtype=np.uint8)


def as_images(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def stated(dim=128):
    return {"mu": np.full(dim, 0.5), "sigma": np.diag(np.arange(1.0, dim + 1))}


def test_statistics_are_taken_as_they_stand(network, tmp_path):
    path = tmp_path / "VIRTUAL_256.npz"
    np.savez(path, **stated(), mu_s=np.zeros(3), sigma_s=np.zeros((3, 3)))
    reference = open_reference(path, network, "cpu", tmp_path / "cache")
    assert reference.name == f"VIRTUAL_256.npz-{digest(path)['sha256'][:8]}"
    assert reference.rows is None
    np.testing.assert_array_equal(reference.gaussian.covariance, stated()["sigma"])
    samples = Seen(network)
    samples.update(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8))
    measures, notes = generation_metrics(reference, samples)
    assert set(measures) == {"gfd"}
    assert any("precision and recall were not measured" in note for note in notes)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_are_seen_once_and_what_was_seen_is_kept(network, pixels, tmp_path, monkeypatch, save):
    path, cache = tmp_path / "images.npz", tmp_path / "runs" / "references"
    save(path, arr_0=pixels)
    batches = list(npz_images(path, 10))
    assert [len(batch) for batch in batches] == [10, 10, 10, 7]
    assert torch.equal(torch.cat(batches), as_images(pixels))
    first = open_reference(path, network, "cpu", cache, at_once=10)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(references, "npz_images", lambda *_: pytest.fail("looked again"))
    second = open_reference(path, network, "cpu", cache)
    seen = Seen(network)
    seen.update(as_images(pixels))
    for reference in (first, second):
        assert torch.equal(reference.rows, seen.features.rows)
        assert reference.gaussian.count == len(pixels)
        np.testing.assert_allclose(reference.gaussian.covariance, seen.features.statistics.covariance, atol=1e-12)
    assert {"gfd", "precision", "recall"} == set(generation_metrics(second, seen)[0])
    np.savez(path, arr_0=pixels[:30])
    monkeypatch.undo()
    assert open_reference(path, network, "cpu", cache).gaussian.count == 30


@pytest.mark.parametrize("dim", [128, 2048])
def test_of_both_the_statistics_count_where_they_are_of_these_features(network, pixels, tmp_path, dim):
    path = tmp_path / "both.npz"
    np.savez(path, arr_0=pixels, mu=np.zeros(dim), sigma=np.eye(dim))
    reference = open_reference(path, network, "cpu", tmp_path)
    assert len(reference.rows) == len(pixels)
    assert (reference.gaussian.count is None) == (dim == 128)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"other": np.zeros(3)}, "this file is no reference"),
        ({"mu": np.zeros(128)}, "this file is no reference"),
        (stated(2048), r"(?s)not of the features random-conv.*2048 dimensions.*128 dimensions"),
        ({"mu": np.zeros(4), "sigma": np.zeros((3, 3))}, "impossible shapes"),
        ({"arr_0": np.zeros((5, 16, 16, 3))}, r"(?s)cannot be read.*float64"),
        ({"arr_0": np.zeros((5, 16, 16), np.uint8)}, r"(?s)cannot be read.*\(5, 16, 16\)"),
        ({"arr_0": np.zeros((5, 3, 16, 16), np.uint8)}, "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_message(network, tmp_path, arrays, words):
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=words) as refusal:
        open_reference(path, network, "cpu", tmp_path / "cache")
    assert str(path) in str(refusal.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [None, b"", b"no zip at all"])
def test_a_file_that_is_absent_or_no_npz_is_one_message(network, tmp_path, content):
    path = tmp_path / "wrong.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="a reference file cannot be read"):
        open_reference(path, network, "cpu", tmp_path)


def test_statistics_of_another_network_of_the_same_width_are_refused(network, pixels, tmp_path):
    later = replace(network, name="inception-torchvision")
    path = tmp_path / "adm.npz"
    np.savez(path, **stated())
    with pytest.raises(DataError, match=r"(?s)not of the features inception-torchvision.*file does not name"):
        open_reference(path, later, "cpu", tmp_path / "cache")
    np.savez(path, **stated(), arr_0=pixels)
    assert open_reference(path, later, "cpu", tmp_path / "cache").gaussian.count == len(pixels)  # of its images
    np.savez(path, **stated(), features="inception-torchvision")
    assert open_reference(path, later, "cpu", tmp_path / "cache").gaussian.count is None
    with pytest.raises(DataError, match=r"(?s)not of the features random-conv.*of inception-torchvision"):
        open_reference(path, network, "cpu", tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another", "empty"])
def test_what_was_kept_and_is_damaged_is_made_again(network, pixels, tmp_path, damage):
    path, cache = tmp_path / "images.npz", tmp_path / "cache"
    np.savez(path, arr_0=pixels)
    first = open_reference(path, network, "cpu", cache)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    if damage == "of another":  # a whole file, of other images
        np.savez(tmp_path / "other.npz", arr_0=pixels[:20])
        open_reference(tmp_path / "other.npz", network, "cpu", tmp_path / "elsewhere")
        (other,) = (tmp_path / "elsewhere").iterdir()
        kept.write_bytes(other.read_bytes())
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        kept.write_bytes({"cut": whole[:-100], "flipped": flipped, "empty": b""}[damage])
    second = open_reference(path, network, "cpu", cache)
    assert torch.equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.gaussian.covariance, second.gaussian.covariance)
    third = open_reference(path, network, "cpu", cache)
    np.testing.assert_array_equal(first.gaussian.mean, third.gaussian.mean)
    assert [file.name for file in cache.iterdir()] == [kept.name]


def test_a_gaussian_of_this_package_is_a_reference(network, tmp_path):
    path = tmp_path / "mine.npz"
    Gaussian(stated()["mu"], stated()["sigma"], 50).save(path)
    assert open_reference(path, network, "cpu", tmp_path).gaussian.count == 50

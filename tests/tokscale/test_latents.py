"""Cached latents: what is written is what is read, damage is noticed, and batches are a function of (seed, t)."""

from __future__ import annotations

import json
import pickle
import resource
from contextlib import suppress
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tokscale.data.latent_batches import latent_batches
from tokscale.data.latent_writer import LatentWriter
from tokscale.data.latents import DESCRIPTION, LatentSpec, finish_latents, open_latents
from tokscale.errors import DivergedError, StoreError

CONTINUOUS = LatentSpec("continuous", (2, 3), 6, 4)


def codes(codebook_size):
    return LatentSpec("discrete", (2, 3), 6, 8, codebook_size)


def make(spec, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    if spec.codebook_size is not None:
        return {"indices": torch.randint(spec.codebook_size, (count, 6), generator=generator), "labels": labels}
    mean = 3 + torch.tensor([1.0, 0.1, 10.0, 2.0]) * torch.randn(count, 6, 4, generator=generator)
    return {"mean": mean, "logvar": torch.randn(count, 6, 4, generator=generator) - 2, "labels": labels}


def write_split(folder, split, spec, arrays, count=None, dtype="float32"):
    with LatentWriter(folder, split, spec, len(arrays["labels"]) if count is None else count, dtype) as writer:
        for start in range(0, len(arrays["labels"]), 7):
            writer.write(**{name: tensor[start : start + 7] for name, tensor in arrays.items()})
    return writer


def write_all(folder, spec, train=50, validation=20, dtype="float32"):
    arrays = {"train": make(spec, train), "validation": make(spec, validation, seed=1)}
    for split, content in arrays.items():
        write_split(folder, split, spec, content, dtype=dtype)
    finish_latents(folder, spec, num_classes=10)
    return arrays


@pytest.mark.parametrize("spec", [CONTINUOUS, codes(512), codes(65536), codes(65537)], ids=lambda spec: str(spec)[12:])
def test_reads_back_what_was_written(tmp_path, spec):
    arrays = write_all(tmp_path, spec)
    latents = open_latents(tmp_path)
    latents.verify()
    assert latents.spec == spec
    assert latents.num_classes == 10
    for split, content in (("train", arrays["train"]), ("validation", arrays["validation"])):
        read = getattr(latents, split)
        assert len(read) == len(content["labels"])
        rows = torch.tensor([3, 19, 3, 0])
        for chosen in (rows, rows.numpy(), rows.tolist()):
            batch = read.batch(chosen)
            assert batch.keys() == content.keys()
            for name, tensor in batch.items():
                torch.testing.assert_close(tensor, content[name][rows], rtol=0, atol=0)


def test_codes_take_two_bytes_where_they_fit(tmp_path):
    write_all(tmp_path / "small", codes(65536))
    write_all(tmp_path / "large", codes(65537))
    assert np.load(tmp_path / "small" / "train.indices.npy").dtype == np.uint16
    assert np.load(tmp_path / "large" / "train.indices.npy").dtype == np.int32


def test_moments_are_those_of_samples_of_the_posterior(tmp_path):
    arrays = write_all(tmp_path, CONTINUOUS, train=3000)["train"]
    latents = open_latents(tmp_path)
    expected = arrays["logvar"].double().exp().mean((0, 1)) + arrays["mean"].double().var((0, 1), correction=0)
    torch.testing.assert_close(latents.std.double() ** 2, expected, rtol=1e-5, atol=0)
    samples = arrays["mean"] + (0.5 * arrays["logvar"]).exp() * torch.randn(arrays["mean"].shape)
    torch.testing.assert_close(latents.mean, samples.mean((0, 1)), rtol=0, atol=0.3)
    torch.testing.assert_close(latents.std, samples.std((0, 1)), rtol=0.05, atol=0)


def test_codes_have_no_moments(tmp_path):
    write_all(tmp_path, codes(16))
    assert open_latents(tmp_path).mean is None


def test_float16_is_rounded_once_and_read_as_float32(tmp_path):
    arrays = write_all(tmp_path, CONTINUOUS, dtype="float16")["train"]
    batch = open_latents(tmp_path).train.batch([1, 2])
    assert batch["mean"].dtype == torch.float32
    torch.testing.assert_close(batch["mean"], arrays["mean"][1:3].half().float(), rtol=0, atol=0)


@pytest.mark.parametrize("written", [0, 9, 14])
def test_fewer_images_than_announced_make_a_shorter_file(tmp_path, written):
    arrays = make(CONTINUOUS, 200)
    write_split(tmp_path, "train", CONTINUOUS, arrays)
    few = {name: tensor[:written] for name, tensor in arrays.items()}
    assert write_split(tmp_path, "validation", CONTINUOUS, few, count=1_000_000).written == written
    finish_latents(tmp_path, CONTINUOUS, num_classes=10)
    validation = open_latents(tmp_path).validation
    assert len(validation) == written
    torch.testing.assert_close(validation.batch(range(written))["mean"], few["mean"], rtol=0, atol=0)


def test_images_beyond_the_count_are_dropped(tmp_path):
    arrays = make(codes(16), 50)
    assert write_split(tmp_path, "train", codes(16), arrays, count=10).written == 10
    assert (np.load(tmp_path / "train.indices.npy") == arrays["indices"][:10].numpy()).all()


def test_a_broken_off_split_leaves_nothing_and_cannot_be_opened(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    writer = LatentWriter(tmp_path / "new", "train", CONTINUOUS, 50)
    with suppress(RuntimeError), writer:
        writer.write(**make(CONTINUOUS, 3))
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(StoreError, match="no complete latents"):
        open_latents(tmp_path / "new")
    with LatentWriter(tmp_path, "train", CONTINUOUS, 50):
        assert not (tmp_path / DESCRIPTION).exists(), "latents that are being replaced are not complete"


@pytest.mark.parametrize("name", ["train.mean.npy", "validation.labels.npy", "train.logvar.npy"])
def test_a_file_cut_short_is_named_at_opening(tmp_path, name):
    write_all(tmp_path, CONTINUOUS)
    content = (tmp_path / name).read_bytes()
    for size in (len(content) - 1, 130, 50, 0):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(StoreError, match=name):
            open_latents(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(StoreError, match=name):
        open_latents(tmp_path)


def test_a_file_of_another_shape_or_type_is_named_at_opening(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    for wrong in (np.zeros((50, 6, 5), np.float32), np.zeros((50, 6, 4)), np.zeros((49, 6, 4), np.float32)):
        np.save(tmp_path / "train.mean.npy", wrong)
        with pytest.raises(StoreError, match="not as described"):
            open_latents(tmp_path)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_codes_of_another_vocabulary_are_named_before_a_probe_meets_them(tmp_path, split):
    write_all(tmp_path, codes(512))
    open_latents(tmp_path).check_codes()
    path = tmp_path / f"{split}.indices.npy"
    stored = np.load(path)
    stored[-1, 2] = 512
    np.save(path, stored)
    with pytest.raises(StoreError, match=rf"another vocabulary\n.*{split}\.indices\.npy\n.*code 512 of 512"):
        open_latents(tmp_path).check_codes()


def test_verify_notices_one_changed_bit(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    path = tmp_path / "validation.mean.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    latents = open_latents(tmp_path)
    with pytest.raises(StoreError, match=r"validation\.mean\.npy"):
        latents.verify()


@pytest.mark.parametrize("change", [{"spec": {}}, {"spec": 3}, {"counts": {}}, {"num_classes": None}])
def test_a_damaged_description_is_one_message(tmp_path, change):
    write_all(tmp_path, CONTINUOUS)
    text = json.loads((tmp_path / DESCRIPTION).read_text()) | change
    (tmp_path / DESCRIPTION).write_text(json.dumps({key: value for key, value in text.items() if value is not None}))
    with pytest.raises(StoreError, match="description"):
        open_latents(tmp_path)


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (float("inf"), "float16"), (1e6, "float16")])
def test_numbers_that_cannot_be_stored_are_an_error(tmp_path, value, dtype):
    arrays = make(CONTINUOUS, 7)
    arrays["mean"][3, 2, 1] = value
    with pytest.raises(DivergedError, match="mean"), LatentWriter(tmp_path, "train", CONTINUOUS, 7, dtype) as writer:
        writer.write(**arrays)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_message(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with (
            pytest.raises(StoreError, match="cannot write"),
            LatentWriter(tmp_path, "train", CONTINUOUS, 9999) as writer,
        ):
            writer.write(**make(CONTINUOUS, 9999))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_batch_copies_itself_only(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    train = open_latents(tmp_path).train
    assert len(pickle.dumps(train)) < 1000, "a worker process gets the files' names"
    batch = pickle.loads(pickle.dumps(train)).batch([4])
    torch.testing.assert_close(batch["mean"], train.batch([4])["mean"], rtol=0, atol=0)
    batch["mean"].zero_()
    assert train.batch([4])["mean"].abs().sum() > 0


def take(batches, count):
    return [batch["mean"] for batch in islice(iter(batches), count)]


def test_batches_are_a_function_of_seed_and_t(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    train = open_latents(tmp_path).train
    whole = take(latent_batches(train, batch_size=8, seed=3), 20)
    torch.testing.assert_close(take(latent_batches(train, batch_size=8, seed=3, start_batch=11), 9), whole[11:])
    assert not torch.equal(take(latent_batches(train, batch_size=8, seed=4), 1)[0], whole[0])


def test_every_epoch_sees_every_image_once_in_another_order(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    batches = latent_batches(open_latents(tmp_path).train, batch_size=8, seed=3)
    order = np.concatenate([batches.images(t) for t in range(25)])  # 200 images: four epochs of 50
    epochs = order.reshape(4, 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len(latent_batches(open_latents(tmp_path).train, batch_size=120, seed=3).images(1)) == 120


def test_parts_of_ranks_are_the_batch_of_one(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    train = open_latents(tmp_path).train
    parts = [latent_batches(train, batch_size=8, seed=3, rank=rank, world_size=2).images(5) for rank in range(2)]
    assert np.concatenate(parts).tolist() == latent_batches(train, batch_size=8, seed=3).images(5).tolist()


def test_workers_take_turns_in_the_order_of_one(tmp_path):
    write_all(tmp_path, CONTINUOUS)
    batches = latent_batches(open_latents(tmp_path).train, batch_size=8, seed=3, start_batch=5)
    loader = DataLoader(batches, batch_size=None, num_workers=2, multiprocessing_context="fork")
    torch.testing.assert_close(take(loader, 9), take(batches, 9), rtol=0, atol=0)

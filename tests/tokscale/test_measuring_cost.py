"""What measuring stages cost beside encoding and decoding, network by network; and their memory."""

from __future__ import annotations

import pytest
import torch

from tests.tokscale.live_tensors import most_alive
from tests.tokscale.test_cost import counted
from tokscale import cost
from tokscale.config import TrialConfig
from tokscale.feature_formulas import clip_network, distance, image_network
from tokscale.loss_formulas import VGG_16, vgg
from tokscale.measuring_cost import (
    neighbours_bytes,
    neighbours_flops,
    reconstructions_seen_flops,
    samples_seen_flops,
    ssim_flops,
)
from tokscale.metrics.generation import precision_recall
from tokscale.metrics.images import ssim
from tokscale.parsing import parse

# --- pixels and neighbours ---


@pytest.mark.parametrize("side", [16, 40])
def test_ssim_takes_its_matrix_products(side):
    images = torch.zeros(3, 3, side, side, dtype=torch.uint8)
    assert counted(lambda: ssim(images, images)) == 3 * ssim_flops(side)


@pytest.mark.parametrize(("reference", "samples"), [(300, 500), (1000, 400)])
def test_precision_and_recall_take_all_distances(reference, samples):
    generator = torch.Generator().manual_seed(0)

    def measure():
        return precision_recall(
            torch.rand(reference, 64, generator=generator), torch.rand(samples, 64, generator=generator)
        )

    assert counted(measure) == neighbours_flops(reference, samples, 64)
    assert most_alive(measure) == pytest.approx(neighbours_bytes(reference, samples, 64), rel=0.06)


# --- stages ---

CLIPS = {"kind": "procedural_video", "resolution": 32, "frames": 10, "validation_images": 100}
IMAGES = {"kind": "procedural", "resolution": 32, "validation_images": 100}


def written(data=IMAGES, evaluation=None, **sections):
    tokenizer = {"encoder": "pico", "decoder": "pico", "patch": 8}
    return parse(TrialConfig, {"data": data, "tokenizer": tokenizer, "evaluation": evaluation or {}, **sections})


def test_reconstructions_and_their_originals_are_looked_at():
    small, inception, dino, seen = (
        image_network("random-conv", 32).flops, image_network("inception-tf2015", 32).flops,
        image_network("dinov2-b", 32).flops, 2 * vgg(VGG_16, 32).flops,
    )  # fmt: skip
    pixels = ssim_flops(32)
    assert reconstructions_seen_flops(written()) == 100 * (pixels + 2 * small)
    several = written(evaluation={"features": ["inception-tf2015", "dinov2-b"]})
    assert reconstructions_seen_flops(several) == 100 * (pixels + seen + 2 * (inception + dino))
    of_file = written(evaluation={"reference": "/some.npz"}, losses={"perceptual": {"weight": 1.0}})
    assert reconstructions_seen_flops(of_file) == 100 * (pixels + seen + small)
    stand_in = written(losses={"perceptual": {"kind": "random-vgg"}})
    assert reconstructions_seen_flops(stand_in) == reconstructions_seen_flops(written())


def test_clips_are_looked_at_frame_by_frame_and_whole():
    frames, whole = image_network("random-conv", 32).flops, clip_network("random-conv3d", 32, 10).flops
    assert reconstructions_seen_flops(written(CLIPS)) == 100 * (10 * (ssim_flops(32) + 2 * frames) + 2 * whole)
    i3d, seen = clip_network("i3d", 32, 10).flops, 2 * vgg(VGG_16, 32).flops
    published = written(CLIPS, {"clip_features": "i3d"})
    assert reconstructions_seen_flops(published) == 100 * (10 * (ssim_flops(32) + seen + 2 * frames) + 2 * i3d)
    generated = written(CLIPS, generation={"images": 50, "cfg_scales": [1.0, 2.0]})
    near = neighbours_flops(1000, 500, 128)
    assert samples_seen_flops(generated) == 10 * (2 * 50 + 100) * frames + (2 * 50 + 100) * whole + 2 * near


def test_a_search_goes_by_the_first_network_and_a_reference_may_be_of_training_images():
    first, second = image_network("random-conv", 32), image_network("dinov2-b", 32)
    both = {"features": ["random-conv", "dinov2-b"]}
    search = {"images": 200, "cfg_search": {"images": 40}, "reference": "train:300"}
    near = neighbours_flops(300, 200, first.width)
    expected = 500 * (first.flops + second.flops) + 6 * 40 * first.flops + near
    assert samples_seen_flops(written(evaluation=both, generation=search)) == expected


def test_memory_of_measuring_holds_the_networks_and_their_widest_moment():
    plain = cost.stage_cost("reconstruction", written()).memory_bytes
    inception, lpips = image_network("inception-tf2015", 32), distance(32)
    found = cost.stage_cost("reconstruction", written(evaluation={"features": "inception-tf2015"})).memory_bytes
    grown = 64 * inception.image_bytes + inception.fixed_bytes + lpips.fixed_bytes
    assert grown - plain < found < grown + plain
    generated = cost.stage_cost("generation", written(evaluation={"features": "inception-tf2015"}))
    assert generated.memory_bytes > 64 * inception.image_bytes + inception.fixed_bytes

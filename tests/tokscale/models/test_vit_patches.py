"""The patch embedding is the strided convolution, and the decoder's head its transpose."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tokscale.config import TransformerSize
from tokscale.models.vit import Tubelet, VitDecoder, VitEncoder, from_tubelets, to_tubelets

SIZE = TransformerSize(width=32, depth=1, heads=2)


@pytest.mark.parametrize(("height", "width", "patch"), [(8, 8, 4), (12, 6, 2), (9, 15, 3)])
def test_patches_are_laid_out_as_they_were_cut(height, width, patch):
    images = torch.randn(2, 3, height, width)
    patches = to_tubelets(images[:, :, None], Tubelet(patch))
    assert patches.shape == (2, height * width // patch**2, 3 * patch**2)
    assert torch.equal(patches[:, 1], images[:, :, :patch, patch : 2 * patch].flatten(1))
    assert torch.equal(from_tubelets(patches, Tubelet(patch), (1, height // patch, width // patch))[:, :, 0], images)


def test_the_embedding_is_a_strided_convolution():
    encoder, images = VitEncoder(SIZE, Tubelet(4), (3, 2), 5), torch.randn(2, 3, 12, 8)
    expected = F.conv2d(images, encoder.embedding.weight.view(32, 3, 4, 4), stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(
        encoder.embedding(to_tubelets(images[:, :, None], Tubelet(4))), expected, rtol=1e-4, atol=1e-5
    )


def test_the_decoders_head_is_a_transposed_convolution():
    decoder, features = VitDecoder(SIZE, Tubelet(4), (3, 2), 5), torch.randn(2, 6, 32)
    expected = F.conv_transpose2d(
        features.transpose(1, 2).unflatten(2, (3, 2)), decoder.head.weight.T.reshape(32, 3, 4, 4), stride=4
    )
    torch.testing.assert_close(
        from_tubelets(decoder.head(features), Tubelet(4), (1, 3, 2))[:, :, 0], expected, rtol=1e-4, atol=1e-5
    )

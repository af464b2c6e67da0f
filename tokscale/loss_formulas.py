"""What stands beside a tokenizer while it trains, by formula: frozen networks, an alignment MLP, a discriminator.

A frozen network that looks at the reconstruction costs three forward passes of an image's step: of the image, of the
reconstruction, and the gradient back to its pixels. A discriminator costs eight: two to tell the tokenizer what to do
(forward, and back to the pixels), and three for each of image and reconstruction to learn itself.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tokscale.losses_config import LossesConfig, PatchDiscriminator, used
from tokscale.tally import Tally, activation, attention, convolution, linear, mlp, norm, total

_VGG_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels between poolings
_DINOV2_WIDTH, _DINOV2_DEPTH, _DINOV2_PATCH = 768, 12, 14  # ViT-B (Oquab et al. 2023)
_SEEN_AT, _PRETRAINED_AT = 224, 518  # pixels a side: what GigaTok shows it, and what its positions were learned for
PASSES_BESIDE, PASSES_ADVERSARIAL = 3, 8


class LossCosts(NamedTuple):
    """What the losses of a config add to a training step, by image, and to the memory of a device."""

    always: float
    """FLOPs of every image's step"""
    adversarial: float
    """FLOPs of an image's step from ``gan.start`` on"""
    alignment_params: int
    """of the MLP on the decoder's features, which GigaTok counts in its tokenizers' sizes"""
    discriminator_params: int
    frozen_params: int
    kept: int
    """floats kept of each image"""

    @property
    def trained_params(self) -> int:
        """Parameters that are trained and left behind."""
        return self.alignment_params + self.discriminator_params


def loss_costs(losses: LossesConfig, decoder_width: int, cells: int, resolution: int) -> LossCosts:
    """What losses beyond pixels and bottleneck cost, for a decoder of ``cells`` tokens of this width."""
    perceptual = vgg_16(resolution) if used(losses.perceptual) else Tally()
    gan, semantic = used(losses.gan), used(losses.semantic)
    judge = discriminator(gan.discriminator, resolution) if gan else Tally()
    teacher = dinov2_b() if semantic else Tally()
    aligned = alignment(decoder_width, cells) if semantic else Tally()
    return LossCosts(
        always=float(PASSES_BESIDE * (perceptual.flops + aligned.flops) + teacher.flops),
        adversarial=float(PASSES_ADVERSARIAL * judge.flops),
        alignment_params=aligned.params,
        discriminator_params=judge.params,
        frozen_params=perceptual.params + teacher.params,
        # of the reconstruction by the frozen network, of image and reconstruction by the discriminator
        kept=perceptual.kept + 2 * judge.kept + aligned.kept,
    )


@cache
def vgg_16(resolution: int) -> Tally:
    """The thirteen convolutions of VGG-16 (Simonyan & Zisserman 2014); the few weights of LPIPS itself are left out."""
    parts, inputs, side = [], 3, resolution
    for level in _VGG_16:
        for outputs in level:
            parts += [convolution(inputs, outputs, side), activation(outputs, side * side)]
            inputs = outputs
        side //= 2
    return total(parts)


@cache
def dinov2_b(resolution: int = _SEEN_AT) -> Tally:
    """DINOv2's ViT-B: a class token, learned positions, layer scales."""
    width, patches = _DINOV2_WIDTH, (resolution // _DINOV2_PATCH) ** 2
    tokens = patches + 1
    block = [norm(width, tokens) * 2, attention(width, tokens), mlp(width, 4 * width, tokens), Tally(2 * width)]
    learned = 3 + (_PRETRAINED_AT // _DINOV2_PATCH) ** 2  # class, its position, the patches' positions, the mask token
    embedded = linear(3 * _DINOV2_PATCH**2, width, patches) + Tally(params=learned * width)
    return embedded + total(block) * _DINOV2_DEPTH + norm(width, tokens)


@cache
def alignment(width: int, cells: int, features: int = _DINOV2_WIDTH) -> Tally:
    """GigaTok's MLP from the decoder's features to the frozen network's: two hidden layers of four times the width."""
    hidden = 4 * width
    parts = [
        linear(width, hidden, cells),
        activation(hidden, cells),
        linear(hidden, hidden, cells),
        activation(hidden, cells),
        linear(hidden, features, cells),
    ]
    return total(parts)


@cache
def discriminator(config: PatchDiscriminator, resolution: int) -> Tally:
    """4 x 4 convolutions; all but the first and the last have a batch norm in place of a bias (Isola et al. 2017)."""
    inputs, outputs, side = 3, config.width, resolution
    parts = [convolution(inputs, outputs, side, kernel=4, stride=2), activation(outputs, (side // 2) ** 2)]
    side //= 2
    for level in range(1, config.depth + 1):
        inputs, outputs = outputs, config.width * min(2**level, 8)
        last = level == config.depth  # the last one moves by single pixels
        out_side = side - 1 if last else side // 2
        parts.append(convolution(inputs, outputs, side, kernel=4, out_side=out_side, bias=False))
        side = out_side
        parts += [norm(outputs, side * side), activation(outputs, side * side)]
    return total([*parts, convolution(outputs, 1, side, kernel=4, out_side=side - 1)])

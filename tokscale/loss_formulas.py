"""What stands beside a tokenizer while it trains, by formula: frozen networks, an alignment MLP, a discriminator.

A frozen network that looks at the reconstruction costs three forward passes of an image's step: of the image, of the
reconstruction, and the gradient back to its pixels. A discriminator costs eight: two to tell the tokenizer what to do
(forward, and back to the pixels), and three for each of image and reconstruction to learn itself. In a step with an R1
penalty it costs six more: two for the gradient by the image, and four to go back through both of them.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tokscale.formulas import classifier_flops, classifier_params
from tokscale.gan_config import AnyDiscriminator, PatchDiscriminator, StyleGanDiscriminator
from tokscale.losses_config import ClassifierTeacher, HubTeacher, LossesConfig, SemanticLoss, used
from tokscale.tally import Tally, activation, attention, convolution, linear, mlp, norm, total

Levels = tuple[tuple[int, ...], ...]
"""channels of the convolutions between poolings"""
VGG_16: Levels = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
RANDOM_VGG: Levels = ((16,), (32,), (64,))
PERCEPTUAL: dict[str, Levels] = {"lpips": VGG_16, "random-vgg": RANDOM_VGG}


class Dinov2Size(NamedTuple):
    """A ViT of DINOv2 (Oquab et al. 2023), by its numbers."""

    architecture: str
    """its name in the authors' repository"""
    width: int
    depth: int
    registers: int
    """tokens that belong to no patch (Darcet et al. 2023)"""
    swiglu: int | None = None
    """hidden width of a SwiGLU in place of the MLP"""


def _dinov2_sizes() -> dict[str, Dinov2Size]:
    plain = {"s": (384, 12, None), "b": (768, 12, None), "l": (1024, 24, None), "g": (1536, 40, 4096)}
    found = {}
    for letter, (width, depth, swiglu) in plain.items():
        found[f"dinov2-{letter}"] = Dinov2Size(f"dinov2_vit{letter}14", width, depth, 0, swiglu)
        found[f"dinov2-{letter}-reg"] = Dinov2Size(f"dinov2_vit{letter}14_reg", width, depth, 4, swiglu)
    return found


DINOV2: dict[str, Dinov2Size] = _dinov2_sizes()
DINOV2_PATCH, DINOV2_SIDE = 14, 224
"""pixels a side of a patch, and of the image as GigaTok shows it, whatever the data's resolution"""
_PRETRAINED_AT = 518  # pixels a side that its positions were learned for
PASSES_BESIDE, PASSES_ADVERSARIAL, PASSES_PENALTY = 3, 8, 6


_WHOLE = 4  # bytes of a float32


class Compared(NamedTuple):
    """Floats that a perceptual distance keeps of one reconstruction for its backward pass."""

    rounded: int = 0
    """in the precision of training: inputs of convolutions, which are outputs of ReLUs and pools"""
    whole: int = 0
    """in float32 always: places of a pool's maxima, lengths, differences of maps"""
    copied: int = 0
    """maps in float32, where they were computed in another precision"""
    passing: int = 0
    """of the widest moment of that pass, beside all that is kept: gradients by the first level's maps"""


class LossCosts(NamedTuple):
    """What the losses of a config add to a training step, by image, and to the memory of a device."""

    always: float
    """FLOPs of every image's step"""
    adversarial: float
    """FLOPs of an image's step from ``gan.start`` on"""
    penalty: float
    """FLOPs of an image in a step with an R1 penalty, on top"""
    alignment_params: int
    """of the MLP on the decoder's features, which GigaTok counts in its tokenizers' sizes"""
    discriminator_params: int
    frozen_params: int
    kept: Tally
    """what is kept of each image in the tokenizer's own pass, beside what is compared"""
    compared: Compared
    """what a perceptual distance keeps of each image beside"""
    passed_params: int
    """of the frozen ones, those of the perceptual network, through which gradients pass"""
    judged: Tally = Tally()
    """what a discriminator keeps of image and reconstruction in its own pass, when the tokenizer's is over"""
    penalised: Tally = Tally()
    """what it keeps in a penalty's pass, in float32: of its forward pass and of its gradient by the image"""

    def image_bytes(self, size: int) -> int:
        """Bytes kept of each image, in training with floats of so many bytes."""
        whole = self.compared.whole + (self.compared.copied if size < _WHOLE else 0)
        return self.kept.kept_bytes(size) + size * self.compared.rounded + _WHOLE * whole

    def judged_bytes(self, size: int) -> int:
        """Bytes kept of each image in a discriminator's own passes, of which there is one at a time."""
        return max(self.judged.kept_bytes(size), self.penalised.kept_bytes(_WHOLE))

    @property
    def passing_bytes(self) -> int:
        """Bytes that each image takes for a moment, at the beginning of the backward pass."""
        return _WHOLE * self.compared.passing

    def frozen_bytes(self, size: int) -> int:
        """Bytes of frozen weights, and of the rounded copies of those through which gradients pass."""
        return _WHOLE * self.frozen_params + (size * self.passed_params if size < _WHOLE else 0)

    @property
    def trained_params(self) -> int:
        """Parameters that are trained and left behind."""
        return self.alignment_params + self.discriminator_params


def loss_costs(
    losses: LossesConfig, decoder_width: int, cells: int, resolution: int, classes: int, frames: int = 1
) -> LossCosts:
    """What losses beyond pixels and bottleneck cost, for a decoder of ``cells`` tokens of this width.

    ``classes`` of the data count in a stand-in teacher's last layer. Each of a clip's ``frames`` is seen by itself.
    """
    perceptual, gan, semantic = used(losses.perceptual), used(losses.gan), used(losses.semantic)
    levels = PERCEPTUAL[perceptual.kind] if perceptual else ()
    seeing, comparing = distance_network(levels, resolution), compared(levels, resolution)
    judge = discriminator(gan.discriminator, resolution) if gan else Tally()
    teacher = teacher_tally(semantic, resolution, classes) if semantic else Tally()
    aligned = alignment(decoder_width, cells, teacher_width(semantic)) if semantic else Tally()
    return LossCosts(
        always=float(PASSES_BESIDE * (frames * seeing.flops + aligned.flops) + teacher.flops),
        adversarial=float(PASSES_ADVERSARIAL * frames * judge.flops),
        penalty=float(PASSES_PENALTY * frames * judge.flops),
        alignment_params=aligned.params,
        discriminator_params=judge.params,
        frozen_params=seeing.params + teacher.params,
        kept=judge * frames + aligned,
        compared=Compared(*(frames * floats for floats in comparing)),
        passed_params=seeing.params,
        judged=judge * (2 * frames),
        penalised=judge * (2 * frames) if gan and used(gan.r1) else Tally(),
    )


@cache
def vgg(levels: Levels, resolution: int) -> Tally:
    """The convolutions of a VGG (Simonyan & Zisserman 2014), each with a ReLU."""
    parts, inputs, side = [], 3, resolution
    for level in levels:
        for outputs in level:
            parts += [convolution(inputs, outputs, side), activation(outputs, side * side)]
            inputs = outputs
        side //= 2
    return total(parts)


def vgg_16(resolution: int) -> Tally:
    """The thirteen convolutions of VGG-16."""
    return vgg(VGG_16, resolution)


def distance_network(levels: Levels, resolution: int) -> Tally:
    """A VGG and LPIPS' weight of each channel that is compared."""
    return vgg(levels, resolution) + Tally(params=sum(level[-1] for level in levels))


@cache
def compared(levels: Levels, resolution: int) -> Compared:
    """What a perceptual distance keeps of one reconstruction; see ``tokscale.losses.perceptual``."""
    rounded, places, lengths, maps, side = 3 * resolution**2, 0, 0, 0, resolution
    for number, level in enumerate(levels):
        cells, pooled = side * side, (side // 2) ** 2 if number + 1 < len(levels) else 0
        rounded += sum(level) * cells + level[-1] * pooled
        places += 2 * level[-1] * pooled  # 8 bytes each
        lengths += 2 * cells
        maps += level[-1] * cells
        side //= 2
    passing = 3 * levels[0][-1] * resolution**2 if levels else 0
    return Compared(rounded, places + lengths + maps, maps, passing) if levels else Compared()


def teacher_width(semantic: SemanticLoss) -> int:
    """Channels of the teacher's patch features."""
    features = semantic.features
    if isinstance(features, HubTeacher):
        return features.width
    return features.size.width if isinstance(features, ClassifierTeacher) else DINOV2[features].width


def teacher_tally(semantic: SemanticLoss, resolution: int, classes: int) -> Tally:
    """The frozen teacher, which sees each image once."""
    features = semantic.features
    if isinstance(features, HubTeacher):
        return hub_teacher(features)
    if not isinstance(features, ClassifierTeacher):
        return dinov2(features)
    return Tally(classifier_params(features, classes), classifier_flops(features, resolution, 0))


@cache
def dinov2(name: str, resolution: int = DINOV2_SIDE) -> Tally:
    """A ViT of DINOv2: a class token, learned positions, layer scales, registers or none."""
    size = DINOV2[name]
    width, patches = size.width, (resolution // DINOV2_PATCH) ** 2
    tokens = patches + 1 + size.registers
    if size.swiglu is None:
        feeding = mlp(width, 4 * width, tokens)
    else:
        feeding = linear(width, 2 * size.swiglu, tokens) + linear(size.swiglu, width, tokens)
    block = [norm(width, tokens) * 2, attention(width, tokens), feeding, Tally(2 * width)]
    # class token, its position, the patches' positions, mask token
    learned = 3 + (_PRETRAINED_AT // DINOV2_PATCH) ** 2 + size.registers
    embedded = linear(3 * DINOV2_PATCH**2, width, patches) + Tally(params=learned * width)
    return embedded + total(block) * size.depth + norm(width, tokens)


@cache
def hub_teacher(config: HubTeacher) -> Tally:
    """A plain ViT of the stated width and depth: an estimate of a network that nobody has built yet."""
    patches = (config.side // config.patch) ** 2
    width, tokens = config.width, patches + config.prefix
    block = [norm(width, tokens) * 2, attention(width, tokens), mlp(width, 4 * width, tokens)]
    embedded = linear(3 * config.patch**2, width, patches) + Tally(params=tokens * width)
    return embedded + total(block) * config.depth + norm(width, tokens)


@cache
def alignment(width: int, cells: int, features: int) -> Tally:
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


def discriminator(config: AnyDiscriminator, resolution: int) -> Tally:
    """A discriminator of images of so many pixels a side."""
    return patchgan(config, resolution) if isinstance(config, PatchDiscriminator) else stylegan(config, resolution)


@cache
def patchgan(config: PatchDiscriminator, resolution: int) -> Tally:
    """4 x 4 convolutions; all but the first and the last have a norm in place of a bias (Isola et al. 2017)."""
    inputs, outputs, side = 3, config.width, resolution
    parts = [convolution(inputs, outputs, side, kernel=4, stride=2), activation(outputs, (side // 2) ** 2)]
    side //= 2
    normed = config.norm != "none"
    for level in range(1, config.depth + 1):
        inputs, outputs = outputs, config.width * min(2**level, 8)
        last = level == config.depth  # the last one moves by single pixels
        out_side = side - 1 if last else side // 2
        parts.append(convolution(inputs, outputs, side, kernel=4, out_side=out_side, bias=not normed))
        side = out_side
        parts += [norm(outputs, side * side)] * normed + [activation(outputs, side * side, whole=normed)]
    return total([*parts, convolution(outputs, 1, side, kernel=4, out_side=side - 1)])


@cache
def stylegan(config: StyleGanDiscriminator, resolution: int) -> Tally:
    """StyleGAN2's discriminator (Karras et al. 2020): see ``tokscale.models.stylegan``."""
    sides, widths = config.sides(resolution), config.widths(resolution)
    parts = [convolution(3, widths[0], resolution, kernel=1), activation(widths[0], resolution**2)]
    for side, inputs, outputs in zip(sides, widths, widths[1:], strict=False):
        parts += [
            convolution(inputs, inputs, side),
            activation(inputs, side**2),
            _blur(inputs, side, side + 1),
            convolution(inputs, outputs, side + 1, stride=2, out_side=side // 2),
            activation(outputs, (side // 2) ** 2),
            _blur(inputs, side, side // 2),
            convolution(inputs, outputs, side // 2, kernel=1, bias=False),
        ]
    width, cells = widths[-1], sides[-1] ** 2
    spread = activation(width, cells)
    hidden = [linear(width * cells, width, 1), activation(width, 1), linear(width, 1, 1)]
    return total([*parts, spread, convolution(width + 1, width, sides[-1]), activation(width, cells), *hidden])


def _blur(channels: int, side: int, out_side: int) -> Tally:
    """A 4 x 4 filter over each channel, which has no weights to learn."""
    return Tally(0, 2 * 16 * channels * out_side**2, channels * side * side)

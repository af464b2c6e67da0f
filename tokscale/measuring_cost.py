"""What it takes to measure a trial: encoding and decoding, and the networks that look at what comes out.

The set that is the reference is counted in every stage, though a stage finds kept what one before it saw of the same
set: the first has to look. The images of a reference file, which nobody has opened yet, are not.
"""

from __future__ import annotations

from tokscale.config import DiffusionProbe, GenerationConfig, TrialConfig, used
from tokscale.feature_formulas import Look, clip_network, distance, image_network
from tokscale.feature_names import named
from tokscale.fields import TRAIN, VALIDATION, train_images
from tokscale.formulas import tokenizer_flops, tokenizer_params
from tokscale.memory import images_at_once, widest_half
from tokscale.sampling_cost import (
    kept_samples_bytes,
    measured_images,
    probe_params_of,
    sampled_images,
    sampling_bytes,
    sampling_flops,
    tried_images,
)
from tokscale.stage_cost import StageCost
from tokscale.weights import REGISTRY

ASSUMED_VALIDATION_IMAGES, ASSUMED_TRAINING_IMAGES = 50_000, 1_281_167
"""images of sets that nobody has opened yet: ImageNet's"""
_KEPT_ROWS = 50_000  # of features, for precision and recall: ``tokscale.metrics.seen.KEPT``
_SSIM_BLURS, _SSIM_WINDOW = 4, 11
_DISTANCES_AT_ONCE = 256  # rows of them, in precision and recall


def validation_images(trial: TrialConfig) -> int:
    """Images of the validation set."""
    return trial.data.validation_images or ASSUMED_VALIDATION_IMAGES


def at_once(trial: TrialConfig) -> int:
    """Images, or clips, that a stage looks at together."""
    return images_at_once(*trial.data.extent)


def coding_bytes(trial: TrialConfig) -> int:
    """Bytes for encoding and decoding a batch without gradients, weights and all."""
    return _weights(trial) + widest_half(trial, at_once(trial))


def reconstruction_stage_cost(trial: TrialConfig) -> StageCost:
    """The stage that measures reconstructions, one of each image of the validation set."""
    each = sum(tokenizer_flops(trial.tokenizer, *trial.data.extent).values())
    flops = validation_images(trial) * each + reconstructions_seen_flops(trial)
    looks, clips = (*_looks(trial), *_lpips(trial)), _clip_look(trial)
    memory = _weights(trial) + _fixed(looks, clips) + _looking_bytes(trial, looks, clips)
    return StageCost(float(flops), memory, 0, 0, 2 * _pictures(trial))


def reconstructions_seen_flops(trial: TrialConfig) -> int:
    """FLOPs of all that looks at reconstructions, and at what they are measured against."""
    looks, frames, images = _looks(trial), trial.data.frames, validation_images(trial)
    each = frames * (ssim_flops(trial.data.resolution) + sum(look.flops for look in (*looks, *_lpips(trial))))
    each += sum(2 * look.flops for look in _clip_look(trial))
    return images * each + frames * _referred(trial, trial.evaluation.reference) * sum(look.flops for look in looks)


def generation_stage_cost(trial: TrialConfig) -> StageCost:
    """The stage that samples a probe, decodes, and measures, at every scale of guidance that is asked for."""
    generation, tokens = trial.generation, trial.tokenizer.tokens_of(*trial.data.extent)
    assert generation is not None, "a trial without generation has no generation stage"
    decoded = sampled_images(generation) * tokenizer_flops(trial.tokenizer, *trial.data.extent)["decode"]
    looks, clips = _looks(trial), _clip_look(trial)
    moment = max(sampling_bytes(trial, tokens), _looking_bytes(trial, looks, clips))
    moment = max(moment, neighbours_bytes(*_rows(trial, generation), looks[0].width))
    memory = 4 * probe_params_of(trial) + _weights(trial) + _fixed(looks, clips) + moment
    disk = _pictures(trial) * (1 + len(generation.cfg_scales or ())) + kept_samples_bytes(trial, tokens)
    work = "diffusion" if isinstance(trial.probe, DiffusionProbe) else ""
    flops = sampling_flops(trial, tokens) + decoded + samples_seen_flops(trial)
    return StageCost(float(flops), memory, 0, 0, disk, work=work)


def samples_seen_flops(trial: TrialConfig) -> int:
    """FLOPs of all that looks at samples, and at what they are measured against; a search goes by the first network."""
    generation, looks, frames = trial.generation, _looks(trial), trial.data.frames
    assert generation is not None, "a trial without generation has no samples"
    images, reference = measured_images(generation), _referred(trial, generation.reference)
    flops = frames * (images + reference) * sum(look.flops for look in looks)
    flops += frames * tried_images(generation) * looks[0].flops
    flops += (images + validation_images(trial)) * sum(look.flops for look in _clip_look(trial))
    return flops + images // generation.images * neighbours_flops(*_rows(trial, generation), looks[0].width)


def _rows(trial: TrialConfig, generation: GenerationConfig) -> tuple[int, int]:
    """Features that precision and recall look at: of the reference, and of samples."""
    reference = _referred(trial, generation.reference)
    return min(_KEPT_ROWS, trial.data.frames * reference), min(_KEPT_ROWS, trial.data.frames * generation.images)


def ssim_flops(resolution: int) -> int:
    """Of one pair of images: four maps of each colour, blurred along rows and columns by products with matrices."""
    inner = resolution - _SSIM_WINDOW + 1
    return _SSIM_BLURS * 3 * 2 * inner * resolution * (resolution + inner)


def neighbours_flops(reference: int, samples: int, width: int) -> int:
    """Of precision and recall: distances within both sets of features, and between them in both directions."""
    return 2 * width * (reference**2 + samples**2 + 2 * reference * samples)


def neighbours_bytes(reference: int, samples: int, width: int) -> int:
    """Of precision and recall: both sets in float32, and about their common mean in float64; then the squares of one,
    or the distances of some rows, their norms and their rounding."""
    larger = max(reference, samples)
    distances = 8 * _DISTANCES_AT_ONCE * larger
    return 12 * width * (reference + samples) + max(8 * width * larger + distances, 4 * distances)


def _weights(trial: TrialConfig) -> int:
    return 4 * tokenizer_params(trial.tokenizer, *trial.data.extent)["tokenizer_params"]


def _pictures(trial: TrialConfig) -> int:
    return trial.evaluation.pictures * _pixels(trial)


def _pixels(trial: TrialConfig) -> int:
    """Colour values of an image or a clip."""
    return 3 * trial.data.frames * trial.data.resolution**2


def _looks(trial: TrialConfig) -> tuple[Look, ...]:
    return tuple(image_network(name, trial.data.resolution) for name in named(trial.evaluation.features))


def _clip_look(trial: TrialConfig) -> tuple[Look, ...]:
    """The network of clips, where there are any."""
    if trial.data.frames == 1:
        return ()
    return (clip_network(trial.evaluation.clip_features, trial.data.resolution, trial.data.frames),)


def _lpips(trial: TrialConfig) -> tuple[Look, ...]:
    """LPIPS as a measure, which is taken where VGG-16's weights are: assumed of trials that need weights at all."""
    trained = (
        [trial.losses] if trial.decoder_finetune is None else [trial.losses, trial.decoder_finetune.losses.complete]
    )
    perceptual = [used(losses.perceptual) for losses in trained]
    names = {*named(trial.evaluation.features), trial.evaluation.clip_features if trial.data.frames > 1 else ""}
    needed = any(loss is not None and loss.kind == "lpips" for loss in perceptual) or not names.isdisjoint(REGISTRY)
    return (distance(trial.data.resolution),) if needed else ()


def _referred(trial: TrialConfig, reference: str) -> int:
    """Images of a reference that networks look at."""
    if reference == VALIDATION:
        return validation_images(trial)
    if not reference.startswith(TRAIN) or reference.endswith(".npz"):
        return 0
    return train_images(reference) or ASSUMED_TRAINING_IMAGES


def _fixed(looks: tuple[Look, ...], clips: tuple[Look, ...]) -> int:
    return sum(look.fixed_bytes for look in (*looks, *clips))


def _looking_bytes(trial: TrialConfig, looks: tuple[Look, ...], clips: tuple[Look, ...]) -> int:
    """The widest moment of a batch that is encoded, decoded and looked at."""
    size = at_once(trial)
    moments = [widest_half(trial, size)]
    moments += [size * trial.data.frames * look.image_bytes for look in looks]
    moments += [size * look.image_bytes for look in clips]
    pictures = 2 * (1 + 4) * size * _pixels(trial)  # originals and reconstructions, as bytes and as floats
    return max(moments) + pictures

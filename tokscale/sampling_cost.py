"""What it takes to sample a probe: FLOPs of all images at all scales of guidance, and memory."""

from __future__ import annotations

from tokscale.config import AutoregressiveProbe, DiffusionProbe, GenerationConfig, TrialConfig
from tokscale.diffusion_formulas import diffusion_evaluations
from tokscale.formulas import bottleneck_numbers, probe_flops, probe_params
from tokscale.memory import probe_mlp_width, widest
from tokscale.training_cost import ASSUMED_CLASSES, classes_of

ASSUMED_SCALES = 6
"""that a search for guidance tries: both neighbours of where it begins, and four steps to one side"""


def sampled_images(generation: GenerationConfig) -> int:
    """Images that a generation stage samples and decodes, over all scales of guidance."""
    return measured_images(generation) + tried_images(generation)


def measured_images(generation: GenerationConfig) -> int:
    """Of these, those that all networks look at: all but what a search for guidance tries."""
    return generation.images * len(generation.cfg_scales or (generation.cfg_scale,))


def tried_images(generation: GenerationConfig) -> int:
    """Images that a search for guidance samples."""
    search = generation.cfg_search
    return 0 if search is None else ASSUMED_SCALES * search.images


def probe_params_of(trial: TrialConfig) -> int:
    """Parameters of a trial's probe; photographs are assumed to have ImageNet's classes."""
    assert trial.probe is not None, "a trial without a probe has none of its parameters"
    classes, tokens = classes_of(trial) or ASSUMED_CLASSES, trial.tokenizer.tokens_of(*trial.data.extent)
    return probe_params(trial.probe, trial.tokenizer.bottleneck, classes, tokens)


def sampling_flops(trial: TrialConfig, tokens: int) -> int:
    """FLOPs of sampling all these images of ``tokens`` latent tokens; guidance takes each pass twice."""
    probe, generation = _sampled(trial)
    each = probe_flops(probe, trial.tokenizer.bottleneck, tokens)
    if isinstance(probe, AutoregressiveProbe):
        # With cached keys and values, a position attends to those before it only: half of the whole attention.
        each -= 2 * probe.size.depth * tokens * tokens * probe.size.width
    else:
        each *= diffusion_evaluations(generation)
    search = generation.cfg_search
    scales = generation.cfg_scales or (generation.cfg_scale,)
    # A search looks at both sides of where it begins, so it is guided even where that is no guidance.
    passes = sum(2 if scale > 1 or search is not None else 1 for scale in scales) * generation.images
    passes += 2 * tried_images(generation)
    return each * passes


def sampling_bytes(trial: TrialConfig, tokens: int) -> int:
    """Bytes beside the weights while a batch is sampled: cached keys and values, or the widest layer."""
    probe, generation = _sampled(trial)
    guided = max(generation.cfg_scales or (generation.cfg_scale,)) > 1 or generation.cfg_search is not None
    rows = (2 if guided else 1) * generation.batch_size
    if isinstance(probe, AutoregressiveProbe):
        return rows * 2 * 4 * probe.size.depth * tokens * probe.size.width
    return widest(probe.size, probe_mlp_width(probe), rows, tokens)


def kept_samples_bytes(trial: TrialConfig, tokens: int) -> int:
    """Bytes on disk of a diffusion probe's samples, which are kept until they are measured."""
    probe, generation = _sampled(trial)
    if isinstance(probe, AutoregressiveProbe):
        return 0
    return 4 * sampled_images(generation) * tokens * bottleneck_numbers(trial.tokenizer.bottleneck).latent_dim


def _sampled(trial: TrialConfig) -> tuple[AutoregressiveProbe | DiffusionProbe, GenerationConfig]:
    assert trial.probe is not None, "a trial without a probe has no generation stage"
    assert trial.generation is not None, "a trial without generation has no generation stage"
    return trial.probe, trial.generation

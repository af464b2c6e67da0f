"""Probes: models on cached latents that measure how a tokenizer's latents can be modelled."""

from tokscale.probes.autoregressive import AutoregressiveProbe, build_probe
from tokscale.probes.diffusion import DiffusionProbe, measure_diffusion, sample_diffusion, sampling_noise
from tokscale.probes.rate import code_rate, draw_tokens, measure_rate, rate, sample_posterior
from tokscale.probes.sampling import sample

Probe = AutoregressiveProbe | DiffusionProbe

__all__ = [
    "AutoregressiveProbe",
    "DiffusionProbe",
    "Probe",
    "build_probe",
    "code_rate",
    "draw_tokens",
    "measure_diffusion",
    "measure_rate",
    "rate",
    "sample",
    "sample_diffusion",
    "sample_posterior",
    "sampling_noise",
]

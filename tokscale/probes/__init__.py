"""Probes: models on cached latents that measure how a tokenizer's latents can be modelled."""

from tokscale.probes.autoregressive import AutoregressiveProbe, build_probe
from tokscale.probes.rate import code_rate, draw_tokens, measure_rate, rate, sample_posterior
from tokscale.probes.sampling import sample

__all__ = [
    "AutoregressiveProbe",
    "build_probe",
    "code_rate",
    "draw_tokens",
    "measure_rate",
    "rate",
    "sample",
    "sample_posterior",
]

"""Sampling images' tokens from a probe: one token at a time over a cache, with guidance towards the class.

Classifier-free guidance (Ho & Salimans 2022) of scale s means one thing for both kinds of tokens: sample
p(z_i | class)^s p(z_i)^(1-s), then temperature T takes its 1/T-th power. For codes that is the softmax of
(u + s (c - u)) / T over conditional and unconditional logits c and u. A density has no such closed form: candidates
are drawn from the conditional density at temperature T and one is kept with probability in proportion to
(p(z_i | class) / p(z_i))^((s-1)/T), which is importance resampling (Rubin 1987), exact in the limit of many candidates.
It moves no further than the conditional density reaches: a strong guidance saturates instead of leaving the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokscale.errors import ConfigError, DivergedError
from tokscale.probes.autoregressive import AutoregressiveProbe, measuring
from tokscale.probes.choosing import choose
from tokscale.probes.mixture import Mixture
from tokscale.probes.recorded import RecordedSteps
from tokscale.probes.tokens import CodeTokens, LatentTokens

CANDIDATES = 64


@dataclass(frozen=True)
class _Draw:
    """How the next token is drawn; the unconditional half is None without guidance."""

    cfg_scale: float
    temperature: float
    top_k: int
    top_p: float
    generator: torch.Generator | None

    def code(self, conditional: Tensor, unconditional: Tensor | None) -> Tensor:
        """A code (b,) from logits (b, k)."""
        logits = conditional
        if unconditional is not None:
            logits = unconditional + self.cfg_scale * (conditional - unconditional)
        kept = cut(logits / self.temperature, self.top_k, self.top_p)
        return choose(kept.softmax(-1), generator=self.generator)[:, 0]

    def point(self, conditional: Mixture, unconditional: Mixture | None) -> Tensor:
        """A point (b, d), normalised, from b mixtures."""
        tempered = conditional.tempered(self.temperature)
        if unconditional is None:
            return tempered.sample(1, self.generator)[:, 0]
        points = tempered.sample(CANDIDATES, self.generator)  # (b, candidates, d)
        towards = _each(conditional).log_prob(points) - _each(unconditional).log_prob(points)
        weights = torch.softmax((self.cfg_scale - 1) / self.temperature * towards, dim=1)
        chosen = choose(weights, generator=self.generator)
        return points[torch.arange(len(points), device=points.device), chosen[:, 0]]


def _each(mixture: Mixture) -> Mixture:
    return Mixture(*(tensor.unsqueeze(1) for tensor in mixture))


def cut(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Logits (b, k) with -inf outside the ``top_k`` likeliest codes (0 keeps all), then outside the nucleus.

    The nucleus (Holtzman et al. 2020) is the smallest set of likeliest codes whose probability reaches ``top_p``.
    """
    if 0 < top_k < logits.shape[-1]:
        likeliest, codes = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, float("-inf")).scatter(-1, codes, likeliest)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        outside = probabilities.cumsum(-1) - probabilities >= top_p
        logits = torch.empty_like(logits).scatter(-1, order, ordered.masked_fill(outside, float("-inf")))
    return logits


def sample(
    probe: AutoregressiveProbe,
    labels: Tensor,
    *,
    cfg_scale: float = 1.0,
    cfg_start: float = 0.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    cached: bool = True,
    recorded: RecordedSteps | None = None,
) -> Tensor:
    """Codes (b, n) int64 or raw latents (b, n, d) for labels (b,).

    The first ``cfg_start`` of an image's tokens, a share that is rounded to whole ones, are drawn without guidance.
    ``generator`` must be on the probe's device. ``cached=False`` runs the whole prefix again for every token: the same
    samples, n / 2 times the work; the reference that the cache is tested and timed against. ``recorded`` takes the
    place of the cache, the same up to rounding: it is of this probe, for as many contexts as there are labels, or twice
    as many with guidance. Values out of range, and ``top_k`` or ``top_p`` for continuous latents, raise
    ``ConfigError``, a probe of no finite states ``DivergedError``.
    """
    _check(probe, temperature, top_k, top_p)
    first_guided = unguided_tokens(probe.spec.tokens, cfg_start)
    how = _Draw(cfg_scale, temperature, top_k, top_p, generator)
    count, spec, guided = len(labels), probe.spec, cfg_scale != 1
    contexts = torch.cat([labels, torch.full_like(labels, probe.null_label)]) if guided else labels
    shape, dtype = ((), torch.int64) if spec.kind == "discrete" else ((spec.dim,), torch.float32)
    drawn = torch.zeros(len(contexts), spec.tokens, *shape, dtype=dtype, device=probe.device)
    caches = probe.new_caches()
    with measuring(probe):
        for position in range(spec.tokens):
            prefix = drawn[:, :position]
            if recorded is not None:
                states = recorded.next_state(prefix, contexts)
            elif cached:
                states = probe.next_state(prefix, contexts, caches)
            else:
                states = probe.states(prefix, contexts)[:, -1]
            halves = states[:count], states[count:] if guided and position >= first_guided else None
            drawn[:, position] = _next(probe, how, *halves).repeat(2 if guided else 1, *(1 for _ in shape))
    # What is not finite stays so in the cache: the last state tells of all, and the device is waited for once.
    if not states.isfinite().all():
        raise DivergedError("a probe's states are not finite numbers, so nothing can be drawn from it")
    return drawn[:count]


def unguided_tokens(tokens: int, cfg_start: float) -> int:
    """How many tokens come before guidance begins: of 256, .18 are 46."""
    if not 0 <= cfg_start <= 1:
        raise ConfigError("no such share of the tokens", where="cfg_start", given=cfg_start, allowed="0 to 1")
    return round(cfg_start * tokens)


def _next(probe: AutoregressiveProbe, how: _Draw, conditional: Tensor, unconditional: Tensor | None) -> Tensor:
    """The next token (b,) or (b, d) from the states (b, e) of both halves."""
    tokens = probe.tokens
    if isinstance(tokens, CodeTokens):
        return how.code(tokens.logits(conditional), None if unconditional is None else tokens.logits(unconditional))
    assert isinstance(tokens, LatentTokens)
    other = None if unconditional is None else tokens.mixture(unconditional)
    return tokens.mean + tokens.std * how.point(tokens.mixture(conditional), other)


def _check(probe: AutoregressiveProbe, temperature: float, top_k: int, top_p: float) -> None:
    if temperature <= 0:
        raise ConfigError("the temperature is not positive", given=temperature, allowed="above 0; top_k = 1 is greedy")
    if top_k < 0 or not 0 < top_p <= 1:
        raise ConfigError(
            "top_k or top_p is out of range", given=f"top_k {top_k}, top_p {top_p}",
            allowed="top_k 0 (all) or more, top_p above 0 up to 1",
        )  # fmt: skip
    if probe.spec.kind == "continuous" and (top_k, top_p) != (0, 1.0):
        raise ConfigError(
            "top_k and top_p choose among codes, and continuous latents have none",
            given=f"top_k {top_k}, top_p {top_p}", allowed="temperature and cfg_scale",
        )  # fmt: skip

"""Samples follow the probe's own distribution, the cache changes nothing, and guidance is what it says."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from tokscale.data.latents import LatentSpec
from tokscale.errors import ConfigError, DivergedError
from tokscale.probes import sample
from tokscale.probes.choosing import choose
from tokscale.probes.mixture import Mixture
from tokscale.probes.recorded import RecordedSteps
from tokscale.probes.sampling import _Draw, cut, unguided_tokens
from tokscale.training.compiling import compiler

CODES = LatentSpec("discrete", (3, 4), 12, 8, 7)
LATENTS = LatentSpec("continuous", (3, 4), 12, 3)
LABELS = torch.tensor([0, 1, 2, 0, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[(CODES, "rotary"), (CODES, "learned"), (LATENTS, "rotary")], ids=lambda given: given[0].kind)
def probe(request, probe_of):
    spec, positions = request.param
    probe = probe_of(spec, 3, positions=positions)
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=0.3)
    if spec is LATENTS:
        probe.set_normalisation(torch.tensor([5.0, 0.0, -1.0]), torch.tensor([0.1, 1.0, 3.0]))
    return probe


def test_cached_states_are_those_of_the_whole_prefix(probe):
    values = sample(probe, LABELS, generator=seeded())
    caches = probe.eval().new_caches()
    with torch.no_grad():
        whole = probe.states(values[:, :-1], LABELS)
        for position in range(12):
            state = probe.next_state(values[:, :position], LABELS, caches)
            torch.testing.assert_close(state, whole[:, position], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cfg_scale", [1.0, 2.5])
def test_cached_samples_are_those_without_a_cache(probe, cfg_scale):
    cached = sample(probe, LABELS, cfg_scale=cfg_scale, generator=seeded())
    plain = sample(probe, LABELS, cfg_scale=cfg_scale, generator=seeded(), cached=False)
    torch.testing.assert_close(cached, plain, rtol=1e-4, atol=1e-4)
    assert cached.shape == (5, 12, *([3] if probe.spec is LATENTS else []))
    assert not torch.equal(cached, sample(probe, LABELS, cfg_scale=cfg_scale, generator=seeded(1)))


@pytest.mark.parametrize("cfg_scale", [1.0, 2.5])
@pytest.mark.parametrize("backend", [None, "aot_eager"])
def test_passes_of_one_size_sample_what_the_cache_does(probe, cfg_scale, backend):
    compiled = None if backend is None else compiler(torch.device("cpu"), backend)
    recorded = RecordedSteps(probe, 5 if cfg_scale == 1 else 10, compiled)
    for seed in (0, 1):  # the second batch finds the first one's keys and values
        plain = sample(probe, LABELS, cfg_scale=cfg_scale, cfg_start=0.3, generator=seeded(seed))
        found = sample(probe, LABELS, cfg_scale=cfg_scale, cfg_start=0.3, generator=seeded(seed), recorded=recorded)
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


def test_sampling_leaves_the_mode_and_no_gradients(probe):
    probe.train()
    values = sample(probe, LABELS, generator=seeded())
    assert probe.training
    assert not values.requires_grad


def test_guidance_of_one_is_none_and_other_scales_are_not(probe):
    """As the limit of scales near 1 too, through the path that runs both halves."""
    plain = sample(probe, LABELS, generator=seeded())
    assert torch.equal(plain, sample(probe, LABELS, cfg_scale=1.0, generator=seeded()))
    assert not torch.equal(plain, sample(probe, LABELS, cfg_scale=4.0, generator=seeded()))
    if probe.spec is CODES:
        assert torch.equal(plain, sample(probe, LABELS, cfg_scale=1 + 1e-6, generator=seeded()))


@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
def test_a_probe_of_no_finite_numbers_is_one_message(probe, cfg_scale):
    with torch.no_grad():
        probe.blocks[0].mlp.w2.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        sample(probe, LABELS, cfg_scale=cfg_scale, generator=seeded())


# --- codes ---


def test_choices_follow_their_weights_and_never_fall_on_none():
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0, 2.0, 0.0], [1e-30, 0.0, 0.0, 0.0, 0.0, 0.0]])
    counts = torch.stack([torch.bincount(row, minlength=6) for row in choose(weights, 30_000, seeded(1))])
    assert (counts[weights == 0] == 0).all()
    assert chi_square(counts[0], weights[0] / 6) > 1e-3
    assert counts[1, 0] == 30_000
    once = choose(weights[:1].expand(30_000, 6), 1, seeded(2))[:, 0]
    assert chi_square(torch.bincount(once, minlength=6), weights[0] / 6) > 1e-3


def test_many_codes_of_little_weight_are_chosen_evenly():
    """A running sum in float32 would lose what single codes of a large vocabulary add to it."""
    drawn = choose(torch.full((1, 1 << 18), 1e-6), 1 << 20, seeded())
    counts = torch.bincount(drawn[0] >> 10, minlength=256)
    assert chi_square(counts, torch.full((256,), 1 / 256)) > 1e-3


def greedy(probe, labels):
    drawn = torch.zeros(len(labels), 0, dtype=torch.long)
    for _ in range(probe.spec.tokens):
        logits = probe.tokens.logits(probe.states(drawn, labels)[:, -1])
        drawn = torch.cat([drawn, logits.argmax(-1, keepdim=True)], dim=1)
    return drawn


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.18, 2), (0.5, 6), (1.0, 12)])
def test_a_step_schedule_guides_all_tokens_but_the_first_ones(probe, share, first):
    """Up to the step, samples are those without guidance; the token after it is the first that guidance moves."""
    assert unguided_tokens(12, share) == first
    labels = LABELS.repeat(40)
    plain = sample(probe, labels, generator=seeded())
    stepped = sample(probe, labels, cfg_scale=8.0, cfg_start=share, generator=seeded())
    moved = (stepped - plain).abs().flatten(2).amax(-1) if probe.spec is LATENTS else (stepped != plain).float()
    assert float(moved[:, :first].sum()) < 1e-3
    assert first == 12 or float(moved[:, first].sum()) > 0


def test_the_published_step_is_46_of_256_tokens():
    assert unguided_tokens(256, 0.18) == 46


def test_one_code_or_no_temperature_is_greedy(probe_of):
    probe = probe_of(CODES, 3).eval()
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=0.3)
        expected = greedy(probe, LABELS)
    assert torch.equal(sample(probe, LABELS, top_k=1), expected)
    assert torch.equal(sample(probe, LABELS, temperature=1e-6), expected)
    assert torch.equal(sample(probe, LABELS, top_p=1e-6), expected)


def test_top_k_and_nucleus_keep_what_they_say():
    logits = torch.tensor([[0.1, 0.5, 0.25, 0.15]]).log()
    assert cut(logits, 2, 1.0).isfinite().tolist() == [[False, True, True, False]]
    assert cut(logits, 0, 1.0) is logits
    assert cut(torch.zeros(1, 4), 1, 1.0).isfinite().sum() == 1, "equal codes do not make more than k"
    for top_p, kept in ((0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.91, 4), (1.0, 4)):
        assert cut(logits, 0, top_p).isfinite().sum() == kept, top_p
    assert cut(logits, 2, 0.6).isfinite().tolist() == [[False, True, False, False]], "the nucleus of what top_k left"
    torch.testing.assert_close(cut(logits, 0, 0.76).softmax(-1), torch.tensor([[0.0, 5, 2.5, 1.5]]) / 9)


def chi_square(counts, probabilities):
    """p-value of observed counts, cells of small expectation taken together."""
    expected = probabilities.double() * counts.sum()
    small = expected < 5
    pooled = [torch.cat([x[~small], x[small].sum()[None]]) if small.any() else x for x in (counts.double(), expected)]
    statistic = ((pooled[0] - pooled[1]) ** 2 / pooled[1].clamp(min=1e-9)).sum().item()
    return stats.chi2.sf(statistic, len(pooled[0]) - 1)


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}, {"cfg_scale": 2}, {"cfg_scale": 1.5, "temperature": 2}],
    ids=str,
)
def test_pairs_of_codes_have_the_probability_that_the_probe_gives_them(probe_of, settings):
    spec = LatentSpec("discrete", (1, 2), 2, 4, 5)
    probe = probe_of(spec, 3)
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=0.2)
        every = torch.cartesian_prod(torch.arange(5), torch.arange(5))
        label = torch.full((25,), 1)
        conditional, null = (
            probe.eval().tokens.logits(probe.states(every[:, :1], labels)) for labels in (label, torch.full((25,), 3))
        )
        guided = null + settings.get("cfg_scale", 1.0) * (conditional - null)
        guided = guided.flatten(0, 1) / settings.get("temperature", 1.0)
        log_probs = cut(guided, settings.get("top_k", 0), settings.get("top_p", 1.0)).log_softmax(-1).view(25, 2, 5)
    probabilities = log_probs.gather(2, every[..., None]).sum((1, 2)).exp()
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-5)
    drawn = sample(probe, torch.full((20_000,), 1), generator=seeded(3), **settings)
    counts = torch.bincount(5 * drawn[:, 0] + drawn[:, 1], minlength=25)
    assert counts[probabilities == 0].sum() == 0
    assert chi_square(counts, probabilities) > 1e-3


def test_a_trained_probe_samples_its_chain(class_chains):
    source = class_chains.source
    for label in range(3):
        drawn = sample(class_chains.probe, torch.full((500,), label), generator=seeded(label))
        counts = torch.zeros(6, 6).index_put_(
            (drawn[:, :-1].flatten(), drawn[:, 1:].flatten()), torch.tensor(1.0), True
        )
        transitions = counts / counts.sum(1, keepdim=True)
        distances = (transitions - source.transitions[label]).abs().sum(-1) / 2  # total variation, row by row
        others = (transitions - source.transitions[label - 1]).abs().sum(-1) / 2
        weights = counts.sum(1) / counts.sum()
        assert (distances * weights).sum() < 0.06
        assert (others * weights).sum() > 0.3


def test_guidance_makes_samples_more_of_their_class(class_chains):
    labels = torch.arange(3).repeat_interleave(300)

    def told(cfg_scale):
        drawn = sample(class_chains.probe, labels, cfg_scale=cfg_scale, generator=seeded())
        bits = torch.stack([class_chains.source.bits(drawn, label) for label in range(3)], dim=1)
        return torch.log_softmax(-bits * math.log(2), dim=1).gather(1, labels[:, None]).mean().item()

    assert told(1.0) < told(2.0) < 0


# --- densities ---


def gaussian(mean, scale=1.0):
    return Mixture(torch.zeros(1, 1), torch.tensor([[[mean]]]), torch.tensor([[[scale]]]).log())


def draws(count, conditional, unconditional, **settings):
    draw = _Draw(
        **({"cfg_scale": 1.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "generator": seeded(5)} | settings)
    )
    repeated = [
        Mixture(*(x.expand(count, *x.shape[1:]) for x in y)) if y else None for y in (conditional, unconditional)
    ]
    return draw.point(*repeated)[:, 0]


@pytest.mark.parametrize(("cfg_scale", "temperature"), [(1.0, 0.5), (1.5, 1.0), (2.0, 1.0), (2.0, 0.7)])
def test_guided_densities_follow_the_product_of_powers(cfg_scale, temperature):
    """N(c, v)^s N(u, v)^(1-s) is N(u + s (c - u), v), and temperature T multiplies its variance."""
    conditional, unconditional = gaussian(1.0), gaussian(0.4)
    values = draws(
        4000, conditional, unconditional if cfg_scale != 1 else None, cfg_scale=cfg_scale, temperature=temperature
    )
    expected = stats.norm(0.4 + cfg_scale * 0.6, math.sqrt(temperature))
    assert stats.kstest(values.numpy(), expected.cdf).pvalue > 1e-3


def test_strong_guidance_stays_where_the_conditional_density_is():
    values = draws(2000, gaussian(1.0), gaussian(0.0, 3.0), cfg_scale=100.0)
    assert values.isfinite().all()
    assert (values - 1).abs().max() < 5


def test_first_latents_follow_the_probe_and_the_raw_scale(probe_of):
    probe = probe_of(LATENTS, 3, mixtures=4)
    probe.set_normalisation(torch.tensor([5.0, 0.0, -1.0]), torch.tensor([0.1, 1.0, 3.0]))
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=0.3)
        label = torch.tensor([2])
        mixture = probe.eval().tokens.mixture(probe.states(torch.zeros(1, 0, 3), label)[0, 0])
        drawn = sample(probe, label.expand(4000), generator=seeded(7))[:, 0]
    for channel in range(3):
        normals = stats.norm(mixture.means[:, channel].numpy(), mixture.log_scales[:, channel].exp().numpy())
        points = (drawn[:, channel].numpy() - probe.tokens.mean[channel].item()) / probe.tokens.std[channel].item()
        weights = mixture.log_weights.exp().numpy()
        assert stats.kstest(points, lambda x, n=normals, w=weights: n.cdf(x[:, None]) @ w).pvalue > 1e-3


def test_cold_latents_are_means_of_components(probe_of):
    probe = probe_of(LATENTS, 3, mixtures=1)
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=0.3)
        drawn = sample(probe, LABELS, temperature=1e-12)
        means = probe.eval().tokens.mixture(probe.states(drawn[:, :-1], LABELS)).means[:, :, 0]
    torch.testing.assert_close(drawn, means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "settings"),
    [(CODES, {"temperature": 0.0}), (CODES, {"top_p": 0.0}), (CODES, {"top_p": 1.5}), (CODES, {"top_k": -1}),
     (LATENTS, {"top_k": 5}), (LATENTS, {"top_p": 0.9})],
)  # fmt: skip
def test_impossible_settings_are_one_message(probe_of, spec, settings):
    with pytest.raises(ConfigError, match="given"):
        sample(probe_of(spec, 3), LABELS, **settings)

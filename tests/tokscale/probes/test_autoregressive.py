"""The probe's promises: size, start, causality, positions, class dropout, float32 likelihoods, and its state."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from tokscale import presets
from tokscale.config import AutoregressiveProbe as ProbeConfig
from tokscale.data.latents import LatentSpec
from tokscale.probes import build_probe, tokens
from tokscale.probes.layers import grid_rotations, rotate

CODES = LatentSpec("discrete", (3, 4), 12, 8, 11)
LATENTS = LatentSpec("continuous", (3, 4), 12, 5)


def batch(spec, count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    if spec.codebook_size is not None:
        return torch.randint(spec.codebook_size, (count, spec.tokens), generator=generator), labels
    return torch.randn(count, spec.tokens, spec.dim, generator=generator), labels


def lively(probe, std=0.3):
    """The same probe with a head that says something."""
    with torch.no_grad():
        probe.tokens.head.weight.normal_(std=std)
    return probe


def expected_params(size, classes, spec, mixtures):
    e, m = size.width, presets.gpt_mlp_width(size.width)
    blocks = size.depth * (4 * e * e + 3 * e * m + 2 * e)
    if spec.codebook_size is not None:
        ends = 2 * spec.codebook_size * e
    else:
        ends = (spec.dim + 1) * e + mixtures * (1 + 2 * spec.dim) * (e + 1)
    return (classes + 1) * e + blocks + e + ends


@pytest.mark.parametrize("name", presets.GPT)
@pytest.mark.parametrize("spec", [LatentSpec("discrete", (16, 16), 256, 8, 16384), LATENTS], ids=lambda spec: spec.kind)
def test_every_size_has_the_parameters_of_the_formula(name, spec):
    with torch.device("meta"):
        probe = build_probe(ProbeConfig(size=name), spec, 1000)
    params = sum(parameter.numel() for parameter in probe.parameters())
    assert params == expected_params(presets.GPT[name], 1000, spec, mixtures=8)


@pytest.mark.parametrize(
    ("name", "published"), [("B", 111e6), ("L", 343e6), ("XL", 775e6), ("XXL", 1.411e9), ("3B", 3.1e9)]
)
def test_published_sizes_and_what_learned_positions_add(name, published):
    """LlamaGen's Table 1, with its vocabulary and classes; GigaTok gives a 1D sequence an embedding for each place."""
    sizes = {}
    for positions, grid in (("rotary", (16, 16)), ("learned", (1, 256))):
        spec = LatentSpec("discrete", grid, 256, 8, 16384)
        with torch.device("meta"):
            probe = build_probe(ProbeConfig(size=name, positions=positions), spec, 1000)
        sizes[positions] = sum(parameter.numel() for parameter in probe.parameters())
        assert sizes[positions] == pytest.approx(published, rel=0.015 if name == "3B" else 0.002)
    assert sizes["learned"] - sizes["rotary"] == 256 * presets.GPT[name].width


def test_starts_at_the_uniform_distribution(probe_of):
    probe, (indices, labels) = probe_of(CODES, 3), batch(CODES)
    torch.testing.assert_close(probe.nll(indices, labels), torch.full((6,), 12 * math.log(11)))
    assert probe.loss(indices, labels).item() == pytest.approx(math.log(11), rel=1e-6)


def test_starts_near_independent_normals(probe_of):
    probe = probe_of(LATENTS, 3, mixtures=8)
    latents = torch.randn(500, 12, 5)
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert probe.loss(latents, torch.zeros(500).long()).item() / 5 == pytest.approx(entropy, rel=0.1)


@pytest.mark.parametrize("spec", [CODES, LATENTS], ids=lambda spec: spec.kind)
def test_a_state_depends_on_what_came_before_only(probe_of, spec):
    probe, (values, labels) = probe_of(spec, 3).eval(), batch(spec)
    states = probe.states(values[:, :-1], labels)
    other = values.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 11
    changed = probe.states(other[:, :-1], labels)
    torch.testing.assert_close(changed[:, :7], states[:, :7])
    assert (changed[:, 7:] - states[:, 7:]).abs().amax(-1).min() > 1e-4
    relabelled = probe.states(values[:, :-1], (labels + 1) % 3)
    assert (relabelled - states).abs().amax(-1).min() > 1e-4, "every token sees the class"


@pytest.mark.parametrize("spec", [CODES, LATENTS], ids=lambda spec: spec.kind)
def test_every_parameter_learns(probe_of, spec):
    probe, (values, _) = lively(probe_of(spec, 3)).train(), batch(spec)
    probe.loss(values, torch.arange(6) % 4).backward()
    for name, parameter in probe.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_codes_are_a_distribution_over_all_sequences(probe_of):
    spec = LatentSpec("discrete", (2, 2), 4, 2, 3)
    probe = lively(probe_of(spec, 2)).eval()
    every = torch.cartesian_prod(*[torch.arange(3)] * 4)
    total = torch.exp(-probe.nll(every, torch.ones(81).long())).sum()
    assert total.item() == pytest.approx(1.0, abs=1e-5)


def test_the_density_integrates_to_one_over_raw_latents(probe_of):
    spec = LatentSpec("continuous", (1, 2), 2, 1)
    probe = lively(probe_of(spec, 1), std=0.1).eval()
    probe.set_normalisation(torch.tensor([3.0]), torch.tensor([0.2]))
    axis = torch.linspace(1, 5, 201)
    every = torch.cartesian_prod(axis, axis)[..., None]
    density = torch.exp(-probe.nll(every, torch.zeros(len(every)).long()))
    assert (density.sum() * 0.02**2).item() == pytest.approx(1.0, abs=1e-3)


def test_rotary_products_depend_on_offsets_on_the_grid():
    rotations = grid_rotations((4, 5), 16)
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16)
    turned = [rotate(x.expand(1, 1, 21, 16), rotations)[0, 0] for x in (query, key)]
    products = (turned[0] @ turned[1].T)[1:, 1:].view(4, 5, 4, 5)
    for down, right in ((0, 1), (1, 0), (2, 3)):
        here = torch.stack([products[r + down, c + right, r, c] for r in range(4 - down) for c in range(5 - right)])
        torch.testing.assert_close(here, here[:1].expand_as(here), rtol=1e-4, atol=1e-4)
    assert abs(products[0, 1, 0, 0] - products[1, 0, 0, 0]) > 1e-3, "right is not down"
    assert len(rotations.flatten(2).transpose(0, 1).flatten(1).unique(dim=0)) == 21, "the class has a place of its own"


def test_a_sequence_turns_all_pairs_with_the_place_in_it():
    """1D rotary positions by their definition: pair j turns at place t by t / 10000^(2j / d), the class at place 0."""
    rotations = grid_rotations((1, 7), 16)
    angles = torch.arange(8, dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(8, dtype=torch.float64) / 8)
    torch.testing.assert_close(rotations, torch.stack([angles.cos(), angles.sin()]).float())


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("grid", [(3, 4), (1, 12)], ids=str)
def test_both_kinds_of_positions_tell_equal_tokens_apart(probe_of, positions, grid):
    """Of equal tokens attention makes equal states, unless it knows where each of them stands."""
    spec = LatentSpec("discrete", grid, 12, 8, 11)
    probe = probe_of(spec, 3, positions=positions).eval()
    with torch.no_grad():
        for block in probe.blocks:
            block.attention.qkv.weight.normal_(std=0.3)
        tokens, labels = torch.tensor([[4] * 6 + [7] * 5]), torch.tensor([1])
        states = probe.states(tokens, labels)[0]
        for same in (states[2:7], states[8:]):  # equal tokens, after a class that is none of them
            assert torch.cdist(same, same).add(torch.eye(len(same))).min() > 1e-4


def test_learned_positions_are_added_at_their_places_and_learn(probe_of):
    probe = lively(probe_of(LatentSpec("discrete", (1, 12), 12, 8, 11), 3, positions="learned"))
    indices, labels = batch(CODES)
    with torch.no_grad():
        before = probe.states(indices[:, :-1], labels)
        probe.positions.weight[5] += 1
        moved = (probe.states(indices[:, :-1], labels) - before).abs().amax(dim=(0, 2))
    assert moved[:5].max() == 0
    assert moved[5:].min() > 1e-3
    probe.loss(indices, labels).backward()
    assert (probe.positions.weight.grad.abs().amax(dim=1) > 0).all()


def test_class_dropout_trains_the_null_label(probe_of):
    probe, (indices, _) = lively(probe_of(CODES, 3, class_dropout=0.25)), batch(CODES, 4000)
    indices = indices[:1].expand(4000, -1)
    labels = torch.zeros(4000, dtype=torch.long)
    with torch.no_grad():
        conditional, null = (probe.eval().nll(indices[:1], torch.tensor([label])) for label in (0, probe.null_label))
        nll = probe.train().nll(indices, labels)
    dropped = (nll - null).abs() < (nll - conditional).abs()
    assert 0.22 < dropped.float().mean() < 0.28
    torch.testing.assert_close(nll, torch.where(dropped, null, conditional), rtol=1e-4, atol=1e-4)
    assert torch.equal(labels, torch.zeros(4000).long()), "the caller's labels stay"


@pytest.mark.parametrize("spec", [CODES, LATENTS], ids=lambda spec: spec.kind)
def test_likelihoods_are_float32_under_autocast(probe_of, spec):
    probe, (values, labels) = lively(probe_of(spec, 3)).eval(), batch(spec)
    exact = probe.nll(values, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nll = probe.nll(values, labels)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, exact, rtol=0.03, atol=0.3)


def test_large_vocabularies_in_pieces_are_the_same(probe_of, monkeypatch):
    probe, (indices, labels) = lively(probe_of(CODES, 3)), batch(CODES)

    def nll_and_gradient():
        probe.zero_grad()
        nll = probe.nll(indices, labels)
        nll.mean().backward()
        return nll.detach(), probe.tokens.head.weight.grad.clone(), probe.class_embedding.weight.grad.clone()

    whole = nll_and_gradient()
    monkeypatch.setattr(tokens, "LOGITS_AT_ONCE", 4 * 12 * 11)
    for piecewise, at_once in zip(nll_and_gradient(), whole, strict=True):
        torch.testing.assert_close(piecewise, at_once)


def test_normalisation_is_part_of_the_state(probe_of):
    probe, (latents, labels) = lively(probe_of(LATENTS, 3)).eval(), batch(LATENTS)
    probe.set_normalisation(torch.arange(5.0), torch.arange(1.0, 6.0))
    other = probe_of(LATENTS, 3, seed=5).eval()
    other.load_state_dict(probe.state_dict())
    torch.testing.assert_close(other.nll(latents, labels), probe.nll(latents, labels), rtol=0, atol=0)


def test_built_the_same_from_the_same_seed(probe_of):
    first, second, third = (probe_of(LATENTS, 3, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["class_embedding.weight"], third["class_embedding.weight"])


def test_probes_do_not_import_lightning():
    code = "import sys, tokscale.probes; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

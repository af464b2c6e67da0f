"""Rotary positions, attention, SwiGLU and their initialisation against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tokscale.models.layers import Attention, SwiGLU, Transformer, linear
from tokscale.models.positions import GridTables, grid_positions, rotary_table, rotate


@pytest.mark.parametrize("shift", [(5, 0), (0, 3), (2, 7), (-4, 11)])
def test_attention_scores_depend_on_relative_positions_only(shift):
    torch.manual_seed(0)
    positions = grid_positions(4, 6)
    queries, keys = torch.randn(2, 3, 24, 16, dtype=torch.float64)

    def scores(at):
        table = rotary_table(at.double(), 16)
        return rotate(queries, table) @ rotate(keys, table).transpose(1, 2)

    moved = scores(positions + torch.tensor(shift))
    torch.testing.assert_close(moved, scores(positions), rtol=0, atol=1e-4)
    assert not torch.allclose(moved, queries @ keys.transpose(1, 2), atol=0.1)


@pytest.mark.parametrize(("axis", "other"), [(0, 1), (1, 0)])
def test_half_of_a_heads_channels_turn_with_rows_and_half_with_columns(axis, other):
    still = torch.zeros(5, 2)
    still[:, axis] = torch.arange(5)
    x = torch.ones(1, 5, 16)
    changed = (rotate(x, rotary_table(still, 16)) - x).abs().amax(dim=(0, 1)) > 0
    still = still.flip(1)
    changed_by_other = (rotate(x, rotary_table(still, 16)) - x).abs().amax(dim=(0, 1)) > 0
    assert changed.sum() == changed_by_other.sum() == 8
    assert torch.equal(changed, ~changed_by_other)


def test_rotary_angles_are_those_of_the_definition():
    table = rotary_table(torch.tensor([[3.0, 5.0]]), 8)
    angles = [3.0, 3.0 * 10000**-0.5, 5.0, 5.0 * 10000**-0.5]
    torch.testing.assert_close(table[0, 0], torch.tensor([math.cos(angle) for angle in angles]))
    torch.testing.assert_close(table[1, 0], torch.tensor([math.sin(angle) for angle in angles]))


def test_rotating_is_a_rotation():
    x = torch.randn(2, 3, 12, 16)
    turned = rotate(x, rotary_table(grid_positions(3, 4), 16))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_grid_positions_go_row_by_row():
    assert grid_positions(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_three_axes_share_a_head_equally():
    positions = torch.cartesian_prod(torch.arange(2.0), torch.arange(3.0), torch.arange(4.0))
    assert rotary_table(positions, 12).shape == (2, 24, 6)


def test_tables_are_made_once_and_never_saved():
    rotary = GridTables(lambda positions: rotary_table(positions, 16), (4, 4))
    assert rotary((4, 4)) is rotary((4, 4))
    assert rotary((2, 8)) is rotary((2, 8))
    assert rotary.state_dict() == {}
    torch.testing.assert_close(rotary((2, 8)), rotary_table(grid_positions(2, 8), 16))


def test_a_grid_first_seen_in_inference_mode_can_be_trained_on():
    transformer = Transformer(32, 1, 2, (2, 2))
    with torch.inference_mode():
        transformer(torch.randn(1, 6, 32), (2, 3))
    transformer(torch.randn(1, 6, 32), (2, 3))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in transformer.parameters())


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention, table = Attention(32, 2), rotary_table(grid_positions(3, 3), 16)
    x = torch.randn(2, 9, 32)
    queries, keys, values = (
        part.view(2, 9, 2, 16).transpose(1, 2) for part in (x @ attention.qkv.weight.T).chunk(3, dim=-1)
    )
    weights = (rotate(queries, table) @ rotate(keys, table).transpose(2, 3) / 4).softmax(-1)
    expected = attention.projection((weights @ values).transpose(1, 2).reshape(2, 9, 32))
    torch.testing.assert_close(attention(x, table), expected)


def test_swiglu_is_its_formula():
    torch.manual_seed(0)
    mlp, x = SwiGLU(8, 24), torch.randn(3, 8)
    gate, value = mlp.gate_and_value.weight[:24] @ x.T, mlp.gate_and_value.weight[24:] @ x.T
    torch.testing.assert_close(mlp(x), (mlp.out.weight @ (F.silu(gate) * value)).T)


def test_linear_layers_start_xavier_uniform_part_by_part():
    torch.manual_seed(0)
    layer = linear(200, 600, parts=3)
    bound = math.sqrt(6 / (200 + 200))
    for part in layer.weight.chunk(3):
        assert bound * 0.99 < part.abs().max() <= bound
        assert part.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert layer.bias.count_nonzero() == 0


@pytest.mark.parametrize("turned", [True, False])
def test_attention_is_the_formula_head_by_head_and_so_are_its_gradients(turned):
    """Turning queries and keys at once changes no bit of turning each of them."""
    torch.manual_seed(0)
    attention, x = Attention(24, 3), torch.randn(2, 5, 24, requires_grad=True)
    table = rotary_table(torch.arange(5.0)[:, None], 8) if turned else None
    weights = torch.randn(2, 5, 24)
    found = []
    for forward in (lambda: attention(x, table), lambda: _plain_attention(attention, x, table)):
        attention.zero_grad()
        x.grad = None
        mixed = forward()
        (mixed * weights).sum().backward()
        found.append([mixed.detach(), x.grad, *(parameter.grad for parameter in attention.parameters())])
    assert all(torch.equal(ours, plain) for ours, plain in zip(*found, strict=True))


def _plain_attention(attention, x, table):
    queries, keys, values = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    if table is not None:
        queries, keys = rotate(queries, table), rotate(keys, table)
    mixed = F.scaled_dot_product_attention(queries, keys, values)
    return attention.projection(mixed.transpose(1, 2).flatten(2))

"""Alignment with a teacher: the cosine's closed forms, the MLP's size, and teachers on another grid."""

import pytest
import torch

from tokscale import loss_formulas
from tokscale.losses.semantic import Alignment, alignment_loss, on_grid


def test_the_loss_is_minus_the_mean_cosine():
    one = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    other = torch.tensor([[[3.0, 0.0], [1.0, 1.0]]])
    assert alignment_loss(one, other).item() == pytest.approx(-(1 + 0.5**0.5) / 2)
    assert alignment_loss(one, -5 * one).item() == pytest.approx(1)


def test_the_mlp_has_two_hidden_layers_of_four_times_the_width():
    mlp = Alignment(32, 20)
    assert sum(parameter.numel() for parameter in mlp.parameters()) == loss_formulas.alignment(32, 64, 20).params
    assert [layer.out_features for layer in mlp if isinstance(layer, torch.nn.Linear)] == [128, 128, 20]


def test_features_of_another_grid_are_laid_over_the_cells():
    rows = torch.arange(4.0)[:, None].expand(4, 4).flatten()
    coarse = on_grid(rows[None, :, None].expand(2, 16, 3), 4)  # rows 0 to 3 onto two rows of cells
    assert coarse.shape == (2, 4, 3)
    assert (coarse[:, 0] == coarse[:, 1]).all()
    assert (coarse[:, 2] - coarse[:, 0] > 1).all()
    fine = on_grid(coarse, 16)
    assert fine.unflatten(1, (4, 4)).diff(dim=2).abs().max() == 0
    assert (fine.unflatten(1, (4, 4)).diff(dim=1) >= 0).all()
    constant = torch.full((1, 9, 5), 2.5)
    torch.testing.assert_close(on_grid(constant, 49), torch.full((1, 49, 5), 2.5))
    assert on_grid(constant, 9) is constant

"""The laws refit the published points to the R2 that the papers print: certified data of this package."""

from __future__ import annotations

import re
from importlib import resources

import numpy as np
import pytest

import analysis
from analysis import published, published_names
from analysis.fitting import Fit, fit
from analysis.report.printed import FIG2, IMAGENET, PRINTED, Printed
from tokscale.errors import TableError


@pytest.mark.parametrize("printed", PRINTED, ids=lambda one: f"{one.figure}-{one.law}-{one.y}-{one.x}")
def test_printed_r2(printed: Printed) -> None:
    found = printed.refit()
    assert found.r2 is not None
    assert found.r2 == pytest.approx(printed.r2, abs=printed.within)


def test_printed_r2_cover_every_curve() -> None:
    assert len(PRINTED) == 34
    assert [one for one in PRINTED if one.within > 0.005] == [one for one in PRINTED if one.y == "gFID_cfg3.0"
                                                              and one.x == "E"]  # fmt: skip


def test_printed_coefficients() -> None:
    """log2 rFID = -1.38 log2 E + 17.34; SSIM = .0636 log2 E + .011; PSNR = 2.30 log2 E - .57."""
    table = published(FIG2)
    found = {y: fit(table, law=law, x="E", y=y, where=IMAGENET)
             for law, y in [("power", "rFID"), ("semilog", "SSIM"), ("semilog", "PSNR")]}  # fmt: skip
    values = {y: [parameter.value for parameter in one.parameters.values()] for y, one in found.items()
              if isinstance(one, Fit)}  # fmt: skip
    assert np.log2(values["rFID"][0]) == pytest.approx(17.34, abs=0.005)
    assert values["rFID"][1] == pytest.approx(1.38, abs=0.005)
    assert values["SSIM"] == pytest.approx([0.011, 0.0636], abs=0.0005)
    assert values["PSNR"] == pytest.approx([-0.57, 2.30], abs=0.005)


def test_the_steepest_published_point_is_called_out() -> None:
    found = fit(published(FIG2), law="power", x="E", y="rFID", where=IMAGENET)
    assert isinstance(found, Fit)
    assert any("E = 65536 moves exponent" in warning for warning in found.warnings)


def test_mixed_data_sets_are_called_out() -> None:
    found = fit(published(FIG2), law="semilog", x="E", y="PSNR")
    assert isinstance(found, Fit)
    assert any("different data sets" in warning for warning in found.warnings)


def test_every_table_names_its_provenance_and_source() -> None:
    assert len(published_names()) >= 50
    for name in published_names():
        table = published(name)
        assert len(table) > 0
        assert table[["provenance", "source"]].notna().all(axis=None), name


def test_tables_hold_no_local_paths() -> None:
    for file in resources.files("analysis.published_tables").iterdir():
        if file.name.endswith(".csv"):
            assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", file.read_text(encoding="utf-8")), file.name


def test_an_unknown_table_is_answered_with_the_nearest() -> None:
    with pytest.raises(TableError, match=f"did you mean '{FIG2}'"):
        published("vitok_fig2_bottleneck")


def test_public_names_are_functions_whatever_was_imported_first() -> None:
    assert callable(analysis.published)
    assert callable(analysis.fit)
    assert callable(analysis.compare)

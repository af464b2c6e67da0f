"""The command ``report``: a sweep in, a page out, and messages where the words were wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.report_commands import report_command
from tokscale.errors import UsageError


def test_report_prints_the_path_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "sweeps" / "tiny"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"sweep": "tiny", "notes": ["A note."]}))
    report_command("tiny", runs=tmp_path)
    page = Path(capsys.readouterr().out.strip())
    assert page == folder / "report" / "report.html"
    assert "A note." in page.read_text(encoding="utf-8")


def test_report_of_an_unknown_sweep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such sweep"):
        report_command("tiny", runs=tmp_path)


def test_report_of_published_points(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report_command(None, published=["gigatok"], form="md", output=tmp_path)
    page = Path(capsys.readouterr().out.strip())
    assert page == tmp_path / "published-gigatok.md"
    assert page.read_text(encoding="utf-8").count("\n# GigaTok") == 1


def test_report_of_nothing_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--published with") as caught:
        report_command(None, output=tmp_path)
    assert "vitok" in str(caught.value)
    assert "gigatok" in str(caught.value)
    with pytest.raises(UsageError, match="no published points under this name"):
        report_command(None, published=["titok"], output=tmp_path)

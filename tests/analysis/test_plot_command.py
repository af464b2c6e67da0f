"""The commands ``plot`` and ``report``: a table or a sweep in, a file out, and messages where the words were wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.report_commands import plot_command, report_command
from tokscale.errors import TableError, UsageError


@pytest.fixture
def table(tmp_path: Path) -> str:
    sizes = [256, 512, 1024, 2048, 4096]
    path = tmp_path / "results.csv"
    rows = [{"E": e, "PSNR": 2.3 * i + 0.1 * (i % 2), "set": s} for s in ("a", "b") for i, e in enumerate(sizes)]
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(("name", "head"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.pdf", b"%PDF")])
def test_plot_writes_by_the_ending(
    table: str, tmp_path: Path, name: str, head: bytes, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / name
    plot_command(table, x="E", y="PSNR", output=output, law="semilog", by="set")
    assert output.read_bytes().startswith(head)
    assert capsys.readouterr().out.strip() == str(output)


def test_plot_of_a_published_table(tmp_path: Path) -> None:
    output = tmp_path / "vitok.svg"
    name = "published:vitok_fig2_bottleneck_256p"
    plot_command(name, x="E", y="rFID", output=output, law="power", where="patch == 16", by="dataset", style="slides")
    assert output.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ({"y": "PSRN"}, TableError, "did you mean 'PSNR'"),
        ({"x": "e"}, TableError, "no such column"),
        ({"by": "sett"}, TableError, "did you mean 'set'"),
        ({"law": "powr"}, UsageError, "did you mean 'power'"),
        ({"style": "poster"}, UsageError, "paper"),
        ({"published": ["vitk"]}, UsageError, "did you mean 'vitok'"),
        ({"output": Path("figure.gif")}, UsageError, ".svg"),
        ({"output": Path("absent/figure.png")}, UsageError, "(?s)folder does not exist.*absent"),
        ({"where": "E > 1e9"}, TableError, "no row"),
    ],
)
def test_wrong_words_of_plot_write_nothing(table: str, tmp_path: Path, words: dict, kind: type, said: str) -> None:
    output = tmp_path / "figure.png"
    with pytest.raises(kind, match=said):
        plot_command(table, **({"x": "E", "y": "PSNR", "output": output} | words))
    assert not output.exists()


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


def test_commands_are_read_without_the_heavy_libraries() -> None:
    heavy = "matplotlib pandas scipy numpy torch PIL"
    code = f"import sys, analysis.report_commands; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

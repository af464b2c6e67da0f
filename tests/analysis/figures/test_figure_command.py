"""The command ``plot``: a table or a sweep in, a figure's file out, and messages where the words were wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.figures.plot import inches_of
from analysis.plot_command import plot_command
from tokscale.errors import ConfigError, TableError, UsageError


@pytest.fixture
def table(tmp_path: Path) -> str:
    sizes = [256, 512, 1024, 2048, 4096]
    path = tmp_path / "results.csv"
    rows = [{"E": e, "PSNR": 2.3 * i + 0.1 * (i % 2), "set": s, "rFID": 500 / e * (1 + 0.05 * (i % 2)), "gone": None}
            for s in ("a", "b") for i, e in enumerate(sizes)]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def runs(tmp_path: Path, trials) -> Path:
    """A runs folder with one sweep: results, trials, progress files and pictures."""
    results = trials(("S", "B"), sizes=(256, 1024, 4096, 16384), seeds=2)
    for place, trial in enumerate(results["trial"]):
        stage = tmp_path / "stages" / "tokenizer" / trial
        (stage / "artifacts").mkdir(parents=True)
        lines = [
            {"done": done, "total": 900, "loss": 1 / done + place, "gan_loss": 0.1} for done in range(100, 901, 50)
        ]
        (stage / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        Image.fromarray(np.full((8, 32, 3), place, dtype=np.uint8)).save(stage / "artifacts" / "reconstructions.png")
    results["pictures"] = [f"stages/tokenizer/{trial}/artifacts/reconstructions.png" for trial in results["trial"]]
    folder = tmp_path / "sweeps" / "mine"
    folder.mkdir(parents=True)
    results.to_parquet(folder / "results.parquet")
    entries = [{"trial": trial, "stages": [f"tokenizer/{trial}"]} for trial in results["trial"]]
    (folder / "trials.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return tmp_path


@pytest.mark.parametrize(("name", "head"), [("f.png", b"\x89PNG"), ("f.svg", b"<?xml"), ("f.pdf", b"%PDF")])
def test_plot_writes_by_the_ending(
    table: str, tmp_path: Path, name: str, head: bytes, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / name
    plot_command(table, x="E", y="PSNR", output=output, law="semilog", by="set")
    assert output.read_bytes().startswith(head)
    assert capsys.readouterr().out.strip() == str(output)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vitok_fig2_bottleneck_256p", {"x": "E", "y": "rFID", "law": "power", "by": "dataset", "style": "slides",
                                        "where": "patch == 16"}),
        ("vitok_fig2_bottleneck_256p", {"x": "E", "y": "PSNR", "law": "best", "exclude": "E > 16384", "by": "dataset"}),
        ("vitok_fig2_bottleneck_256p", {"x": "E", "y": "rFID", "law": "power", "kind": "residuals"}),
        ("vitok_fig6to9_encoder_decoder_sweep", {"z": "rFID", "kind": "heatmap"}),
        ("vitok_fig6to9_encoder_decoder_sweep", {"x": "rFID", "y": "gFID_cfg1.5", "z": "dec_params_M", "by": "encoder",
                                                 "kind": "plane"}),
        ("vitok_fig6to9_encoder_decoder_sweep", {"x": "total_params_M", "y": "rFID", "kind": "frontier",
                                                 "z": "enc_params_M,dec_params_M"}),
        ("vitok_fig5_generation_vs_E", {"x": "E", "y": "gFID_cfg1.5", "by": "patch", "kind": "optimum"}),
        ("gigatok_fig5_entropy_loss", {"x": "iter_k_window_centre", "y": "perceptual_loss", "by": "entropy_loss",
                                       "kind": "losses", "size": "3.35x2.2"}),
    ],
)  # fmt: skip
def test_every_kind_draws_published_tables(tmp_path: Path, name: str, words: dict) -> None:
    output = tmp_path / "figure.svg"
    plot_command(f"published:{name}", output=output, **words)
    assert output.stat().st_size > 5_000


@pytest.mark.parametrize(
    "words",
    [
        {"kind": "losses"}, {"kind": "losses", "y": "gan_loss", "where": "stage == 'tokenizer'"}, {"kind": "pictures"},
        {"kind": "plane", "by": "decoder", "z": "bottleneck_floats"}, {"kind": "rate-distortion", "by": "decoder"},
        {"kind": "heatmap", "z": "psnr", "where": "bottleneck_floats == 256"}, {"kind": "optimum", "y": "gfid"},
        {"x": "bottleneck_floats", "y": "psnr", "law": "semilog", "by": "decoder"},
    ],
)  # fmt: skip
def test_every_kind_draws_a_sweep(runs: Path, tmp_path: Path, words: dict) -> None:
    output = tmp_path / "figure.svg"
    plot_command("mine", output=output, runs=runs, **words)
    assert output.stat().st_size > 3_000
    again = output.read_bytes()
    plot_command(str(runs / "sweeps" / "mine"), output=output, **words)
    assert output.read_bytes() == again, "by name or by folder, the same bytes"


def test_what_is_left_out_is_said(table: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = pd.read_csv(table)
    rows.loc[0, "rFID"], rows.loc[1, "rFID"] = np.nan, 0.0
    rows.to_csv(table, index=False)
    plot_command(table, x="E", y="rFID", output=tmp_path / "f.svg", law="power")
    said = capsys.readouterr().err
    assert "note: 1 row left out: no number in E or rFID" in said
    assert "1 row left out: rFID is zero or negative" in said


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ({"y": "PSRN"}, TableError, "did you mean 'PSNR'"),
        ({"x": "e"}, TableError, "no such column"),
        ({"y": None}, UsageError, "needs --y"),
        ({"y": "gone"}, TableError, "(?s)no row has a number.*gone: no number"),
        ({"y": "set"}, TableError, "(?s)no row has a number.*set"),
        ({"by": "sett"}, TableError, "did you mean 'set'"),
        ({"law": "powr"}, UsageError, "did you mean 'power'"),
        ({"style": "poster"}, UsageError, "paper"),
        ({"kind": "curves"}, UsageError, "did you mean 'curve'"),
        ({"kind": "heatmap", "x": "E", "y": "PSNR"}, UsageError, "needs --z"),
        ({"kind": "residuals"}, UsageError, "residuals are those of a law"),
        ({"kind": "optimum", "x": None, "y": "PSNR"}, TableError, "bottleneck_floats"),
        ({"kind": "pictures"}, TableError, "pictures"),
        ({"kind": "frontier", "x": "E", "y": "PSNR", "z": "E"}, UsageError, "--z FIRST,SECOND"),
        ({"size": "big"}, UsageError, "WIDTHxHEIGHT"),
        ({"size": "0x4"}, UsageError, "from 1 to 40"),
        ({"published": ["vitk"]}, UsageError, "did you mean 'vitok'"),
        ({"output": Path("figure.gif")}, UsageError, ".svg"),
        ({"output": Path("absent/figure.png")}, UsageError, "(?s)folder does not exist.*absent"),
        ({"where": "E > 1e9"}, TableError, "no row"),
        ({"where": "E >"}, ConfigError, "E >"),
        ({"exclude": "E > 0"}, TableError, "no row"),
        ({"exclude": "E > 1e9"}, TableError, "no row fulfils"),
        ({"law": "semilog", "where": "E == 256"}, TableError, "semilog has 2 parameters"),
    ],
)  # fmt: skip
def test_wrong_words_write_nothing(table: str, tmp_path: Path, words: dict, kind: type, said: str) -> None:
    output = tmp_path / "figure.png"
    with pytest.raises(kind, match=said):
        plot_command(table, **({"x": "E", "y": "PSNR", "output": output} | words))
    assert not output.exists()


def test_an_unknown_sweep_and_one_without_results(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)no such sweep.*did you mean 'mine'"):
        plot_command("mien", output=tmp_path / "f.png", runs=runs)
    (runs / "sweeps" / "new").mkdir()
    (runs / "sweeps" / "new" / "spec.yaml").write_text("name: new")
    with pytest.raises(UsageError, match="no results yet"):
        plot_command("new", output=tmp_path / "f.png", runs=runs)


def test_too_many_pictures_are_refused(runs: Path, tmp_path: Path) -> None:
    path = runs / "sweeps" / "mine" / "results.parquet"
    results = pd.read_parquet(path)
    many = pd.concat([results] * 8, ignore_index=True)
    many["seed"] = 0
    many.to_parquet(path)
    with pytest.raises(UsageError, match="--where"):
        plot_command("mine", output=tmp_path / "f.png", runs=runs, kind="pictures")


@pytest.mark.parametrize(("text", "size"), [("3.35x2.5", (3.35, 2.5)), (" 8 X 5 ", (8, 5)), ("1.x40", (1, 40))])
def test_sizes_in_inches(text: str, size: tuple[float, float]) -> None:
    assert inches_of(text) == size


def test_a_size_that_is_said_is_the_figures(table: str, tmp_path: Path) -> None:
    output = tmp_path / "figure.png"
    plot_command(table, x="E", y="PSNR", output=output, size="4x3")
    with Image.open(output) as image:
        assert image.size == (1200, 900)


def test_the_command_is_read_without_the_heavy_libraries() -> None:
    heavy = "matplotlib pandas scipy numpy torch PIL"
    modules = "analysis.plot_command, analysis.report_commands"
    code = f"import sys, {modules}; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

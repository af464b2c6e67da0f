"""``tokscale fit`` prints what ``analysis.fit`` finds, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from analysis.commands import fit_command
from tokscale.errors import TableError, UsageError

PUBLISHED = "published:vitok_fig2_bottleneck_256p"
IMAGENET = ["--where", "dataset == 'imagenet1k_val_50k'"]


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(fit_command)
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json"))


def test_one_law_is_one_object() -> None:
    found = run_json(PUBLISHED, "--x", "E", "--y", "rFID", "--law", "power", *IMAGENET)
    assert (found["law"], found["x"], found["y"], found["n"], round(found["r2"], 2)) == (
        "power",
        ["E"],
        "rFID",
        15,
        0.94,
    )
    assert found["parameters"]["exponent"]["low"] < 1.38 < found["parameters"]["exponent"]["high"]


def test_no_law_is_a_list_best_first() -> None:
    found = run_json(PUBLISHED, "--x", "E", "--y", "PSNR", *IMAGENET)
    assert [one["aicc"] for one in found] == sorted(one["aicc"] for one in found)


def test_groups_are_a_list_even_with_a_law() -> None:
    found = run_json(PUBLISHED, "--x", "E", "--y", "rFID", "--law", "power", "--by", "dataset")
    assert [(one["group"], round(one["r2"], 2)) for one in found] == [
        ("coco2017_val_5k", 0.92),
        ("imagenet1k_val_50k", 0.94),
    ]


def test_any_csv(tmp_path: Path) -> None:
    pd.DataFrame({"E": [1, 2, 4, 8, 16], "rFID": [8.0, 4.1, 2.0, None, 0.5]}).to_csv(tmp_path / "mine.csv")
    found = run_json(str(tmp_path / "mine.csv"), "--x", "E", "--y", "rFID", "--law", "power", "--interval", "0.9")
    assert (found["n"], found["interval"]) == (4, 0.9)
    assert "1 row left out: rFID is missing" in found["warnings"]


def test_people_see_formula_parameters_goodness_and_warnings() -> None:
    text = run(PUBLISHED, "--x", "E", "--y", "rFID", "--law", "power", *IMAGENET)
    for words in ("y = scale x^-exponent", "exponent", "1.383", "1.181 .. 1.584", "R2 0.944", "warning:"):
        assert words in text
    assert "minimum" in run(
        "published:vitok_fig5_generation_vs_E", "--x", "E", "--y", "gFID_cfg1.5", "--law", "quadratic"
    )


def test_errors_are_raised_for_the_front_door(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="did you mean 'rFID'"):
        run(PUBLISHED, "--x", "E", "--y", "rfid")
    with pytest.raises(TableError, match="no such published table"):
        run("published:nothing", "--x", "E", "--y", "rFID")
    with pytest.raises(TableError, match="No such file"):
        run(str(tmp_path / "absent.csv"), "--x", "E", "--y", "rFID")
    with pytest.raises(UsageError, match="no such law"):
        run(PUBLISHED, "--x", "E", "--y", "rFID", "--law", "straight")


def test_the_module_loads_without_the_libraries_that_its_commands_use() -> None:
    code = """import sys, analysis.commands
heavy = {"numpy", "pandas", "scipy", "torch", "matplotlib", "rich.console", "pydantic"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_groups_that_json_does_not_know(tmp_path: Path) -> None:
    rows = [{"E": 2**i, "y": i + 0.1 * (i % 2), "g": g} for g in (1.0, float("inf")) for i in range(1, 6)]
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    found = run_json(str(tmp_path / "t.parquet"), "--x", "E", "--y", "y", "--law", "semilog", "--by", "g")
    assert [one["group"] for one in found] == [1.0, "inf"]


def test_lists_in_a_table_are_refused(tmp_path: Path) -> None:
    rows = [{"E": 2**i, "y": i, "g": [i]} for i in range(1, 6)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    with pytest.raises(TableError, match="holds lists"):
        run(str(tmp_path / "t.json"), "--x", "E", "--y", "y", "--by", "g")
    assert run_json(str(tmp_path / "t.json"), "--x", "E", "--y", "y", "--law", "semilog")["n"] == 5

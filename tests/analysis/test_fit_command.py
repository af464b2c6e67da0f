"""``tokscale fit`` prints what ``analysis.fit`` finds, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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
    weights = [one["aicc_weight"] for one in found]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1)


def two_columns(tmp_path: Path) -> str:
    enc, dec = (part.ravel() for part in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e6, 1e9, 5)))
    error = np.random.default_rng(0).normal(0, 0.01, 25)
    y = (2 + 300 * enc**-0.4 + 900 * dec**-0.5) * np.exp(error)
    pd.DataFrame({"enc": enc, "dec": dec, "y": y, "w": 1.0}).to_csv(tmp_path / "two.csv", index=False)
    return str(tmp_path / "two.csv")


def test_several_columns_and_predictions_at_sizes(tmp_path: Path) -> None:
    words = (two_columns(tmp_path), "--x", "enc", "--x", "dec", "--y", "y", "--law", "additive", "--interval", "0.9")
    content = run_json(*words, "--at", "86M,4096k", "--at", " 1e9 , 1G ")
    assert content["x"] == ["enc", "dec"]
    first, second = content["predictions"]
    assert list(first) == ["x", "value", "low", "high"]
    assert (first["x"], second["x"]) == ({"enc": 86e6, "dec": 4.096e6}, {"enc": 1e9, "dec": 1e9})
    assert first["low"] < first["value"] < first["high"]
    assert first["value"] == pytest.approx(2 + 300 * 86e6**-0.4 + 900 * 4.096e6**-0.5, rel=0.05)
    alone = run_json(*words)
    assert {name: part for name, part in content.items() if name in alone} == alone
    text = run(*words, "--at", "86M,4096k")
    for said in ("x_1 = enc, x_2 = dec", "exponent_2", "0.9 interval of one more run", "8.6e+07", "4.096e+06"):
        assert said in text


def test_the_average_of_all_laws_predicts_when_none_is_named() -> None:
    content = run_json(PUBLISHED, "--x", "E", "--y", "rFID", *IMAGENET, "--at", "65536", "--at", "1024")
    average, *fits = content
    assert len(fits) > 2
    assert average["law"] == "average"
    assert [row["x"] for row in average["predictions"]] == [{"E": 65536.0}, {"E": 1024.0}]
    assert all(row["low"] < row["value"] < row["high"] for row in average["predictions"])
    far = run_json(PUBLISHED, "--x", "E", "--y", "rFID", *IMAGENET, "--at", "1T")[0]
    assert far["warnings"]
    shown = run(PUBLISHED, "--x", "E", "--y", "rFID", *IMAGENET, "--at", "1T")
    assert all(warning in shown for warning in far["warnings"])


def test_a_named_law_is_not_believed_far_out() -> None:
    words = (PUBLISHED, "--x", "E", "--y", "rFID", "--law", "power", *IMAGENET)
    said = {size: run_json(*words, "--at", size)["warnings"] for size in ("1T", "8192", "1")}
    far, near, below = ([one for one in told if "nothing speaks for" in one] for told in said.values())
    assert near == []
    assert "E = 1e+12: more than 4 times the largest size" in far[0]
    assert "E = 1: less than 1/4 of the smallest size" in below[0]
    assert far[0] in run(*words, "--at", "1T")


def test_groups_that_share_a_parameter() -> None:
    words = (PUBLISHED, "--x", "E", "--y", "rFID", "--law", "power", "--by", "dataset", "--at", "4096")
    content = run_json(*words, "--shared", "exponent")
    apart = run_json(*words)
    first, second = content
    assert first["parameters"]["exponent"] == second["parameters"]["exponent"]
    assert first["parameters"]["scale"] != second["parameters"]["scale"]
    alone = [one["parameters"]["exponent"]["value"] for one in apart]
    assert min(alone) < first["parameters"]["exponent"]["value"] < max(alone)
    assert [one["group"] for one in content] == ["coco2017_val_5k", "imagenet1k_val_50k"]
    assert all(one["predictions"][0]["x"] == {"E": 4096.0} for one in content)
    assert "group" in run(*words)


def test_weights_and_hubers_loss(tmp_path: Path) -> None:
    words = (two_columns(tmp_path), "--x", "enc", "--y", "y", "--law", "power_floor")
    plain, weighted = run_json(*words), run_json(*words, "--weights", "w")
    assert weighted["parameters"] == plain["parameters"]
    robust = run_json(*words, "--huber", "0.05")
    assert robust["parameters"] != plain["parameters"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--at", "big"], "--at names a size that is no number"),
        (["--at", "1,2"], "one size for each --x"),
        (["--at", ""], "no number"),
        (["--at", "-5", "--law", "power"], "not positive"),
        (["--at", "0", "--law", "power"], "not positive"),
        (["--at", "5", "--huber", "0.1"], "a law named by --law"),
        (["--at", "5", "--weights", "PSNR"], "a law named by --law"),
        (["--shared", "exponent"], "together with `by`"),
        (["--law", "power", "--huber", "-1"], "a number above 0"),
    ],
)
def test_words_that_do_not_go_together(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run(PUBLISHED, "--x", "E", "--y", "rFID", *words)


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
    for words in ("y = scale x^-exponent", "exponent", "1.383", "1.181 .. 1.584", "R2 0.944", "hold-out error",
                  "if the value at the next size is repeated", "warning:"):  # fmt: skip
        assert words in text
    assert "AICc weight" in run(PUBLISHED, "--x", "E", "--y", "rFID", *IMAGENET)
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

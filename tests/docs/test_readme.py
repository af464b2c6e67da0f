"""The README keeps its word: its commands run as written, its table and nouns are the real ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tokscale import front

pytestmark = pytest.mark.xdist_group("readme")
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [
    line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.startswith("tokscale")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the README's study; the budgets of its trials are cut, the commands are as written."""
    folder = tmp_path_factory.mktemp("readme")
    (study,) = [block for kind, block in BLOCKS if kind == "yaml" and "grid:" in block]
    study = study.replace("images: 20k", "images: 64").replace("latents: {images: 4k}", "latents: {images: 64}")
    study = study.replace("resolution: 64}", "resolution: 64, validation_images: 24}")
    study = study.replace("grid:", "  generation: {images: 8}\ngrid:").replace("seed: [0, 1]", "seed: [0]")
    (folder / "study.yaml").write_text(study)
    return folder


def test_every_command_runs_as_written(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if "published:" in command:
            assert "0.94" in done.stdout  # R2 as printed in the paper's figure
    assert (folder / "psnr.pdf").stat().st_size > 1000
    assert (folder / "runs" / "sweeps" / "bottleneck" / "report" / "report.html").exists()


def test_the_table_of_commands_is_complete():
    rows = re.findall(r"`tokscale (\w+)", TEXT.split("## Commands")[1].split("## Six nouns")[0])
    assert set(rows) == set(front.commands())


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = [line.removeprefix("make ") for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()
               if line.startswith("make ")]  # fmt: skip
    assert targets == ["quickstart", "check"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if "://" not in target:
            assert (ROOT / target).exists(), target

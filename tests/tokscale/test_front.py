"""The command line: its surface is frozen, errors are one message, and what need not import torch does not."""

import subprocess
import sys

import pytest
import typer

from tokscale import front

SURFACE = {
    "quickstart": "--runs --workers",
    "run": "spec --runs --workers --cluster --small --profile --compile",
    "plan": "spec --cluster --runs --small --json",
    "submit": "spec --cluster --dry-run --runs --small --profile --compile --json",
    "status": "sweep --runs --watch -w --json",
    "logs": "sweep trial --kind --rank --lines -n --follow -f --runs",
    "cancel": "sweep trial --where --runs",
    "retry": "sweep trial --cause --runs",
    "cluster": "action name --patience --runs --json",
    "results": "sweep --runs --output -o --json",
    "fit": "table --x --y --law --by --shared --where --weights --huber --interval --at --json",
    "next": "spec --target --budget --law --x --where --interval --output -o --runs --cluster --json",
    "compare": "table --by --y --where --interval --json",
    "plot": "table --x --y --z --output -o --kind --law --by --where --exclude --style --size --published --runs",
    "report": "sweep --runs --published --format --style --output -o",
    "presets": "--json",
    "schema": "",
    "weights": "action names --to --json",
}


def options(name):
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command()(front.command(name))
    command = typer.main.get_command(single)
    return [option for parameter in command.params for option in parameter.opts]


def tokscale(*words):
    return subprocess.run([sys.executable, "-m", "tokscale.front", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", SURFACE)
def test_flags_are_a_frozen_surface(name):
    assert options(name) == SURFACE[name].split()


def test_every_command_is_there_and_has_help():
    assert set(front.commands()) == set(SURFACE)
    shown = tokscale("--help")
    assert shown.returncode == 0
    for name, point in front.commands().items():
        assert f"  {name}" in shown.stdout
        assert point.load().__doc__


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["plann"], 2, "did you mean 'plan'?"),
        (["plan"], 2, "Missing argument"),
        (["plan", "absent.yaml"], 2, "no such spec file"),
        (["run", "absent.yaml", "--workers", "0"], 2, "--workers"),
        (["status", "absent"], 2, "no such sweep"),
        (["results", "absent", "-o", "x.txt"], 2, "no such sweep"),
        (["logs", "absent", "trial"], 2, "no such sweep"),
        (["submit", "absent.yaml", "--cluster", "a100"], 2, "no such spec file"),
        (["cancel", "absent"], 2, "no such sweep"),
        (["retry", "absent"], 2, "no such sweep"),
        (["cluster", "chek", "a100"], 2, "'check'"),
        (["cluster", "check", "absent"], 2, "no such cluster"),
    ],
)
def test_wrong_words_are_one_message_and_status_2(words, status, message):
    done = tokscale(*words)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback():
    done = tokscale("plan", "absent.yaml", "--debug")
    assert "Traceback" in done.stderr
    assert done.returncode != 0


PLAIN = """
import sys
from tokscale import front
heavy = {"torch", "lightning", "pandas", "matplotlib", "scipy"}
try:
    front.main(sys.argv[1:])
except SystemExit:
    pass
print("LOADED", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("words", [["--help"], ["presets"], ["schema"], ["plan", "SPEC"], ["plan", "SPEC", "--json"]])
def test_planning_imports_nothing_heavy(words, small_spec):
    words = [str(small_spec) if word == "SPEC" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *words], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_a_plain_import_loads_nothing_heavy():
    modules = (
        "tokscale, tokscale.config, tokscale.cost, tokscale.presets, tokscale.record, tokscale.stage, tokscale.claim"
    )
    code = f"import sys, {modules}, sweeps.planning, slurm.executor\nassert 'torch' not in sys.modules, 'torch'"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0

"""Commands that a person is told to type next, so that they work as they stand."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

DEFAULT_RUNS = Path("runs")


def typed(command: str, runs: Path) -> str:
    """A command on a runs folder, with ``--runs`` unless it is the one that is taken without."""
    usual = Path(os.environ.get("TOKSCALE_RUNS") or DEFAULT_RUNS)
    return command if runs.absolute() == usual.absolute() else f"{command} --runs {shlex.quote(str(runs))}"

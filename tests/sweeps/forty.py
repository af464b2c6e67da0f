"""A sweep of forty trials, and how it looks."""

import re
import time
from dataclasses import replace
from io import StringIO

from rich.console import Console

from sweeps.inspection import Look
from sweeps.status_page import picture
from sweeps.store import StageState, StageStatus

STATES = list(StageState)


FORTY = """\
name: forty
trial:
  data: {kind: procedural, resolution: 16}
  tokenizer: {encoder: pico, decoder: pico, patch: 4}
  training: {images: 640, batch_size: 16}
grid:
  tokenizer.bottleneck.channels: [2, 4]
  training.lr: [1e-3, 2e-3]
  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""


def look_at(plan, statuses=None, **facts):
    known = {**plan.statuses, **(statuses or {})}
    return Look(replace(plan, statuses=known), facts.pop("when", time.time()), **facts)


def shown(look, store, width=200, height=60, *, terminal=True):
    """What stands on a terminal of this size, line by line."""
    console = Console(file=StringIO(), width=width, height=height, force_terminal=terminal, color_system="standard",
                      soft_wrap=not terminal, highlight=False)  # fmt: skip
    console.print(picture(look, console, store))
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()).splitlines()


def rows(lines):
    """Number of a trial -> its row."""
    return {int(found[1]): line for line in lines if (found := re.match(r" *(\d+) +pico-pico", line))}


def key_of(plan, number, kind):
    return next(stage.key for stage in plan.trials[number - 1].stages if stage.kind == kind)


def running(**facts):
    return StageStatus(StageState.running, **{"attempts": 1, "job": "77_3", "node": "n4", **facts})

"""What earlier attempts at a stage say to the next one: how small its passes must be, and whether there is any use.

All of it is read from the stage's folder: how attempts ended from the claim, how they began from ``attempts/NN``, and
which of them somebody forgave (``tokscale retry``): those and all before them no longer count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokscale import claim
from tokscale.errors import MemoryRunOutError, NoProgressError, TokscaleError
from tokscale.record import write_atomically
from tokscale.stage import StageFolder
from tokscale.stages.failures import out_of_memory
from tokscale.training.loop import BEGINNING

MOST_FAILURES = 3
MOST_IN_VAIN = 5  # attempts in a row that were cut short before a new checkpoint
CANCELLED = "cancelled"
FORGIVEN = "forgiven"
SAMPLES = "samples"  # among a stage's checkpoints: batches of images that were sampled so far
ENCODED = "encoded"  # beside them: latents of the images that were encoded so far, and notes of how many
SEEN = "seen.json"  # in an attempt's folder: how it ended, as the cluster saw it
PREVIOUS_END = "JOB_PREVIOUS_END"  # environment variable: how this very job ended before it was started again
_OUT_OF_MEMORY = MemoryRunOutError.cause


@dataclass(frozen=True)
class Attempt:
    """One attempt that is over; ``outcome`` is empty when it vanished, the other two None when it never got to work.

    ``began_at`` counts the images of the checkpoint that it went on from, ``at_once`` those of a pass on one rank.
    """

    outcome: dict[str, Any]
    began_at: int | None = None
    at_once: int | None = None

    @property
    def cause(self) -> str:
        return str(self.outcome.get("cause") or "")

    @property
    def cut_short(self) -> bool:
        """Whether it ended by no fault of its own that anybody knows: stopped, or vanished."""
        return self.outcome.get("state") in (None, "interrupted")


class Past:
    """The attempts at a stage that count and are over, oldest first."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.attempts = attempts

    def pass_size(self, asked: int | None) -> int | None:
        """How many images may pass at once: as asked, and at most half of what ran out of memory."""
        bounds = [attempt.at_once // 2 for attempt in self.attempts if self._halved(attempt) and attempt.at_once]
        if asked is not None:
            bounds.append(asked)
        return min(bounds, default=None)

    def failures(self) -> int:
        """Attempts that count as failures; being stopped is none, running out of memory is bounded by halving."""
        return sum(1 for attempt in self.attempts
                   if attempt.cause not in ("", CANCELLED) and not self._halved(attempt))  # fmt: skip

    def in_vain(self, now_at: int) -> int:
        """How many of the last attempts were cut short without a new checkpoint; the newest is of ``now_at`` images."""
        count = 0
        for attempt in reversed([attempt for attempt in self.attempts if not self._halved(attempt)]):
            if not attempt.cut_short or (attempt.began_at is not None and attempt.began_at < now_at):
                break
            count += 1
        return count

    def check(self, asked: int | None, now_at: int) -> None:
        """Raise what ends the stage for good, where another attempt is of no use."""
        out = self.attempts[-1].cause == _OUT_OF_MEMORY if self.attempts else False
        if self.pass_size(asked) == 0 or (out and self.failures() >= MOST_FAILURES):
            raise out_of_memory("the attempts before this one", 1)
        if self.in_vain(now_at) >= MOST_IN_VAIN:
            raise no_progress()

    @staticmethod
    def _halved(attempt: Attempt) -> bool:
        return attempt.cause == _OUT_OF_MEMORY and attempt.at_once is not None


def past_attempts(folder: StageFolder) -> Past:
    """What is known of the attempts at a stage, from the last that was forgiven on."""
    found: list[Attempt] = []
    for state in claim.outcomes(folder.path):
        if (folder.attempt(state.attempt) / FORGIVEN).exists():
            found.clear()
        else:
            outcome = {**(state.outcome or {}), **_read(folder.attempt(state.attempt) / SEEN)}
            found.append(Attempt(outcome, *beginning(folder, state.attempt)))
    return Past(found)


def note_previous_end(folder: StageFolder) -> None:
    """Keep what the cluster saw of the last attempt's end, as long as this job knows it: that it was out of memory.

    The kernel ends a process for its memory without giving it a word.
    """
    past = claim.outcomes(folder.path)
    if past and os.environ.get(PREVIOUS_END) == _OUT_OF_MEMORY:
        path = folder.attempt(past[-1].attempt) / SEEN
        write_atomically(path, json.dumps({"cause": _OUT_OF_MEMORY}).encode())


def bounded(error: TokscaleError, folder: StageFolder, attempt: int, past: Past) -> TokscaleError:
    """The error that ends an attempt, its ``again`` withdrawn where this was the last of too many."""
    this = Attempt({"state": "interrupted", "cause": error.cause}, *beginning(folder, attempt))
    now = Past([*past.attempts, this])
    if not error.again:
        return error
    if (folder.path / CANCELLED).exists():
        error.again, error.cause = False, CANCELLED
    elif now.in_vain(newest_images(folder)) >= MOST_IN_VAIN:
        return no_progress()
    elif this.cause and (now.failures() >= MOST_FAILURES or now.pass_size(None) == 0):
        error.again = False
    return error


def no_progress() -> NoProgressError:
    return NoProgressError(
        "attempts at this stage end before they get any further", given=f"{MOST_IN_VAIN} in a row",
        allowed="a longer time limit, or checkpoints more often; then `tokscale retry`",
    )  # fmt: skip


def newest_images(folder: StageFolder) -> int:
    """Images of the newest checkpoint, by its name alone, or what was sampled or encoded; 0 where nothing is kept."""
    try:
        names = os.listdir(folder.checkpoints)
    except OSError:
        return 0
    sampled = len(list((folder.checkpoints / SAMPLES).glob("*/[!.]*")))
    encoded = sum(_read(note).get("rows", 0) for note in (folder.checkpoints / ENCODED).glob("[!.]*.json"))
    return max((int(name) for name in names if name.isdigit()), default=sampled + encoded)


def beginning(folder: StageFolder, attempt: int) -> tuple[int | None, int | None]:
    """From how many images an attempt went on, and how many passed at once; None where it did not get that far."""
    begun = _read(folder.attempt(attempt) / BEGINNING)
    return begun.get("from"), begun.get("micro_batch")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

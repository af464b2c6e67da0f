"""The frame around every stage: claim it, check what it stands on, run it, and leave a record as the last thing.

Of several ranks, only rank 0 claims, writes and measures. The others hear from it whether to begin, train with it, and
leave; should one fail, it tells rank 0, whose outcome then says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tokscale import claim
from tokscale.errors import CancelledError, DivergedError, HeldError, StoppedError, StoreError, TokscaleError
from tokscale.record import Record, digest, write_record
from tokscale.stage import StageFolder
from tokscale.stages import (
    decoder_finetune,
    generation,
    latents,
    linear_probe,
    probe,
    reconstruction,
    teacher,
    tokenizer,
)
from tokscale.stages.allocation import freed_memory_kept
from tokscale.stages.attempts import (
    CANCELLED,
    Past,
    beginning,
    bounded,
    newest_images,
    note_previous_end,
    past_attempts,
)
from tokscale.stages.context import Context, Measures
from tokscale.stages.device_check import check_device
from tokscale.stages.failures import is_lost_rank, of_another_rank, recognised
from tokscale.stages.inputs import clear_leftovers, read_description, read_parents, set_aside_diverged
from tokscale.stages.provenance import Meter
from tokscale.training import team as teams
from tokscale.training.loop import Runtime
from tokscale.training.profiling import StageProfile
from tokscale.training.ranks import Ranks, ranks_here
from tokscale.training.stopping import StopFlag, watch_signals
from tokscale.training.team import Team, call_together, follow

STAGES: Mapping[str, Callable[[Context], Measures]] = {
    "teacher": teacher.run,
    "tokenizer": tokenizer.run,
    "decoder_finetune": decoder_finetune.run,
    "reconstruction": reconstruction.run,
    "latents": latents.run,
    "probe": probe.run,
    "generation": generation.run,
    "linear_probe": linear_probe.run,
}
PROFILE = "profile"
"""what a profile of an attempt leaves, below the attempt's folder"""
TRAINED = ("teacher", "tokenizer", "decoder_finetune", "probe")
"""kinds of which all ranks have a part; the others are rank 0's alone"""


def run(path: str, *, micro_batch: int | None = None, **runtime: Any) -> None:
    """Run the stage whose folder this is, unless it is done; in a SLURM step of several tasks, all of them call this.

    ``micro_batch`` bounds how many images pass at once on one rank; without it all of the rank's share do, and after an
    attempt that ran out of memory half as many. The only proof of success is the record. A failure is kept with its
    cause, for status, and raised; its ``again`` says whether the same is worth another attempt. When a living process
    works on the stage, ``HeldError`` is raised and nothing is touched; when somebody cancelled it, ``CancelledError``.
    """
    folder, ranks = StageFolder(Path(path)), ranks_here()
    wanted = Runtime(micro_batch=micro_batch, **runtime)
    with freed_memory_kept():
        if ranks.first:
            _lead(folder, ranks, wanted)
        else:
            _follow(folder, ranks, wanted)


def _lead(folder: StageFolder, ranks: Ranks, runtime: Runtime) -> None:
    """Rank 0's part, and all there is to do for a process that is alone."""
    held = None
    try:
        held = _claimed(folder)
    finally:
        if held is None:
            call_together(folder.path, ranks, None)
    if held is None:
        return
    with held:
        team, past = Team(ranks), Past(())
        try:
            note_previous_end(folder)
            past = past_attempts(folder)
            past.check(runtime.micro_batch, newest_images(folder))
            runtime = replace(runtime, micro_batch=past.pass_size(runtime.micro_batch))
            plan = {"attempt": held.attempt, "micro_batch": runtime.micro_batch}
            team = call_together(folder.path, ranks, plan if folder.kind in TRAINED else None)
            _attempt(folder, held, runtime, team)
        except BaseException as error:
            end = _judged(error, folder, held.attempt, team, past)
            with contextlib.suppress(StoreError):  # on a full disk: the error on its way out says more
                held.release(_outcome(end, ranks, beginning(folder, held.attempt)[1]))
            _dismiss(folder, team)
            if end is error:
                raise
            raise end from error
        held.release({"state": "done"})
        team.end()


def _follow(folder: StageFolder, ranks: Ranks, runtime: Runtime) -> None:
    """The part of another rank, which leaves quietly whenever rank 0 has the last word."""
    met = follow(folder.path, ranks)
    if met is None:
        return
    team, plan = met
    runtime = replace(runtime, micro_batch=plan["micro_batch"])
    try:
        with watch_signals() as flag:
            team.form()
            context = _context(folder, runtime, flag, team, plan["attempt"], lambda: None)
            STAGES[folder.kind](context)
    except (StoppedError, DivergedError):  # agreed among all ranks
        return
    except BaseException as error:
        traceback.print_exc()
        end = recognised(error, plan["micro_batch"])
        if not team.tell(_outcome(end, ranks, plan["micro_batch"])):
            raise end from error


def _claimed(folder: StageFolder) -> claim.Claim | None:
    """The claim on a stage that is not done; None when it is."""
    if folder.record.exists():
        return None
    if (folder.path / CANCELLED).exists():
        raise CancelledError("this stage was cancelled", where=str(folder.path),
                             allowed="`tokscale retry` begins it again")  # fmt: skip
    held = claim.claim(folder.path)
    if held is None:
        raise HeldError("a living process works on this stage", where=str(folder.path),
                        given=str(claim.holder(folder.path)))  # fmt: skip
    if folder.record.exists():  # another finished it just before we got the claim
        held.release({"state": "done"})
        return None
    return held


def _attempt(folder: StageFolder, held: claim.Claim, runtime: Runtime, team: Team) -> None:
    set_aside_diverged(folder)
    clear_leftovers(folder, team.ranks.name)
    with watch_signals() as flag, Meter(folder, held.attempt, team.ranks.world) as meter:
        team.form()
        context = _context(folder, runtime, flag, team, held.attempt, held.check)
        if runtime.compile and not runtime.shard and folder.kind in TRAINED:
            context.notes.append("transformer blocks were compiled: training equals that of plain ones up to rounding")
        measures = _profiled(context) if runtime.profile else STAGES[folder.kind](context)
    held.check()  # a process that was away for longer than its lease must not write over its successor's work
    artifacts = {path.name: context.digests.get(path.name) or digest(path)
                 for path in sorted(folder.artifacts.glob("[!.]*")) if path.is_file()}  # fmt: skip
    parents = {kind: parent.id for kind, parent in context.parents.items()}
    record = Record(folder.kind, context.id, dict(context.config), parents, {**measures, **meter.measures()}, artifacts,
                    meter.provenance(context), context.notes)  # fmt: skip
    write_record(folder.path, record)
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    shutil.rmtree(folder.path / teams.FOLDER, ignore_errors=True)


def _profiled(context: Context) -> Measures:
    """Run a stage with some of its steps under a profiler, of which the record tells."""
    kind, folder = context.folder.kind, context.folder
    trace = folder.attempt(context.attempt) / PROFILE
    context.profile = StageProfile(trace, f"{kind}/{context.id}", context.device, trains=kind in TRAINED)
    context.notes.append("some steps were recorded by a profiler, which took time of its own")
    measures = STAGES[kind](context)
    context.profile.close()
    return measures


def _context(
    folder: StageFolder, runtime: Runtime, flag: StopFlag, team: Team, attempt: int, check: Callable[[], None]
) -> Context:  # fmt: skip
    """An attempt that may begin: what it stands on is there, and the device is sound."""
    if team.ranks.device.type == "cuda":
        torch.cuda.set_device(team.ranks.device)
    check_device(team.ranks.device)
    description = read_description(folder)
    parents = read_parents(folder, description["parents"])
    return Context(description["id"], folder, runtime, flag, team, attempt, check, description["config"], parents,
                   description.get("watch") or {})  # fmt: skip


def _judged(error: BaseException, folder: StageFolder, attempt: int, team: Team, past: Past) -> BaseException:
    """The error that ends the attempt: what it amounts to, where it comes from, and whether to try again."""
    team.abandon()
    end = recognised(error, beginning(folder, attempt)[1])
    if is_lost_rank(end):
        end = of_another_rank(end, team.failure())
    return bounded(end, folder, attempt, past) if isinstance(end, TokscaleError) else end


def _outcome(end: BaseException, ranks: Ranks, at_once: int | None) -> dict[str, Any]:
    """How an attempt ended, for the claim: ``interrupted`` if the same may be begun again, else ``failed``."""
    again = bool(getattr(end, "again", False)) or isinstance(end, KeyboardInterrupt | SystemExit)
    ours = isinstance(end, TokscaleError)
    outcome: dict[str, Any] = {"state": "interrupted" if again else "failed", "again": again}
    cause = getattr(end, "cause", "") if ours or again else "code"
    if cause:
        outcome["cause"] = cause
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    message = str(end) if isinstance(end, StoppedError) else f"{type(end).__name__}: {end}"
    return {**outcome, "message": message, "world_size": ranks.world, "micro_batch": at_once, "node": node}


def _dismiss(folder: StageFolder, team: Team) -> None:
    """Let the other ranks go, whether or not they were ever called."""
    team.end()
    if team.ranks.world > 1 and not team.called:
        with contextlib.suppress(StoreError):
            call_together(folder.path, team.ranks, None)

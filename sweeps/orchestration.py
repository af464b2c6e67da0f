"""``tokscale run``: plan, run what is missing on this machine, collect, report; safe to repeat at any time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from slurm.local import LocalExecutor
from slurm.machine import default_workers
from sweeps import tables
from sweeps.local import PRELOAD, run_missing
from sweeps.planning import Plan, make_plan
from sweeps.progress import Watch, duration
from sweeps.results import failures, log_of, tail, trial_state, write_results
from sweeps.store import StageState, Store
from tokscale import front

# What a worker needs beyond the planned memory of a stage: interpreter, torch and lightning, measured 0.6 GB.
_WORKER_GB = 0.7


def run_here(spec: Path, runs: Path, workers: int | None, *, command: str) -> bool:
    """Run a sweep on this machine to its report; True when every trial is done."""
    started = time.time()
    console = tables.console()
    store = Store(runs)
    plan = make_plan(spec, store)
    report = store.sweep(plan.spec.name) / "report" / "report.html"
    missing = plan.missing()
    if not missing and report.exists():
        console.print(f"{plan.spec.name}: all {len(plan.trials)} trials are done. The report: {report}")
        return True
    store.check_writable()
    store.write_sweep(plan.spec.name, plan.file.text, (
        {"trial": trial.id, "values": dict(trial.values), "stages": [stage.key for stage in trial.stages]}
        for trial in plan.trials
    ))  # fmt: skip
    if missing:
        try:
            plan = _run_stages(plan, store, workers, console)
        except KeyboardInterrupt:
            console.print(f"{plan.spec.name}: stopped. What is done is kept; the same command goes on from here.")
            return False
    write_results(plan, store, command=command, started=started)
    front.command("report")(sweep=plan.spec.name, runs=runs)
    return _farewell(plan, store, console, time.time() - started)


def _run_stages(plan: Plan, store: Store, workers: int | None, console: Console) -> Plan:
    missing = plan.missing()
    largest = max(plan.costs[stage.key].memory_bytes for stage in missing) / 2**30
    count = min(workers or default_workers(_WORKER_GB + largest), len(missing))
    console.print(f"{plan.spec.name}: {len(plan.trials)} trials, {len(missing)} of {len(plan.stages)} stages to run "
                  f"by {count} worker{'s' if count > 1 else ''}", highlight=False)  # fmt: skip
    executor, watch = LocalExecutor(count, preload=PRELOAD), Watch(plan, store, count, console)
    with _sigterm_as_interrupt(), executor, watch:
        return run_missing(plan, store, executor, watch)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: workers save and leave, where a plain death would kill them in the middle."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _farewell(plan: Plan, store: Store, console: Console, seconds: float) -> bool:
    done = sum(trial_state(trial, plan.statuses) is StageState.done for trial in plan.trials)
    for group in failures(plan):
        log = log_of(store, group["stages"][0])
        console.print(f"[red]{group['count']} failed[/red] ({', '.join(group['trials'])})\n{group['cause']}: "
                      f"{group['message']}", highlight=False)  # fmt: skip
        if log is not None:
            console.print(f"the end of {log}:\n{tail(log, 8)}", style="dim", highlight=False, markup=False)
    console.print(f"{plan.spec.name}: {done} of {len(plan.trials)} trials done in {duration(seconds)}", highlight=False)
    return done == len(plan.trials)

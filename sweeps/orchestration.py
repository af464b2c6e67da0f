"""``tokscale run``: plan, run what is missing on this machine, collect, report; safe to repeat at any time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from slurm.local import LocalExecutor
from slurm.machine import cores, default_workers
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
    plan = _validated(make_plan(spec, store), store, console)
    trials = [
        {"trial": trial.id, "values": dict(trial.values), "stages": [stage.key for stage in trial.stages]}
        for trial in plan.trials
    ]
    missing = plan.missing()
    records = [store.folder(stage).record for stage in plan.stages.values()]
    if not missing and store.is_current(plan.spec.name, plan.file.text, trials, records):
        report = store.sweep(plan.spec.name) / "report" / "report.html"
        console.print(f"{plan.spec.name}: all {len(plan.trials)} trials are done. The report: {report}")
        return True
    store.check_writable()
    store.write_sweep(plan.spec.name, plan.file.text, trials)
    if missing:
        try:
            plan = _run_stages(plan, store, workers, console)
        except KeyboardInterrupt:
            console.print(f"{plan.spec.name}: stopped. What is done is kept; the same command goes on from here.")
            return False
    write_results(plan, store, command=command, started=started)
    front.command("report")(sweep=plan.spec.name, runs=runs)
    return _farewell(plan, store, console, time.time() - started)


def _validated(plan: Plan, store: Store, console: Console) -> Plan:
    """The plan after records that do not hold were set aside: done means validly done."""
    done = [stage for key, stage in plan.stages.items() if plan.statuses[key].state is StageState.done]
    faults = store.set_aside_invalid(done)
    for key, fault in faults.items():
        console.print(f"{key} runs again: {fault}", highlight=False)
    return replace(plan, statuses=store.statuses(plan.stages.values())) if faults else plan


def _run_stages(plan: Plan, store: Store, workers: int | None, console: Console) -> Plan:
    missing = plan.missing()
    largest = max(plan.costs[stage.key].memory_bytes for stage in missing) / 2**30
    asked = workers or default_workers(_WORKER_GB + largest)
    count = min(asked, len(missing))
    # Threads change the rounding of sums: they follow from what was asked for, not from how much is left to do.
    threads = max(1, cores() // asked)
    console.print(f"{plan.spec.name}: {len(plan.trials)} trials, {len(missing)} of {len(plan.stages)} stages to run "
                  f"by {count} worker{'s' if count > 1 else ''}", highlight=False)  # fmt: skip
    executor, watch = (
        LocalExecutor(count, threads_per_worker=threads, preload=PRELOAD),
        Watch(plan, store, count, console),
    )
    with _signals_as_interrupt(), executor, watch:
        return run_missing(plan, store, executor, watch)


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """End on SIGTERM, and when the terminal closes, as on Ctrl-C: workers save and leave instead of being killed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    earlier = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


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

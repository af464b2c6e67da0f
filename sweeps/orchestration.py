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
from sweeps.needed_weights import refuse_absent_weights
from sweeps.planning import Plan
from sweeps.progress import Watch, duration
from sweeps.results import failures, log_of, tail, trial_state, write_results
from sweeps.rounds import Rounds, rounds_of
from sweeps.store import StageState, Store, trial_rows
from tokscale import cost, front

# What a worker needs beyond the planned memory of a stage: interpreter, torch and lightning, measured 0.6 GB.
_WORKER_GB = 0.7


def run_here(spec: Path, runs: Path, workers: int | None, *, command: str, small: bool = False) -> bool:
    """Run a sweep on this machine to its report; True when every trial is done."""
    started = time.time()
    console = tables.console()
    store = Store(runs)
    with rounds_of(spec, store, small=small) as rounds:
        rounds.plan = _validated(rounds.plan, store, console)
        if _is_finished(rounds, store):
            plan = rounds.plan
            report = store.sweep(plan.spec.name) / "report" / "report.html"
            console.print(f"{plan.spec.name}: all {len(plan.trials)} trials are done. The report: {report}")
            return True
        refuse_absent_weights(rounds.plan)
        store.check_writable()
        plan = rounds.advance({}) or rounds.plan
        store.write_sweep(plan.spec.name, plan.file.text, trial_rows(plan.trials))
        try:
            plan = _run_stages(plan, store, workers, console, rounds)
        except KeyboardInterrupt:
            console.print(f"{plan.spec.name}: stopped. What is done is kept; the same command goes on from here.")
            return False
    write_results(plan, store, command=command, started=started)
    front.command("report")(sweep=plan.spec.name, runs=runs)
    _farewell(plan, store, console, time.time() - started)
    for line in rounds.findings(plan.statuses):
        console.print(line, highlight=False)
    return rounds.satisfied(plan.statuses)


def _is_finished(rounds: Rounds, store: Store) -> bool:
    """Whether all that is wanted is done and reported."""
    plan = rounds.plan
    if not rounds.satisfied(plan.statuses):
        return False
    done = [stage for key, stage in plan.stages.items() if plan.statuses[key].state is StageState.done]
    records = [store.folder(stage).record for stage in done]
    return store.is_current(plan.spec.name, plan.file.text, trial_rows(plan.trials), records)


def _validated(plan: Plan, store: Store, console: Console) -> Plan:
    """The plan after records that do not hold were set aside: done means validly done."""
    done = [stage for key, stage in plan.stages.items() if plan.statuses[key].state is StageState.done]
    faults = store.set_aside_invalid(done)
    for key, fault in faults.items():
        console.print(f"{key} runs again: {fault}", highlight=False)
    return replace(plan, statuses=store.statuses(plan.stages.values())) if faults else plan


def _run_stages(plan: Plan, store: Store, workers: int | None, console: Console, rounds: Rounds) -> Plan:
    missing = plan.missing()
    if not missing and not rounds.more:
        return plan
    costs = [plan.costs[stage.key] for stage in missing]
    largest = max((cost.memory_bytes + cost.host_bytes for cost in costs), default=0) / 2**30
    asked = workers or default_workers(_WORKER_GB + largest)
    count = asked if rounds.more else min(asked, len(missing))
    # Threads change the rounding of sums: they follow from what was asked for, not from how much is left to do.
    threads = max(1, cores() // asked)
    console.print(f"{plan.spec.name}: {len(plan.trials)} trials, {len(missing)} of {len(plan.stages)} stages to run "
                  f"by {count} worker{'s' if count > 1 else ''}", highlight=False)  # fmt: skip
    if words := rounds.words():
        console.print(words, highlight=False)
    executor, watch = (
        LocalExecutor(count, threads_per_worker=threads, preload=PRELOAD),
        _GrowingWatch(plan, store, count, console),
    )
    with _signals_as_interrupt(), executor, watch:
        return run_missing(plan, store, executor, watch, rounds)


class _GrowingWatch(Watch):
    """A display of a sweep that grows while it runs."""

    def adopt(self, plan: Plan) -> None:
        self.plan = plan
        self.estimate.work |= {key: item.flops for key, item in plan.costs.items()}
        self._labels |= {stage.key: cost.label(trial.config) for trial in plan.trials for stage in trial.stages}
        self._statuses = {**plan.statuses, **self._statuses}


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


def _farewell(plan: Plan, store: Store, console: Console, seconds: float) -> None:
    states = [trial_state(trial, plan.statuses) for trial in plan.trials]
    done, cancelled = states.count(StageState.done), states.count(StageState.cancelled)
    for group in failures(plan):
        log = log_of(store, group["stages"][0])
        console.print(f"[red]{group['count']} failed[/red] ({', '.join(group['trials'])})\n{group['cause']}: "
                      f"{group['message']}", highlight=False)  # fmt: skip
        if log is not None:
            console.print(f"the end of {log}:\n{tail(log, 8)}", style="dim", highlight=False, markup=False)
    ended = f", {cancelled} cancelled," if cancelled else ""
    console.print(f"{plan.spec.name}: {done} of {len(plan.trials)} trials done{ended} in {duration(seconds)}",
                  highlight=False)  # fmt: skip

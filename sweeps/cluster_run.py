"""``tokscale run`` on a cluster: submit, watch, submit again what may be, collect, report; safe to leave and to repeat.

The jobs do not need this process: it watches, gives another chance to what deserves one, and writes the results. When
it is stopped, the jobs go on, and the same command takes up the watch.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from slurm.profiles import ClusterProfile
from sweeps import submission_words, tables
from sweeps.cluster import cluster_errors_as_ours, living, open_executor
from sweeps.hints import typed
from sweeps.history import read_history
from sweeps.inspection import FailureGroup, Look, failure_groups
from sweeps.planning import Plan
from sweeps.policy import decide
from sweeps.progress import Watch, duration
from sweeps.results import trial_state, write_results
from sweeps.rounds import Rounds, rounds_of
from sweeps.store import StageState, Store, trial_rows
from sweeps.submission import Submission, submit
from sweeps.watching import Observer, observe
from tokscale import front
from tokscale.errors import WorkError

_AGAIN_SECONDS = 30.0  # before another try, when the cluster or the runs folder took nothing or not all
_CALM_ANSWERS = 2  # of the queue, before they are acted upon: what a job wrote last may show up late
_CALM_ANSWERS_IN_TROUBLE = 10


def run_on_cluster(spec: Path, runs: Path, profile: ClusterProfile, *, command: str, small: bool = False) -> bool:
    """Run a sweep on a cluster to its report; True when all is done that was wanted."""
    started, console, store = time.time(), tables.console(), Store(runs)
    with rounds_of(spec, store, profile, small=small) as rounds:
        run = ClusterRun(rounds, store, profile, console)
        return _carried(run, command=command, started=started)


def _carried(run: ClusterRun, *, command: str, started: float) -> bool:
    """Run to the end, then write results and report and say how it went."""
    store, name = run.store, run.plan.spec.name
    try:
        plan = run.carry()
    except KeyboardInterrupt:
        run.say(f"\n{name}: no longer watched; its jobs go on. The same command takes up the watch; "
                f"{typed(f'tokscale status {name}', store.root)} shows them, "
                f"{typed(f'tokscale cancel {name}', store.root)} ends them.")  # fmt: skip
        return False
    _collect(plan, store, command=command, started=started, price=run.profile.cost_per_gpu_hour)
    for group in run.failures():
        state = plan.statuses[group.stages[0]].state
        run.say(f"{len(group.stages)} {state.value}: {group.cause}: {group.message}\n  remedy: {group.remedy}")
    done = sum(trial_state(trial, plan.statuses) is StageState.done for trial in plan.trials)
    run.say(f"{name}: {done} of {len(plan.trials)} trials done in {duration(time.time() - started)}; the report: "
            f"{store.sweep(name) / 'report' / 'report.html'}")  # fmt: skip
    for line in run.rounds.findings(plan.statuses):
        run.say(line)
    return run.rounds.satisfied(plan.statuses)


def _collect(plan: Plan, store: Store, *, command: str, started: float, price: float | None) -> None:
    """Write a sweep's results and report, unless they are there and nothing has changed since."""
    name, rows = plan.spec.name, trial_rows(plan.trials)
    records = [store.folder(stage).record for stage in plan.stages.values()]
    if not plan.missing() and store.is_current(name, plan.file.text, rows, records):
        return
    store.write_sweep(name, plan.file.text, rows)
    write_results(plan, store, command=command, started=started, price=price)
    front.command("report")(sweep=name, runs=store.root)


class ClusterRun:
    """The watch over a sweep on a cluster, whose plan may grow."""

    def __init__(self, rounds: Rounds, store: Store, profile: ClusterProfile, console: Console) -> None:
        self.rounds, self.store, self.profile, self.console = rounds, store, profile, console
        self.plan = rounds.plan
        self.last: Look | None = None
        self._due = 0.0  # when the next submission may be tried
        self._said: set[str] = set()

    def carry(self) -> Plan:
        """Go on until nothing is left that could; returns the plan with the states as they are then.

        An error of the first submission is raised: whoever typed the command is still there to read it.
        """
        self.plan = self.rounds.advance({}) or self.plan
        if words := self.rounds.words():
            self.say(words)
        made = submit(self.plan, self.store, self.profile, say=self.say)
        while True:
            self.say(submission_words.report(made, next_too=False))
            if made.remaining:
                self._due = time.monotonic() + _AGAIN_SECONDS
            observer = observe(made.plan, self.store)
            with Watch(made.plan, self.store, 1, self.console) as display:
                larger = self._watch(observer, display)
            if larger is None:
                return self.plan
            made = submit(larger, self.store, self.profile, say=self.say)

    def _watch(self, observer: Observer, display: Watch) -> Plan | None:
        """Watch until nothing is left that could go on (None), or until the plan grows: then the larger one."""
        calm: set[int] = set()
        wanted: frozenset[str] = frozenset()
        for look in observer.looks():
            self.plan, self.last = look.plan, look
            display.show(look)
            self._prune(look)
            if (larger := self.rounds.grow(look.plan)) is not None:
                return larger
            before, wanted = wanted, self._wanted(look)
            if (look.alive and not wanted) or wanted != before:
                calm.clear()
                continue
            queue = observer.queue
            if queue is not None:
                queue.hurry()
            calm.add(len(calm) if queue is None else queue.answers)
            if len(calm) < (_CALM_ANSWERS_IN_TROUBLE if look.trouble and not wanted else _CALM_ANSWERS):
                continue
            if not wanted:
                return None
            if time.monotonic() >= self._due:
                self._submit_again(look)
                observer.queue = queue or observe(look.plan, self.store).queue
                calm.clear()
        raise AssertionError("looks never end")

    def _prune(self, look: Look) -> None:
        """Take the jobs of trials that do badly on their way out of the queue; their marks keep them out."""
        losers = self.rounds.to_prune(look.statuses)
        if not losers:
            return
        keys = {stage.key for stage in self.rounds.mark_pruned(losers)} & living(look.jobs)
        self.say(f"pruned: {', '.join(trial.id for trial in losers)}")
        try:
            with cluster_errors_as_ours():
                executor = open_executor(self.store, self.profile, look.plan.spec.name)
                executor.poll()
                executor.cancel(keys)
        except WorkError as error:  # a job that starts on a cancelled stage ends at once
            self._say_once(f"the jobs of pruned trials could not be cancelled: {error}")

    def _wanted(self, look: Look) -> frozenset[str]:
        """The stages that would be submitted now."""
        ends = read_history(self.store.sweep(look.plan.spec.name)).ends()
        return frozenset(decide(look.plan.stages, look.statuses, ends, living(look.jobs)).submit)

    def _submit_again(self, look: Look) -> Submission | None:
        """Submit what goes on; a cluster that is away, or a disk without room, is waited for."""
        self._due = time.monotonic() + _AGAIN_SECONDS
        try:
            made = submit(look.plan, self.store, self.profile, say=self.say)
        except WorkError as error:
            self._say_once(f"paused, nothing is submitted until this is mended: {error}")
            return None
        if made.submitted:
            self.say(submission_words.again(made))
        for words in made.words:
            self._say_once(words)
        if not made.remaining:
            self._due = 0.0
            self._said.clear()
        return made

    def failures(self) -> list[FailureGroup]:
        """Failures by cause at the last look."""
        return [] if self.last is None else failure_groups(self.last, self.store)

    def say(self, words: str) -> None:
        """Print words, above the display where there is one."""
        self.console.print(words, highlight=False, markup=False)

    def _say_once(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            self.say(words)

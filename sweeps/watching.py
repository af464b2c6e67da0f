"""Looking at a sweep at work: at the store often, at the queue seldom, and never waiting for a queue that hangs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from slurm.cluster import ClusterError
from slurm.executor import Executor, JobState, JobStatus
from slurm.profiles import ClusterProfile, ProfileError, load_profile
from sweeps.cluster import LEDGER_NAME, open_executor
from sweeps.history import read_history
from sweeps.inspection import Effort, Look, stage_log
from sweeps.planning import Plan
from sweeps.progress import OPEN, Taken, Watch, readings, seconds_left
from sweeps.resources import Allocator
from sweeps.standing import standings
from sweeps.status_tables import clock
from sweeps.store import StageState, StageStatus, Store
from tokscale.errors import UsageError
from tokscale.stage import Stage

FIRST_PATIENCE = 20.0  # seconds for the first answer of the queue: a status without it says less
QUEUE_SECONDS = (2.0, 30.0)  # between two questions to the queue: while it changes, and while it does not
_STORE_SECONDS = 1.0
_IDLE_SHARE = 5.0  # of the time that a look or an answer takes, to be left in peace before the next
_ESTIMATE_SECONDS = 60.0
_MEMORY_SECONDS = 60.0
_NOT_BEGUN = StageStatus(StageState.new)
_SILENCE = "does not answer"
_CALM_LOOKS = 2  # with nothing queued or running, and the watch is over
_CALM_LOOKS_IN_TROUBLE = 10


class Queue:
    """A cluster's queue, asked in a thread of its own: one question at a time, whatever becomes of it."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.jobs: Mapping[str, JobStatus] = {}
        self.when: float | None = None  # of the last whole answer
        self.answers = 0
        self.reached = False  # whether the last answer was of the queue itself
        self._said: tuple[str, ...] = ()
        self._since: dict[str, float] = {}
        self._asked = 0.0
        self._due = 0.0
        self._interval = QUEUE_SECONDS[0]
        self._thread: threading.Thread | None = None

    def ask(self, patience: float = 0.0) -> None:
        """Ask when it is time to, and wait for the answer for as long as ``patience`` lasts (seconds)."""
        if self._thread is None and time.monotonic() >= self._due:
            self._asked = time.time()
            self._thread = threading.Thread(target=self._ask, name="queue", daemon=True)
            self._thread.start()
        if self._thread is not None:
            self._thread.join(patience)
            if not self._thread.is_alive():
                self._thread = None

    def hurry(self) -> None:
        """Have the next question asked soon: something is about to end."""
        self._interval = QUEUE_SECONDS[0]
        self._due = min(self._due, time.monotonic() + self._interval)

    @property
    def trouble(self) -> tuple[str, ...]:
        """What could not be asked, since when, and of when the states of jobs are."""
        said = list(dict.fromkeys(self._said))
        if self._thread is not None and time.time() - self._asked > FIRST_PATIENCE:
            said = [f"the cluster {_SILENCE}", *(words for words in said if not _unreached(words))]
        now = time.time()
        subjects = {words: words.partition(":")[0] for words in said if _SILENCE in words}
        self._since = {subject: self._since.get(subject, now) for subject in subjects.values()}
        known = "jobs are not known yet" if self.when is None else f"queue states are as of {clock(self.when)}"
        told = []
        for words in said:
            since = self._since.get(subjects.get(words, ""), now)
            lasting = f" (since {clock(since)})" if now - since >= 1 else ""
            told.append(f"{words}{lasting}; {known}" if _unreached(words) else f"{words}{lasting}")
        return tuple(told)

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            jobs = self.executor.poll()
            said = tuple(getattr(self.executor, "trouble", ()))
        except (ClusterError, OSError) as error:
            jobs, said = dict(self.jobs), (f"the cluster {_SILENCE}: {str(error).splitlines()[0]}",)
        changed = jobs != self.jobs
        self.jobs, self._said = jobs, said
        self.reached = not any(_unreached(words) for words in said)
        if self.reached:
            self.when = time.time()
        self._interval = QUEUE_SECONDS[0] if changed else min(1.5 * self._interval, QUEUE_SECONDS[1])
        # many who watch shall not ask in step, and a slow answer is a plea for fewer questions
        pause = max(self._interval * random.uniform(0.8, 1.2), _IDLE_SHARE * (time.monotonic() - began))
        self._due = time.monotonic() + pause
        self.answers += 1


class Observer:
    """Looks at a sweep, and keeps what a later look need not read again."""

    def __init__(self, plan: Plan, store: Store, queue: Queue | None = None, profile: ClusterProfile | None = None):
        self.plan, self.queue, self.profile = plan, queue, profile
        self.store = _Remembering(store.root, plan.statuses)
        self._taken = Taken(plan, store)
        self._allocator: Allocator | None = None
        self._allocated = -float("inf")

    def look(self, patience: float = 0.0) -> Look:
        """What there is to see now; ``patience`` is how long to wait for the queue's answer (seconds)."""
        jobs: Mapping[str, JobStatus] = {}
        if self.queue is not None:
            self.queue.ask(patience)
            jobs = self.queue.jobs
            self.store.waiting = {
                key for key, job in jobs.items()
                if self.queue.reached and job.state is JobState.pending and job.log is None
            }  # fmt: skip
        self.plan = replace(self.plan, statuses=standings(self.plan, self.store, jobs))
        running = [key for key, status in self.plan.statuses.items() if status.state is StageState.running]
        read = readings(self.store, running)
        self._taken.read(self.plan.statuses)
        left: dict[str, float] = {}
        for key in running:
            since = jobs[key].started if key in jobs else None
            seconds = seconds_left(key, read, self._taken.wall, since)
            if seconds is not None:
                left[key] = seconds
        shares = {key: reading.share for key, reading in read.items()}
        return Look(
            self.plan, time.time(), read, left, jobs, self._effort(shares, len(running)),
            self.queue.when if self.queue is not None else None, self.queue.trouble if self.queue is not None else (),
        )  # fmt: skip

    def looks(self) -> Iterator[Look]:
        """Look again and again, as often as is good for the store and the cluster."""
        yield self.look(FIRST_PATIENCE)
        while True:
            began = time.monotonic()
            look = self.look()
            took = time.monotonic() - began
            yield look
            time.sleep(min(max(_STORE_SECONDS, _IDLE_SHARE * took), QUEUE_SECONDS[1]))

    def _effort(self, shares: Mapping[str, float], at_once: int) -> Effort:
        taken, statuses = self._taken, self.plan.statuses
        on_gpus = taken.gpu_seconds > 0 or (taken.stages == 0 and bool(self.profile and self.profile.gpus_per_node))
        spent = (taken.gpu_seconds if on_gpus else taken.wall_seconds) / 3600 if taken.stages else None
        hours = self._hours_left(shares)
        if hours is None:
            seconds = taken.wall.seconds_left(statuses, shares)
            devices = taken.gpu.seconds_left(statuses, shares) if on_gpus else seconds
            hours = None if seconds is None or devices is None else (seconds / 3600, devices / 3600)
        if hours is None:
            return Effort(spent, None, None, at_once, on_gpus)
        return Effort(spent, hours[1], 3600 * hours[0] / at_once if at_once else None, at_once, on_gpus)

    def _hours_left(self, shares: Mapping[str, float]) -> tuple[float, float] | None:
        """Hours of stages and of devices until all is done, as the sweep's cluster would have it; None if unknown."""
        if self.profile is None:
            return None
        now = time.monotonic()
        if self._allocator is None or now - self._allocated > _ESTIMATE_SECONDS:
            self._allocator, self._allocated = Allocator(self.profile, self.plan, self.store), now
        hours = devices = 0.0
        for key, status in self.plan.statuses.items():
            if status.state not in OPEN:
                continue
            try:
                allocation = self._allocator.of(key)
            except UsageError:  # it cannot run there, so it takes nothing
                continue
            if allocation.hours is None or allocation.gpu_hours is None:
                return None
            hours += allocation.hours * (1 - shares.get(key, 0.0))
            devices += allocation.gpu_hours * (1 - shares.get(key, 0.0))
        return hours, devices


class _Remembering(Store):
    """A store that for a while does not look again at stages of which nothing can have changed.

    That are those that are done, and those that nobody has begun while their jobs wait (``waiting``): nearly all of a
    large sweep. What people do by hand in the folders shows when the while is over.
    """

    def __init__(self, root: Path, found: Mapping[str, StageStatus]) -> None:
        super().__init__(root)
        self.waiting: Collection[str] = ()
        self._found = dict(found)
        self._since = time.monotonic()

    def statuses(self, stages: Iterable[Stage]) -> dict[str, StageStatus]:
        wanted = list(stages)
        if time.monotonic() - self._since > _MEMORY_SECONDS:
            self._found, self._since = {}, time.monotonic()
        known = {stage.key: self._found[stage.key] for stage in wanted if self._stays(stage.key)}
        fresh = super().statuses([stage for stage in wanted if stage.key not in known])
        self._found |= fresh
        return known | fresh

    def _stays(self, key: str) -> bool:
        found = self._found.get(key)
        if found is None:
            return False
        return found.state is StageState.done or (found == _NOT_BEGUN and key in self.waiting)


def observe(plan: Plan, store: Store) -> Observer:
    """The observer of a sweep, with the cluster's queue where any sweep of this runs folder was submitted to one."""
    ledgers = [store.sweep(name) / LEDGER_NAME for name in store.sweep_names()]
    if not any(path.exists() for path in ledgers):
        return Observer(plan, store)
    name = read_history(store.sweep(plan.spec.name)).last("cluster") or plan.spec.cluster
    profile = None
    if name is not None:
        try:
            profile = load_profile(name)
        except ProfileError:  # it was submitted from another folder: its jobs can be asked for all the same
            profile = None
    executor = open_executor(store, profile or ClusterProfile(name or "cluster"), plan.spec.name)
    return Observer(plan, store, Queue(executor), profile)


def watch(observer: Observer, display: Watch) -> Look:
    """Show a sweep until nothing of it is queued or running; returns the last look."""
    calm: set[int] = set()
    for number, look in enumerate(observer.looks()):
        display.show(look)
        if look.complete:
            return look
        if look.alive:
            calm.clear()
            continue
        if observer.queue is None:
            calm.add(number)
        elif observer.queue.when is not None:
            observer.queue.hurry()
            calm.add(observer.queue.answers)
        # A stage that has just ended may not show yet: between two jobs, or on a file system that lags behind.
        if len(calm) >= (_CALM_LOOKS if not look.trouble else _CALM_LOOKS_IN_TROUBLE):
            return look
    raise AssertionError("looks never end")


def follow(observer: Observer, key: str, path: Path, say: Callable[[str], None], rank: int = 0) -> None:
    """Say what is added to a stage's log until the stage has ended; goes on with the log of its next attempt."""
    position = path.stat().st_size
    for look in observer.looks():
        text, position = _added(path, position)
        say(text)
        newest = stage_log(observer.store, key, look.jobs.get(key), rank)
        if newest is not None and newest != path:
            say(f"{newest}\n")
            path, position = newest, 0
        elif not look.statuses[key].state.alive:
            say(_added(path, position)[0])
            return


def _added(path: Path, position: int) -> tuple[str, int]:
    """What a file holds beyond a position, and where it ends; nothing while it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(position)
            content = file.read()
    except OSError:
        return "", position
    return content.decode(errors="replace"), position + len(content)


def _unreached(words: str) -> bool:
    """Whether a trouble means that the queue was not seen, and not only how jobs ended."""
    return _SILENCE in words and not words.startswith("accounting")

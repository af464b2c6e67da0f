"""The executor of this machine: a few warm worker processes that run jobs one after another."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterable, Sequence

from slurm.executor import Executor, Job, JobState, JobStatus
from slurm.machine import cores, default_workers, visible_gpus
from slurm.process import EXIT_SECONDS, WorkerProcess
from slurm.queue import JobQueue
from slurm.threads import short_waits

MEMORY_PER_WORKER_GB = 2.0  # torch and a small model
LONGEST_SLEEP = 1.0  # a death that the channel does not show is noticed after this many seconds


class LocalExecutor(Executor):
    """Runs jobs in at most ``workers`` processes (default: what cores and memory allow).

    A process starts when a job needs it, imports ``preload`` first, and takes job after job: as many as it likes, or
    ``max_jobs_per_worker``. Each has ``threads_per_worker`` threads (default: cores / workers) and one of ``gpus`` in
    turn (default: all that are visible). A worker that dies is a failed job, and another takes its place. Cancelled
    jobs have ``grace_seconds`` between SIGTERM and SIGKILL. Nothing outlives this process, however it ends.

    To be used from one thread.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        threads_per_worker: int | None = None,
        preload: Sequence[str] = (),
        max_jobs_per_worker: int | None = None,
        grace_seconds: float = 30.0,
        gpus: Sequence[str] | None = None,
    ):
        self.workers = workers if workers is not None else default_workers(MEMORY_PER_WORKER_GB)
        if self.workers < 1:
            raise ValueError(f"workers is {workers}, allowed: 1 or more")
        self.threads_per_worker = threads_per_worker or max(1, cores() // self.workers)
        self.preload = tuple(preload)
        self.max_jobs_per_worker = max_jobs_per_worker
        self.grace_seconds = grace_seconds
        self.gpus = visible_gpus() if gpus is None else tuple(gpus)
        self._queue = JobQueue()
        self._alive: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._closed = False

    def submit(self, jobs: Sequence[Job]) -> None:
        if self._closed:
            raise ValueError("jobs were submitted to an executor that is closed")
        self._queue.add(jobs)
        if self.preload:
            # Workers that must wait for their first job spend the time importing.
            while len(self._alive) < min(self.workers, self._queue.unfinished) and self._start_worker():
                pass
        self._start_jobs()

    def poll(self) -> dict[str, JobStatus]:
        self._advance()
        return dict(self._queue.statuses)

    def wait(self, timeout: float | None = None) -> dict[str, JobStatus]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._advance()
            changed = self._queue.take_changed()
            if changed or not self._queue.unfinished or (deadline is not None and time.monotonic() >= deadline):
                return changed
            self._sleep(deadline)

    def cancel(self, keys: Iterable[str]) -> None:
        wanted = set(keys)
        if unknown := wanted - self._queue.jobs.keys():
            raise ValueError(f"no such jobs: {', '.join(sorted(unknown))}")
        self._queue.cancel(wanted)
        for worker in self._alive:
            if worker.job is not None and worker.job.key in wanted and not worker.cancelled:
                worker.terminate(time.monotonic() + self.grace_seconds)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.cancel(list(self._queue.jobs))
            for worker in self._alive:
                if worker.job is None:
                    worker.dismiss(time.monotonic() + EXIT_SECONDS)
            while self._alive:
                self._sleep(None)
                self._advance()
        finally:
            # Also when a second Ctrl-C cuts the grace short.
            for worker in list(self._alive):
                self._bury(worker)
            self._selector.close()

    def _advance(self) -> None:
        """Hear what the workers have to say, bury the dead, kill the overdue, start what can start."""
        for worker in list(self._alive):
            # Asked before listening: what a dead worker said last is then heard in full.
            code = worker.exit_code()
            for answer in worker.receive():
                self._job_ended(worker, answer["failure"], answer["leave"])
            if worker.hung_up and worker.channel in self._selector.get_map():
                self._selector.unregister(worker.channel)
                worker.kill_at = min(worker.kill_at or math.inf, time.monotonic() + EXIT_SECONDS)
            if code is not None:
                self._bury(worker)
            elif worker.kill_at is not None and time.monotonic() >= worker.kill_at:
                worker.kill()
                worker.kill_at += LONGEST_SLEEP  # again, should it be stuck in a system call
        self._start_jobs()

    def _start_jobs(self) -> None:
        while not self._closed and (job := self._queue.first()) is not None:
            worker = next((one for one in self._alive if one.job is None and one.kill_at is None), None)
            if worker is None and len(self._alive) < self.workers:
                worker = self._start_worker()
            if worker is None:
                return
            try:
                worker.send(job)
            except OSError:  # it died while it was idle
                self._bury(worker)
                continue
            worker.started = time.time()
            self._queue.start(self._status(worker, JobState.running))

    def _start_worker(self) -> WorkerProcess | None:
        """A new worker; None where the system refuses one but others can carry on."""
        slot = min(set(range(self.workers)) - {worker.slot for worker in self._alive})
        threads = str(self.threads_per_worker)
        environment = {**short_waits(os.environ), **os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        try:
            worker = WorkerProcess(slot, environment, self.preload)
        except OSError:
            if self._alive:
                return None
            raise
        self._selector.register(worker.channel, selectors.EVENT_READ)
        self._alive.append(worker)
        return worker

    def _job_ended(self, worker: WorkerProcess, failure: str | None, leave: bool, code: int | None = None) -> None:
        if failure is None:
            status = self._status(worker, JobState.done)
        elif worker.cancelled:
            status = self._status(worker, JobState.cancelled, "cancelled while it ran", code)
        else:
            status = self._status(worker, JobState.failed, failure, code)
        self._queue.settle(status)
        worker.job = None
        worker.jobs_run += 1
        worn = self.max_jobs_per_worker is not None and worker.jobs_run >= self.max_jobs_per_worker
        if leave or worn or worker.cancelled:
            worker.dismiss(time.monotonic() + EXIT_SECONDS)

    def _bury(self, worker: WorkerProcess) -> None:
        """Take a dead worker away; the job that it died of has failed."""
        code = worker.end()
        if worker.job is not None:
            job = worker.job
            _append(job, worker.own_output())
            self._job_ended(worker, f"{describe_exit(code)}; its log: {job.log}", leave=True, code=code)
        self._alive.remove(worker)
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.release()

    def _status(
        self, worker: WorkerProcess, state: JobState, reason: str = "", exit_code: int | None = None
    ) -> JobStatus:
        assert worker.job is not None
        return JobStatus(
            key=worker.job.key,
            state=state,
            reason=reason,
            started=worker.started,
            ended=time.time() if state.final else None,
            host=socket.gethostname(),
            worker=str(worker.process.pid),
            exit_code=exit_code,
        )

    def _sleep(self, deadline: float | None) -> None:
        """Sleep until a worker speaks or dies, or the next deadline."""
        now = time.monotonic()
        # A worker that hung up is a process about to end: nothing but its exit status is left to hear of it.
        longest = 0.01 if any(worker.hung_up for worker in self._alive) else LONGEST_SLEEP
        ends = [now + longest, *(worker.kill_at for worker in self._alive if worker.kill_at is not None)]
        if deadline is not None:
            ends.append(deadline)
        self._selector.select(max(0.0, min(ends) - now))


def describe_exit(code: int) -> str:
    """An exit status in words, for a process that ended before its job did."""
    if code >= 0:
        return f"the process exited with status {code} in the middle of the job"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the kernel does this when memory runs out)" if name == "SIGKILL" else ""
    return f"the process was killed by {name}{hint}"


def _append(job: Job, text: bytes) -> None:
    """Add to a job's log what its worker said before it got so far as to open it."""
    if text:
        # The status says what happened, with or without a log.
        with contextlib.suppress(OSError):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with open(job.log, "ab") as file:
                file.write(text)

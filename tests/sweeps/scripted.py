"""Clusters whose answers are given, and a clock that only sleeping moves."""

import threading

from slurm.executor import Executor
from tokscale.record import Record, write_record


class Scripted(Executor):
    """An executor whose answers are given: each is a mapping of statuses and what could not be asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.trouble = ()
        self.asked = 0

    def poll(self):
        self.asked += 1
        jobs, self.trouble = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return dict(jobs)

    def submit(self, jobs):
        raise AssertionError("a watcher submits nothing")

    def wait(self, timeout=None):
        raise AssertionError("a watcher polls")

    def cancel(self, keys):
        raise AssertionError("a watcher cancels nothing")

    def close(self):
        pass


class Hanging(Scripted):
    """An executor that does not answer until it is let go."""

    def __init__(self):
        super().__init__(({}, ()))
        self.released = threading.Event()

    def poll(self):
        self.released.wait()
        return super().poll()


def finish(store, stage):
    store.prepare(stage)
    write_record(
        store.folder(stage).path, Record(stage.kind, stage.id, {}, {}, {"wall_seconds": 60.0, "gpu_seconds": 0.0})
    )


def settle(queue):
    """Wait for an answer that is under way."""
    while queue._thread is not None and queue._thread.is_alive():
        queue._thread.join()

"""What the tasks of a SLURM step do in tests: run a stage, and have something happen to one rank after some steps."""

import errno
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch
from torch.distributed.checkpoint import FileSystemWriter

from tokscale import stages
from tokscale.training import loop
from tokscale.training.callbacks import Budget

PATIENCE = 120.0
STEP = 3


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def signalled():
    signal.raise_signal(signal.SIGUSR2)


def signalled_without_room():
    """A signal, and then a disk that takes no more of this rank's parts."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    FileSystemWriter.write_data = full
    signalled()


def signalled_early():
    """As ``signalled``, after the first step."""
    signalled()


def signalled_later():
    """As ``signalled``, for a run that has gone on from there."""
    signalled()


signalled_early.step, signalled_later.step = 1, 6


def loader_signalled():
    """What SLURM does to all processes of a step, here to those of the data loader."""
    assert multiprocessing.active_children()
    for process in multiprocessing.active_children():
        for number in (signal.SIGUSR2, signal.SIGTERM):
            os.kill(process.pid, number)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


class Eventful(Budget):
    """Counts steps, and lets something happen after the third, or after the ``step`` that the event names."""

    event = None

    def on_train_batch_end(self, trainer, task, *rest):
        super().on_train_batch_end(trainer, task, *rest)
        event = Eventful.event
        if event is not None and task.step == getattr(event, "step", STEP):
            event()


def main(path, log, environment, event, options):
    """One task, its output in a file of its own."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.update(environment)
    torch.set_num_threads(1)
    loop.Budget, Eventful.event = Eventful, event
    stages.run(path, progress_seconds=0.0, **options)


class Step:
    """The tasks of a SLURM step on a stage, with the variables that srun gives them.

    ``events`` happen to ranks by number.
    """

    def __init__(self, folder, world, *, nodes=1, job="77", events=None, **options):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        per_node = world // nodes
        common = {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "0", "SLURM_NTASKS": world, "SLURM_STEP_NUM_TASKS": world,
                  "SLURM_NNODES": nodes, "SLURM_STEP_NUM_NODES": nodes, "SLURM_NTASKS_PER_NODE": per_node}  # fmt: skip
        self.logs = [Path(f"{folder.path}-{job}-{rank}.log") for rank in range(world)]
        self.tasks = []
        for rank, log in enumerate(self.logs):
            own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank % per_node, "SLURM_NODEID": rank // per_node}
            environment = {name: str(value) for name, value in (common | own).items()}
            arguments = (str(folder.path), str(log), environment, (events or {}).get(rank), options)
            self.tasks.append(context.Process(target=main, args=arguments))
        for task in self.tasks:
            task.start()

    def finish(self):
        """The exit status of each task, when all have ended."""
        try:
            for task in self.tasks:
                task.join(PATIENCE)
            return [task.exitcode for task in self.tasks]
        finally:
            for task in self.tasks:
                task.kill()

    @property
    def output(self):
        return "\n".join(log.read_text() for log in self.logs)

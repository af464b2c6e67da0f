"""The parent's end of one worker: starts the process, sends it jobs, hears its answers, notices its death."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from slurm.executor import Job

EXIT_SECONDS = 5.0  # for a process that has nothing left to do


class WorkerProcess:
    """A worker in a session of its own, so that Ctrl-C in the terminal reaches only the parent."""

    def __init__(self, slot: int, environment: Mapping[str, str], preload: Sequence[str]):
        self.slot = slot
        self.job: Job | None = None
        self.started = 0.0
        self.jobs_run = 0
        self.cancelled = False
        self.hung_up = False
        self.kill_at: float | None = None  # a worker with a deadline gets no further job
        self._unread = b""
        # Whatever it says outside of a job, an import that fails at the start above all.
        self._own_output = tempfile.TemporaryFile()  # noqa: SIM115
        self.channel, theirs = socket.socketpair()
        read_end, self._lifeline = os.pipe()
        # Not `python -m`, which would put the current folder first on the path, whatever modules lie there.
        code = (
            f"import sys; sys.path[:] = {[str(entry) for entry in sys.path]!r}; from slurm.worker import main; "
            f"main({theirs.fileno()}, {read_end}, {list(preload)!r})"
        )
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=self._own_output,
                stderr=self._own_output,
                env=dict(environment),
                pass_fds=(theirs.fileno(), read_end),
                start_new_session=True,
            )
        except OSError:
            self.release()
            raise
        finally:
            theirs.close()
            os.close(read_end)

    def send(self, job: Job) -> None:
        """Hand over a job; raises ``OSError`` when the worker is gone."""
        message = {"key": job.key, "target": job.target, "arguments": job.arguments, "log": os.path.abspath(job.log)}
        self.channel.sendall(json.dumps(message).encode() + b"\n")
        self.job = job

    def receive(self) -> list[dict[str, Any]]:
        """The answers that have arrived, without waiting; notes when the worker has closed its end."""
        try:
            while block := self.channel.recv(1 << 16, socket.MSG_DONTWAIT):
                self._unread += block
            self.hung_up = True
        except ConnectionResetError:
            self.hung_up = True
        except BlockingIOError:
            pass
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def exit_code(self) -> int | None:
        """Exit status of the process, negative for a signal, or None while it lives."""
        return self.process.poll()

    def terminate(self, kill_at: float) -> None:
        """Ask with SIGTERM; what the job started hears of it from the job."""
        self.cancelled = True
        self.kill_at = kill_at
        self.process.terminate()

    def dismiss(self, kill_at: float) -> None:
        """Let the worker go after its last job."""
        self.kill_at = kill_at
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill the worker and everything that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> int:
        """Make sure that nothing of the worker is left, its own children included; the exit status of its process."""
        self.kill()
        return self.process.wait()

    def own_output(self) -> bytes:
        """What the worker printed outside of jobs."""
        self._own_output.seek(0)
        return self._own_output.read()

    def release(self) -> None:
        """Close our ends of its connections; the lifeline takes with it what might still be alive."""
        self._own_output.close()
        self.channel.close()
        os.close(self._lifeline)

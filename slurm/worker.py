"""A worker: one process that runs many jobs, one after another, so that what they import is imported once.

It reads jobs from a socket and answers there, one JSON object a line. Standard output and error belong to the job:
while it runs, both lead to its log at the level of file descriptors, so that C++ messages and crashes land there too.

It must not outlive its parent. The parent holds the other end of a pipe, the lifeline, that nobody ever writes to: when
it closes, for whatever reason, the worker and everything that it started is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

REASON_LENGTH = 4000
# After these nothing else works in this process: no memory is left, or the GPU's context is lost (torch's name for it).
LEAVE_AFTER = ("MemoryError", "AcceleratorError")


def main(channel: int, lifeline: int, modules: list[str]) -> None:
    """Import modules, then serve jobs until the parent closes the channel."""
    for descriptor in (channel, lifeline):
        os.set_inheritable(descriptor, False)
    die_with_parent(lifeline)
    # A forked child (a data loader's) that kept the socket open would hide this process's death from the parent.
    os.register_at_fork(after_in_child=lambda: _close_quietly(channel))
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    parent = socket.socket(fileno=channel)
    preload(modules)
    for line in parent.makefile("r", encoding="utf-8"):
        answer = run(json.loads(line))
        parent.sendall(json.dumps(answer).encode() + b"\n")
        gc.collect()  # while the parent picks the next job: models are full of cycles
        if answer["leave"]:
            break


def die_with_parent(lifeline: int) -> None:
    """Have this process group killed when the other end of the lifeline closes.

    A thread does it everywhere. On Linux the kernel does it too: a thread cannot run while a job holds the interpreter
    lock in a long C call. The parent-death signal of prctl would spare the job's own children, and would fire when the
    thread that started the worker ends.
    """
    group = os.getpgrp()
    assert group == os.getpid(), "a worker leads a process group of its own"

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(group, signal.SIGKILL)

    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(lifeline, fcntl.F_SETOWN, -group)
            fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # Started last: a lifeline that closed before the kernel was told is read here as closed.
    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def preload(modules: list[str]) -> None:
    """Import what jobs will need; a module that fails to import is reported by the job that needs it."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:
            traceback.print_exc()
    # What is imported stays: no collection needs to walk it again.
    gc.freeze()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job with its log as standard output and error; the answer says whether it ended well and, if not, why."""
    answer: dict[str, Any] = {"key": job["key"], "failure": None, "leave": False}
    try:
        with output_to(job["log"]), unchanged_process():
            try:
                call(job["target"], job["arguments"])
            except BaseException as error:
                if not (isinstance(error, SystemExit) and error.code in (None, 0)):
                    answer["failure"] = describe(error)
                    traceback.print_exception(type(error), error, _below_this_file(error))
                answer["leave"] = any(kind.__name__ in LEAVE_AFTER for kind in type(error).__mro__)
    except OSError as error:  # the log cannot be opened or written
        answer["failure"] = answer["failure"] or describe(error)
    return answer


def call(target: str, arguments: list[Any] | dict[str, Any]) -> None:
    """Import ``module:function`` and call it."""
    module, _, path = target.partition(":")
    function: Callable[..., object] | Any = importlib.import_module(module)
    for name in path.split("."):
        function = getattr(function, name)
    if isinstance(arguments, dict):
        function(**arguments)
    else:
        function(*arguments)


def describe(error: BaseException) -> str:
    """Type and message of an exception."""
    message = str(error)
    kind = type(error).__name__
    return (f"{kind}: {message}" if message else kind)[:REASON_LENGTH]


@contextlib.contextmanager
def output_to(log: str) -> Iterator[None]:
    """Lead descriptors 1 and 2 to the end of a file, and back."""
    os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    kept = os.dup(1), os.dup(2)
    flush_output()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    try:
        yield
    finally:
        flush_output()
        for descriptor, copy in enumerate(kept, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)


def flush_output() -> None:
    """Empty the buffers of Python and of C into the descriptors."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Give the next job the environment, folder, streams and signal handlers that this one found."""
    environment, folder, streams = dict(os.environ), os.getcwd(), (sys.stdout, sys.stderr)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.stdout, sys.stderr = streams
        os.chdir(folder)
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)


def _close_quietly(descriptor: int) -> None:
    """Let go of a descriptor but keep its number taken, for the object that will close it again."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _below_this_file(error: BaseException) -> Any:
    """The traceback from the job's own code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace

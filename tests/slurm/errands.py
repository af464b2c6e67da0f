"""Functions for the workers of these tests to run."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path


def note(file: str, text: str) -> None:
    with open(file, "a") as out:
        out.write(text + "\n")


def say_everywhere() -> None:
    print("from print")
    print("from stderr", file=sys.stderr)
    os.write(2, b"from a descriptor\n")
    ctypes.CDLL(None).puts(b"from C, buffered")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)


def fail(message: str) -> None:
    raise ValueError(message)


def run_out_of_memory() -> None:
    raise MemoryError("no room")


class AcceleratorError(RuntimeError):
    """As torch calls an error that leaves the GPU's context unusable."""


def lose_the_gpu() -> None:
    raise AcceleratorError("device-side assert")


def die(how: str) -> None:
    print("about to die")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    else:
        os._exit(7)


def disturb() -> None:
    os.environ["DISTURBED"] = "yes"
    os.chdir("/")
    sys.stdout = None
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def process_facts(file: str) -> None:
    threads = [os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT")]
    handler = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    facts = os.getpid(), *threads, os.environ.get("DISTURBED"), os.getcwd(), handler
    print("facts written")
    note(file, " ".join(str(fact) for fact in facts))


def wait_for(file: str, started: str | None = None) -> None:
    if started:
        note(started, str(os.getpid()))
    while not Path(file).exists():
        time.sleep(0.005)


def save_on_sigterm(started: str, saved: str) -> None:
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    note(started, str(os.getpid()))
    while not asked:
        time.sleep(0.005)
    note(saved, "saved")


def ignore_sigterm(started: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(started, str(os.getpid()))
    time.sleep(600)


def hold_the_interpreter(started: str) -> None:
    """Never lets another thread of this process run."""
    note(started, str(os.getpid()))
    # Exponential backtracking in one C call that keeps the interpreter lock.
    re.match("(a+)+b", "a" * 80)


def start_child_and_rest(started: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    note(started, f"{os.getpid()} {child.pid}")
    time.sleep(600)


def note_gpu(file: str, go: str) -> None:
    note(file, os.environ["CUDA_VISIBLE_DEVICES"])
    wait_for(go)

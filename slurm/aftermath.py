"""What the batch script calls when srun ended badly: ``python -m slurm.aftermath ELEMENTS CODE``.

When a line of the profile's setup failed, that line follows, and srun was not called.

An element notes its own end, unless its processes vanished: killed for memory, crashed, or never started because Python
did not get that far. Then this notes what can be told from outside, and has the element begin again if that may help.
Standard library only, and nothing of the target: it must run where the target could not.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from slurm.element import Element
from slurm.ending import conclude
from slurm.notes import End, read_end, read_json, read_rank_ends, start_path

SETUP_FAILED = "setup failed"  # how the message of such an end begins
# Of an element whose processes vanished, by cause. Half the micro-batch is tried once: host memory that is still too
# little then is no matter of the batch, and a new submission asks for more.
MOST_RETURNS = {"out of memory": 1, "killed": 3, "lost": 3}
_OUT_OF_MEMORY = re.compile(r"oom[-_ ]kill|out of memory|exceeded (?:job |step )?memory limit", re.IGNORECASE)
# srun itself, to which slurmctld gave no answer when the job began.
_NO_STEP = re.compile(
    r"srun: error: .*(?:unable to (?:confirm allocation|create (?:job )?step|contact slurm controller)|socket timed out"
    r"|connection failure|connection refused|zero bytes were transmitted)", re.IGNORECASE
)  # fmt: skip
_LAST_WORDS = 600  # characters of the launcher's log in a message


def settle(path: Path, code: int, setup: str = "") -> End | None:
    """Note the end of an element whose processes are gone, unless it did so itself; ``code`` is srun's exit status.

    With ``setup``, the line of the profile's setup that failed, it is that line's and the launch has failed.
    An element that was killed, ran out of memory or found no slurmctld is requeued as often as ``MOST_RETURNS`` allows.
    A job that is cancelled, preempted or out of time is left to SLURM.
    """
    element = Element.here(path)
    noted = read_end(element.folder, element.index)
    if noted is not None and noted.restart == element.restart and (noted.state != "stopped" or noted.requeued):
        return None
    tally = {} if noted is None else dict(noted.tally)
    if noted is not None and noted.restart == element.restart:
        # Killed between its note and the answer of slurmctld: what it had counted is counted again below.
        word = noted.cause or "stopped"
        end = replace(noted, tally={**tally, word: tally.get(word, 1) - 1})
    else:
        found = _from_setup(element, code, setup) if setup else _from_ranks(element) or _from_outside(element, code)
        end = replace(found, tally=tally, rank=0)
    return conclude(element, end, running_only=True)


def _from_ranks(element: Element) -> End | None:
    """What another rank noted before srun ended them all."""
    for end in read_rank_ends(element.folder, element.index, element.restart):
        return replace(end, message=f"rank {end.rank} on {end.host}: {end.message}")
    return None


def _from_setup(element: Element, code: int, line: str) -> End:
    """A line of the profile's setup failed: before Python, so again on the next start."""
    said = _said_since(element, None).strip()[-_LAST_WORDS:]
    message = f"{SETUP_FAILED} with status {code}: {line}\n{said}"
    return End("failed", element.restart, "launch", message, element.host, time.time())


def _from_outside(element: Element, code: int) -> End:
    """What can be told of processes that noted nothing."""
    start = read_json(start_path(element.folder, element.index))
    started = start is not None and start.get("restart") == element.restart
    said = _said_since(element, start if started else None)
    if (started and _OUT_OF_MEMORY.search(said)) or oom_kills() > 0:
        cause, message = "out of memory", "killed for using more memory than it asked for"
    elif code > 128:  # also while Python was starting, when a signal still has its default effect
        cause, message = "killed", f"killed by {_signal_name(code - 128)}"
    elif started:
        cause, message = "", f"the process exited with status {code} before its end was noted"
    elif _NO_STEP.search(said):
        cause, message = "lost", "srun could not begin: slurmctld did not answer it"
    else:
        cause, message = "launch", f"Python did not start the job (status {code}): {said.strip()[-_LAST_WORDS:]}"
    previous = element.previous()
    again, most = cause in MOST_RETURNS, MOST_RETURNS.get(cause, 0)
    if again and previous is not None and previous.tally.get(cause, 0) >= most:
        again, message = False, f"{message}, {most + 1} times"
    return End(
        "stopped" if again else "failed", element.restart, cause, message, element.host, time.time(), again=again
    )


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes of this job the kernel killed for memory, by its control group; 0 where that is not told."""
    count = 0
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            # The job's own group and what lies below it: further up, other jobs are counted too.
            below = re.match(r".*?/job_[^/]+", path)
            if below is None or (controllers and "memory" not in controllers.split(",")):
                continue
            mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            for name in ("memory.events", "memory.oom_control"):
                for file in (mount / below.group().lstrip("/")).rglob(name):
                    found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
                    count = max(count, int(found.group(1)) if found else 0)
    return count


def _said_since(element: Element, start: dict[str, object] | None) -> str:
    """What the launcher's logs of this job gained since the element started; all of them when it did not."""
    sizes = start.get("logs") if start is not None else None
    said = ""
    for path in sorted(element.folder.glob(f"{element.job}_*log*")):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            file.seek(int(sizes.get(path.name, 0)) if isinstance(sizes, dict) else 0)
            said += file.read()[-100_000:].decode(errors="replace")
    return said


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main(path: str, code: str, setup: str = "") -> None:
    """The command: says in the launcher's log what it did, and never fails the batch script."""
    try:
        end = settle(Path(path), int(code), setup)
    except (OSError, ValueError) as error:
        print(f"aftermath: {error}", file=sys.stderr)
        return
    if end is not None:
        print(f"aftermath: {end.state}, {end.cause or 'no cause'}: {end.message}", file=sys.stderr)


if __name__ == "__main__":
    # The variables of a task that a batch script has no business to know, but may have inherited.
    os.environ.pop("SLURM_PROCID", None)
    main(*sys.argv[1:])

"""What follows from the end of an element: it is noted and, where that is wanted and allowed, requeued."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm.notes import End, read_rank_ends, write_end
from slurm.requeue import begin_again

if TYPE_CHECKING:
    from slurm.element import Element

MOST_IN_VAIN = 5  # starts on nodes that are marked as bad, or without time to begin, before the element gives up
# Ends that all ranks share. Any other cause is one rank's own trouble, and rank 0 may wait for it for ever.
SHARED = ("", "preempted", "time limit")


def conclude(element: Element, end: End, *, in_vain: str = "", running_only: bool = False) -> End:
    """Note an end that is not a good one, and requeue the element if the end asks for it and nothing forbids it.

    ``in_vain`` is the word under which a start that could not begin its work is counted.
    """
    if not end.again:
        return note(element, replace(end, state="cancelled" if end.cause == "cancelled" else "failed"))
    word = in_vain or end.cause or "stopped"
    end = replace(end, state="stopped", tally={**end.tally, word: end.tally.get(word, 0) + 1})
    forbidden = ""
    if not element.requeue:
        forbidden = "the cluster's profile does not let jobs requeue themselves"
    elif in_vain and end.tally[word] > MOST_IN_VAIN:
        forbidden = f"{MOST_IN_VAIN} such starts are enough"
    if forbidden:
        return note(element, replace(end, state="failed", message=f"{end.message}; {forbidden}"))
    note(element, end)  # first, because a requeued job is killed at any moment
    answer = begin_again(element.job, element.restart, running_only=running_only)
    message = "; ".join(filter(None, (end.message, answer.message)))
    end = replace(end, cause=end.cause or answer.cause, message=message)
    if answer.outcome == "cancelled":
        return note(element, replace(end, state="cancelled", cause="cancelled"))
    if answer.outcome == "requeued":
        return note(element, replace(end, requeued=True))
    return note(element, replace(end, state="failed", message=f"{message} (not requeued)"))


def note(element: Element, end: End) -> End:
    """Write an end down and say it; a disk without room must not keep a job from ending as it should."""
    try:
        write_end(element.folder, element.index, end)
        words = end.state + (" and requeued" if end.requeued else "") + (f" ({end.cause})" if end.cause else "")
        print(f"=== {words}" + (f": {end.message}" if end.message else ""), flush=True)
    except OSError as trouble:
        with contextlib.suppress(OSError):
            print(f"the end of this job could not be noted: {trouble}", file=sys.stderr)
    return end


def first_cause(element: Element, own: End) -> End:
    """What another rank said before rank 0 ended, for then rank 0's end followed from it; otherwise rank 0's own."""
    for other in read_rank_ends(element.folder, element.index, element.restart):
        if other.time <= own.time and not (other.again and other.cause in SHARED):
            message = f"rank {other.rank} on {other.host}: {other.message}"
            return element.end(other.state, other.cause, message, again=other.again)
    return own

"""How the threads of one process wait for one another."""

from __future__ import annotations

from collections.abc import Mapping

_SPINS = 3000


def short_waits(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable by which GNU's OpenMP, torch's own, waits awake for some 0.1 ms and then asleep; what is set stays.

    By itself it spins for longer than the system leaves a core to anybody: where another process has the core of one
    thread, all others wait through its turn, in each of a small model's many short operations. Two threads on two cores
    then took over 600 ms for a step of 6 ms; 16 ms so. On a machine of their own they take 7.
    """
    return {} if "OMP_WAIT_POLICY" in environment else {"GOMP_SPINCOUNT": str(_SPINS)}

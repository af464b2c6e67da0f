"""How long the cost formulas take against what a plan does anyway: validating each trial's config.

    python benchmarks/cost_formula.py

A plan calls the formulas once for each different trial: together they should stay within a few validations.
Measured 2026-11-21 on two shared, busy cores (Intel Xeon), Python 3.11.7, pydantic 2.14.3:

    validate a trial's config       71.1 us    1.00 x
    trial_sizes                     47.0 us    0.66 x
    stage_cost, all kinds          148.8 us    2.09 x
    label                            4.7 us    0.07 x
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

from tokscale import cost
from tokscale.config import TrialConfig
from tokscale.stage import KINDS


def microseconds(call: Callable[[], object], rounds: int = 5, calls: int = 500) -> float:
    """The best mean over a few rounds: what the machine's other users do only adds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    return 1e6 * best


def main() -> None:
    trial = TrialConfig()
    values = trial.model_dump()
    work: dict[str, Callable[[], object]] = {
        "validate a trial's config": lambda: TrialConfig.model_validate(values),
        "trial_sizes": lambda: cost.trial_sizes(trial),
        "stage_cost, all kinds": lambda: [cost.stage_cost(kind, trial) for kind in KINDS],
        "label": lambda: cost.label(trial),
    }
    times = {name: microseconds(call) for name, call in work.items()}
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    )
    reference = next(iter(times.values()))
    for name, taken in times.items():
        print(f"{name:28s}{taken:8.1f} us{taken / reference:8.2f} x")


if __name__ == "__main__":
    main()

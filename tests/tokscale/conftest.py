"""Processes that claim stages, and a look at a file system's clock that no earlier test has taken."""

import os
import subprocess
import sys

import pytest

from tests.tokscale.contenders import CONTENDER
from tokscale import claim as claims


@pytest.fixture
def contenders():
    """Start processes that claim the folders that they are told."""
    processes = []

    def start(count):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", CONTENDER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for _ in range(count)
        ]
        processes.extend(started)
        return started

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def fresh_look_at_the_clock():
    claims._clocks.clear()

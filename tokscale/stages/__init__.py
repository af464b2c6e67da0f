"""One function per kind of stage, and ``run``: what a job calls with nothing but the path of a stage's folder."""

from __future__ import annotations

from tokscale.stages.running import run

__all__ = ["run"]

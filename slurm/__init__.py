"""Executors that run ``module:function`` with plain arguments; nothing here knows what a tokenizer is."""

from slurm.executor import Executor, Job, JobState, JobStatus, Resources
from slurm.local import LocalExecutor
from slurm.machine import default_workers

__all__ = ["Executor", "Job", "JobState", "JobStatus", "LocalExecutor", "Resources", "default_workers"]

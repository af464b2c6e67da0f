"""Which process of a SLURM step this is. Only a step of several tasks (srun) has ranks.

A trial that runs alone inside a larger allocation (from a shell, or packed with others) finds SLURM's variables of the
job too, and must not take itself for a rank: it is the step's variables that count, which only srun sets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tokscale.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one stage together; by default it is alone.

    ``name`` is that of the step and of the job's start: no other processes ever had it.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    nodes: int = 1
    name: str = ""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone claims, writes and measures."""
        return self.rank == 0

    @property
    def per_node(self) -> int:
        return self.world // self.nodes

    @property
    def device(self) -> torch.device:
        """The processor, or the GPU of this rank's own: of all GPUs of the node, or the one that SLURM lets it see."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())


def ranks_here(environment: Mapping[str, str] = os.environ) -> Ranks:
    """The ranks of the SLURM step in which this process is a task; alone anywhere else.

    Raises ``ConfigError`` when the nodes do not have equally many tasks.
    """
    world = int(environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if world == 1:
        return Ranks()
    nodes = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1)
    if world % nodes:
        raise ConfigError("the tasks of a stage are not shared equally among its nodes", where="SLURM step",
                          given=f"{world} tasks on {nodes} nodes", allowed="one task for each GPU")  # fmt: skip
    parts = (environment["SLURM_JOB_ID"], environment.get("SLURM_STEP_ID", "0"),
             environment.get("SLURM_RESTART_COUNT") or "0")  # fmt: skip
    return Ranks(int(environment["SLURM_PROCID"]), world, int(environment["SLURM_LOCALID"]), nodes, ".".join(parts))

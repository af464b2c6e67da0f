"""The configuration files of a lab: four nodes with two fake GPUs each on one machine, two partitions, accounting."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

NODES = ("n1", "n2", "n3", "n4")
CLUSTER = "lab"
PORTS = ("slurmctld", "slurmdbd", "mariadbd", *NODES)

# A requeued job may start again only when its credential has expired, 120 s by default: hence cred_expire.
# proctrack/linuxproc and task/none ask for no cgroup, so a container will do.
SLURM = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[slurmctld]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
MaxArraySize={max_array}
MaxJobCount=20000
SlurmdTimeout=6
MessageTimeout=6
KillWait=3
OverTimeLimit=0
ReturnToService=2
GresTypes=gpu
{accounting}
{nodes}
PartitionName=main Nodes=n[1-4] Default=YES PriorityTier=10 GraceTime=5 DefMemPerCPU=500 MaxTime=1-0 State=UP
PartitionName=high Nodes=n[1-4] PriorityTier=100 DefMemPerCPU=500 MaxTime=1-0 State=UP
"""
NODE = (
    "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=8000 Gres=gpu:2 State=UNKNOWN"
)
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[slurmdbd]}
AccountingStoragePass={folder}/munge/munge.sock
AccountingStorageEnforce=associations,limits,qos
"""
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[slurmdbd]}
SlurmUser={user}
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[mariadbd]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
GRES = "NodeName=n[1-4] Name=gpu File={folder}/gpu/nvidia[0-1]\n"
DATABASE = """\
CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1';
"""


def write_files(folder: Path, *, accounting: bool, max_array: int) -> None:
    """Everything below ``folder`` that the daemons read, with ports that are free now."""
    for name in ("munge", "run", "log", "state", "database", "gpu", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # everybody may ask MUNGE, so munged wants every folder above its socket to be open
    host, ports = platform.node().partition(".")[0], free_ports()
    words = {"folder": folder, "host": host, "user": getpass.getuser(), "ports": ports, "cluster": CLUSTER}
    nodes = "\n".join(NODE.format(node=node, host=host, port=ports[node]) for node in NODES)
    storage = ACCOUNTING.format(**words) if accounting else "AccountingStorageType=accounting_storage/none"
    (folder / "slurm.conf").write_text(SLURM.format(**words, nodes=nodes, accounting=storage, max_array=max_array))
    (folder / "gres.conf").write_text(GRES.format(**words))
    (folder / "database.sql").write_text(DATABASE)
    (folder / "ports").write_text("\n".join(f"{name} {port}" for name, port in ports.items()))
    private(folder / "slurmdbd.conf", SLURMDBD.format(**words).encode())
    private(folder / "munge" / "munge.key", os.urandom(1024))
    for index in (0, 1):  # GPUs in name only: any device file will do
        subprocess.run(["mknod", str(folder / "gpu" / f"nvidia{index}"), "c", "1", "3"], check=True)


def private(path: Path, content: bytes) -> None:
    """A file that only its owner can read, as MUNGE and slurmdbd insist."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def free_ports() -> Mapping[str, int]:
    """A free port for every daemon, below the range from which the system itself gives ports to clients."""
    sockets: list[socket.socket] = []
    ports: dict[str, int] = {}
    try:
        for name in PORTS:
            while name not in ports:
                candidate = 10_000 + int.from_bytes(os.urandom(2), "big") % 20_000
                opened = socket.socket()
                sockets.append(opened)
                try:
                    opened.bind(("", candidate))  # as the daemons do: a port may be taken on one interface alone
                except OSError:
                    continue
                ports[name] = candidate
    finally:
        for opened in sockets:
            opened.close()
    return ports

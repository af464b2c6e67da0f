"""What a check of a cluster finds, in words: what was tried, what was seen, and what to do about it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from slurm.cluster import ClusterError, clean_environment, max_array_size
from slurm.profiles import ClusterProfile

WORKS, FAILS, UNTRIED = "works", "does not", "could not be tried"
CALL_SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """One line of a check; ``matters``: without it no sweep runs as its profile says."""

    subject: str
    state: str
    seen: str = ""
    remedy: str = ""
    matters: bool = True


# The first that fits what sbatch said; errors of SLURM name the culprit.
_REFUSALS = (
    ("account", "`account` and `qos` of the profile: `sacctmgr show assoc user=$USER format=account,qos` lists them"),
    ("partition", "`partition` of the profile: `sinfo -s` lists them"),
    ("qos", "`qos` of the profile: `sacctmgr show assoc user=$USER format=account,qos` lists them"),
    ("feature", "`constraint` of the profile: `sinfo -o '%P %f'` lists the features of nodes"),
    (
        "node configuration",
        "fewer GPUs, cores or memory in the profile: `sinfo -o '%P %G %c %m'` lists what nodes have",
    ),
    ("time limit", "a shorter `max_minutes` in the profile"),
    ("configuration source", "a machine that knows the cluster: a login node, or SLURM_CONF"),
    ("cannot be run", "a machine with SLURM's programs: a login node of the cluster"),
    ("contact", "a slurmctld that answers: `scontrol ping`"),
    ("answer", "a slurmctld that answers: `scontrol ping`"),
)
_WAITS = (
    ("resources", "patience: the job waits for a free node; ask again with --patience 900"),
    ("priority", "patience: other jobs come first; ask again with --patience 900"),
    ("timelimit", "a shorter `max_minutes` in the profile"),
    ("qos", "another `qos`, or fewer jobs of yours at a time"),
    ("assoc", "a limit of the account: `sacctmgr show assoc user=$USER`"),
    ("down", "other nodes: `sinfo -R` says why those of the partition are away"),
    ("drain", "other nodes: `sinfo -R` says why those of the partition are away"),
    ("notavail", "other nodes: `sinfo -R` says why those of the partition are away"),
)


def of_refusal(said: str) -> str:
    """What to do when sbatch refused."""
    return next((remedy for word, remedy in _REFUSALS if word in said.lower()), "what the profile asks for")


def of_waiting(reason: str) -> str:
    """What to do when a job waits for this reason."""
    return next((remedy for word, remedy in _WAITS if word in reason.lower()), "`scontrol show job` says more")


def profile_words(profile: ClusterProfile) -> str:
    """What a profile asks for, in a line."""
    words = [f"{name} {value}" for name in ("partition", "account", "qos", "constraint", "gpus_per_node")
             if (value := getattr(profile, name)) is not None]  # fmt: skip
    return ", ".join(words) or "the cluster's defaults"


def limits(profile: ClusterProfile) -> Finding:
    """The profile's numbers against those of the cluster: array size, time limit, GPUs of a node."""
    try:
        most = max_array_size()
    except ClusterError as error:
        return Finding("limits", UNTRIED, str(error.given or error.what), of_refusal(str(error)), matters=False)
    words, wrong = [f"MaxArraySize {most}"], []
    if profile.max_array is not None and profile.max_array > most:
        wrong.append(f"max_array is {profile.max_array}: arrays are split at {most} all the same")
    limit = partition_minutes(profile.partition)
    if limit is not None:
        words.append(f"time limit of the partition {limit} min")
        if profile.max_minutes is not None and profile.max_minutes > limit:
            wrong.append(f"max_minutes is {profile.max_minutes}, the partition gives {limit}")
    partition = ["-p", profile.partition] if profile.partition is not None else []
    done, said = ask("sinfo", "-h", *partition, "-o", "%G")
    counts = [int(count) for count in re.findall(r"gpu:(?:[^:,()\s]+:)?(\d+)", said)] if done else []
    if counts:
        words.append(f"{max(counts)} GPUs a node")
    if done and profile.gpus_per_node and profile.gpus_per_node > max(counts, default=0):
        wrong.append(f"gpus_per_node is {profile.gpus_per_node}, a node has {max(counts, default=0)}")
    if wrong:
        return Finding("limits", FAILS, "; ".join([*wrong, *words]), "the cluster's numbers in the profile")
    return Finding("limits", WORKS, ", ".join(words))


def partition_minutes(partition: str | None) -> int | None:
    """The longest time of a job in a partition, or in the default one; None when it is without limit, or unknown."""
    done, said = ask("scontrol", "show", "partition", "--oneliner", *([partition] if partition is not None else []))
    for line in said.splitlines() if done else ():
        found = re.search(r"\bMaxTime=(?:(\d+)-)?(\d+):(\d+):(\d+)", line)
        if found and (partition is not None or "Default=YES" in line):
            days, hours, minutes, _ = (int(part or 0) for part in found.groups())
            return (days * 24 + hours) * 60 + minutes
    return None


def ask(*words: str) -> tuple[bool, str]:
    """Whether a program of SLURM did as it was asked, from outside of any job, and what it said."""
    try:
        done = subprocess.run(words, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=CALL_SECONDS, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"{words[0]}: {error}"
    return done.returncode == 0, done.stdout if done.returncode == 0 else (done.stderr or done.stdout).strip()

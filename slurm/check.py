"""Does a cluster's profile work: a tiny job is submitted as real ones are, and what it meets is told line by line."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm import cluster
from slurm.batch import SlurmExecutor
from slurm.cluster import AccountingOffError, ClusterError
from slurm.executor import Job, JobState, JobStatus, Resources
from slurm.findings import FAILS, UNTRIED, WORKS, Finding, ask, limits, of_refusal, of_waiting, profile_words
from slurm.hearing import WARNING
from slurm.notes import read_end, read_json
from slurm.probe import SIGNAL, STARTED, STARTED_AGAIN, SURROUNDINGS, clocks, version_of
from slurm.profiles import ClusterProfile
from slurm.snapshot import take_snapshot

KEY = "check"
SEEN_SECONDS = 60.0  # for a file of the node to be seen here
IMPORT_SECONDS = 180.0  # for torch from a slow shared disk
MOST_SKEW = 5.0  # seconds; claims on work are timed in minutes
AFTER_START = ("shared folder", "Python", "GPUs", "signal", "requeue", "accounting", "clocks")


@dataclass
class ClusterCheck:
    """One check: submits, looks, and cleans up after itself.

    ``folder`` is a new one in the shared folder that jobs work in. ``packages`` are what a job imports of ours, taken
    as a snapshot; ``modules`` must import on the node in the versions that they have here.
    """

    profile: ClusterProfile
    folder: Path
    packages: Sequence[str]
    modules: Sequence[str]
    patience: float = 120.0
    executor: SlurmExecutor = field(init=False)
    status: JobStatus | None = None

    def findings(self) -> Generator[Finding, None, None]:
        """What works and what does not, each as soon as it is known; all is cleaned up however this ends."""
        yield Finding("profile", WORKS, profile_words(self.profile))
        try:
            refusal = self._submit()
            yield refusal or Finding("submission", WORKS, f"job {self._job()}")
            started = Finding("start", UNTRIED, "no job was submitted") if refusal else self._start()
            yield started
            if started.state == WORKS:
                yield from self._on_the_node()
            else:
                yield from (Finding(subject, UNTRIED, "no job ran") for subject in AFTER_START)
        finally:
            self._clean_up()
        yield limits(self.profile)

    def _submit(self) -> Finding | None:
        """Submit the probe; what sbatch said if it refused."""
        try:
            self.folder.mkdir(parents=True)
            code = take_snapshot(self.packages, self.folder / "code")
        except (OSError, ValueError) as error:
            return Finding("submission", FAILS, str(error), "a runs folder (--runs) that can be written")
        self.executor = SlurmExecutor(self.profile, self.folder / "jobs", ledger=self.folder / "submissions.jsonl",
                                      name="tokscale", python_path=[code])  # fmt: skip
        gpus = min(1, self.profile.gpus_per_node or 0)
        job = Job(
            key=KEY, name=KEY, target="slurm.probe:probe", log=self.folder / "log.txt",
            arguments=[str(self.folder), list(self.modules), self.profile.requeue, 2 * IMPORT_SECONDS],
            resources=Resources(gpus=gpus, cpus=self.profile.cpus_per_gpu or 1, minutes=15,
                                memory_gb=self.profile.memory_per_gpu_gb or 4.0),
        )  # fmt: skip
        try:
            self.executor.submit([job])
        except ClusterError as error:
            said = error.given if isinstance(error.given, str) else error.what
            words = "; ".join(re.sub(r"^\w+: (error|fatal): ", "", line) for line in said.splitlines())
            return Finding("submission", FAILS, words, of_refusal(said))
        return None

    def _start(self) -> Finding:
        """Wait until the job runs; a job that still waits is left to the cleaning up, with its reason told."""
        begun, deadline = time.monotonic(), time.monotonic() + self.patience
        while True:
            self.status = self.executor.poll()[KEY]
            if self.status.state is not JobState.pending or self._read(STARTED) is not None:
                where = f"on {self.status.host}" if self.status.host else ""
                return Finding("start", WORKS, f"after {time.monotonic() - begun:.0f} s {where}".rstrip())
            if time.monotonic() > deadline:
                reason = self.status.reason or "no reason given"
                return Finding("start", FAILS, f"still waits after {self.patience:.0f} s: {reason}", of_waiting(reason))
            time.sleep(1.0)

    def _on_the_node(self) -> Iterator[Finding]:
        started = self._await(STARTED, SEEN_SECONDS)
        yield self._shared(started)
        around = self._await(SURROUNDINGS, IMPORT_SECONDS) if started is not None else None
        yield self._python(started, around)
        yield self._gpus(around)
        heard = self._signal() if around is not None else Finding("signal", UNTRIED, "the job did not get so far")
        yield heard
        yield self._requeue(heard)
        yield self._accounting()
        yield self._clocks(started)

    def _shared(self, started: Mapping[str, Any] | None) -> Finding:
        if started is not None:
            return Finding("shared folder", WORKS, f"{self.folder.parent}: written by {started['host']}, read here")
        logs = [path for path in self.folder.glob("jobs/*/*_log.out") if path.stat().st_size]
        if logs:
            return Finding(
                "shared folder", WORKS, "the launcher's log came from the node; the job itself wrote nothing"
            )
        return Finding("shared folder", FAILS, f"nothing that the job wrote is seen in {self.folder.parent}",
                       "runs on a disk that the nodes mount at the same path (--runs)")  # fmt: skip

    def _python(self, started: Mapping[str, Any] | None, around: Mapping[str, Any] | None) -> Finding:
        remedy = "an environment on a shared disk, or `setup:` lines in the profile that activate it"
        if started is None:
            return Finding("Python", FAILS, f"the job did not begin: {self._last_words()}", remedy)
        if around is None:
            return Finding(
                "Python", FAILS, f"imports did not end within {IMPORT_SECONDS:.0f} s: {self._last_words()}", remedy
            )
        found: Mapping[str, Mapping[str, str]] = around["modules"]
        wrong = [f"{name}: {one['error']}" for name, one in found.items() if "error" in one]
        for name, one in found.items():
            if "error" not in one and one["version"] != version_of(name):
                wrong.append(f"{name} is {one['version'] or 'not installed'} there and {version_of(name)} here")
            if name in self.packages and "error" not in one and not one["file"].startswith(str(self.folder.absolute())):
                wrong.append(f"{name} comes from {one['file']}, not from the snapshot of the submission")
        if wrong:
            return Finding("Python", FAILS, "; ".join(wrong), remedy)
        return Finding("Python", WORKS, ", ".join(f"{name} {one['version']}" for name, one in found.items()))

    def _gpus(self, around: Mapping[str, Any] | None) -> Finding:
        if not self.profile.gpus_per_node:
            return Finding("GPUs", UNTRIED, "the profile has none", "gpus_per_node in the profile", matters=False)
        if around is None:
            return Finding("GPUs", UNTRIED, "the job did not get so far")
        seen = around["gpus"]
        given = [name for name in seen["given"].split(",") if name not in ("", "-1", "NoDevFiles")]
        words = f"CUDA_VISIBLE_DEVICES={seen['given']}"
        if len(given) != 1:
            return Finding("GPUs", FAILS, f"asked for 1, {words}", "a partition with GPUs that SLURM knows (gres.conf)")
        if "torch" not in seen or seen["cuda"] is None:
            words += f"; torch {seen.get('torch', 'is absent')}, a build without CUDA, does not see it"
            return Finding("GPUs", UNTRIED, words, "a CUDA build of torch, to train on these GPUs", matters=False)
        if seen["count"] != 1:
            return Finding("GPUs", FAILS, f"{words}; torch {seen['torch']} (CUDA {seen['cuda']}) sees {seen['count']}",
                           "a torch build that the node's driver supports (nvidia-smi tells which)")  # fmt: skip
        return Finding("GPUs", WORKS, f"{words}: {', '.join(seen['names'])}")

    def _signal(self) -> Finding:
        done, said = ask("scancel", f"--signal={WARNING.name}", self._job())
        if not done:
            return Finding("signal", FAILS, said, "scancel allowed for jobs of one's own")
        if self._await(SIGNAL, SEEN_SECONDS) is None:
            return Finding(
                "signal", FAILS, f"{WARNING.name} was sent and did not reach the job", "srun of the same SLURM on nodes"
            )
        return Finding("signal", WORKS, f"{WARNING.name}, the warning of a job's end, reached its Python")

    def _requeue(self, heard: Finding) -> Finding:
        if not self.profile.requeue:
            return Finding("requeue", UNTRIED, "requeue: false in the profile", matters=False)
        if heard.state != WORKS:
            return Finding("requeue", UNTRIED, "the signal did not arrive")
        deadline = time.monotonic() + SEEN_SECONDS
        while time.monotonic() < deadline:
            for folder in self.folder.glob("jobs/*"):
                end = read_end(folder, 0)
                if end is not None and (end.requeued or self._read(STARTED_AGAIN)):
                    return Finding("requeue", WORKS, f"accepted, {self._restart()}")
                if end is not None and end.state != "stopped":
                    return Finding("requeue", FAILS, end.message, "requeue: false in the profile; the next submission "
                                   "then goes on with interrupted work")  # fmt: skip
            time.sleep(0.5)
        return Finding("requeue", FAILS, f"no answer within {SEEN_SECONDS:.0f} s", "scontrol on the nodes")

    def _restart(self) -> str:
        again = self._await(STARTED_AGAIN, 2.0)
        if again is not None:
            return f"started again on {again['host']}"
        with contextlib.suppress(ClusterError):
            for row in cluster.queue([self._job().partition("_")[0]]):
                if row.started is not None:
                    return f"restarts at {time.strftime('%H:%M:%S', time.localtime(row.started))}"
        return "waits to start again"

    def _accounting(self) -> Finding:
        remedy = "nothing is lost without: how jobs ended is told by what they noted themselves"
        try:
            deadline = time.monotonic() + 10.0
            while not (rows := cluster.accounts([self._job().partition("_")[0]], since=time.time())):
                if time.monotonic() > deadline:
                    return Finding("accounting", FAILS, "sacct does not know the job", remedy, matters=False)
                time.sleep(1.0)
        except AccountingOffError as error:
            return Finding("accounting", FAILS, error.what, remedy, matters=False)
        except ClusterError as error:
            return Finding("accounting", FAILS, str(error.given or error.what), remedy, matters=False)
        return Finding("accounting", WORKS, f"sacct knows the job: {rows[0].state}")

    def _clocks(self, started: Mapping[str, Any] | None) -> Finding:
        """Each machine's clock against the file system's, which is one for both, so that no time is lost on the way."""
        if started is None:
            return Finding("clocks", UNTRIED, "the job did not get so far")
        here = clocks(self.folder)
        there, ours = started["time"] - started["file_system"], here["time"] - here["file_system"]
        words = f"the node is {there - ours:+.2f} s from here; the file system {-ours:+.2f} s"
        if max(abs(there - ours), abs(ours), abs(there)) > MOST_SKEW:
            return Finding("clocks", FAILS, words, f"clocks within {MOST_SKEW:.0f} s (NTP)")
        return Finding("clocks", WORKS, words)

    def _job(self) -> str:
        """The job's id, ``A_0``; empty while the cluster has not confirmed it."""
        if self.status is None or self.status.worker is None:
            self.status = self.executor.poll()[KEY]
        return self.status.worker or ""

    def _read(self, name: str) -> dict[str, Any] | None:
        return read_json(self.folder / name)

    def _await(self, name: str, seconds: float) -> dict[str, Any] | None:
        """A file of the probe as soon as it is there; None after some seconds, or when the job ended without."""
        deadline = time.monotonic() + seconds
        while (content := self._read(name)) is None and time.monotonic() < deadline:
            list(self.folder.iterdir())  # has a network file system look again
            self.status = self.executor.poll()[KEY]
            if self.status.state.final:
                time.sleep(1.0)
                return self._read(name)
            time.sleep(0.5)
        return content

    def _last_words(self) -> str:
        end = next((end for folder in self.folder.glob("jobs/*") if (end := read_end(folder, 0)) is not None), None)
        if end is not None and end.message:
            return end.message
        return self.status.reason if self.status is not None and self.status.reason else "it said nothing"

    def _clean_up(self) -> None:
        """Cancel the job, wait until nothing of it writes any more, and remove the folder."""
        if hasattr(self, "executor"):
            with contextlib.suppress(ClusterError, ValueError, OSError):
                self.executor.cancel([KEY])
                deadline = time.monotonic() + 30.0
                while not self.executor.poll()[KEY].state.final and time.monotonic() < deadline:
                    time.sleep(0.5)
        shutil.rmtree(self.folder, ignore_errors=True)

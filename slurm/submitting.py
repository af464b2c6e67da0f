"""Arrays to the cluster, so that none is ever submitted twice: written down first, sent, and written down again."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slurm import cluster
from slurm.arrays import JobArray
from slurm.cluster import ClusterError, NoAnswerError, SubmitLimit
from slurm.ledger import Ledger
from slurm.sbatch import Surroundings, dependency_text, write_array

PATIENCE_SECONDS = 60.0  # with a slurmctld that is being restarted
LOOKS = (1.0, 4.0, 10.0)  # seconds before each look for a submission whose answer was lost


def array_name(name: str, array: JobArray, token: str) -> str:
    """What squeue shows: the sweep, the kind of its jobs, and the token by which the array is found again."""
    # A comma separates names where one asks for jobs by name; blanks make tables hard to read.
    return re.sub(r"[^\w.+-]+", "-", f"{name}.{array.kind}") + f".{token}"


class Submitter:
    """Submits the arrays of one plan, parents first."""

    def __init__(
        self, ledger: Ledger, folder: Path, name: str, around: Surroundings,
        arrays: Sequence[JobArray], after: Mapping[str, Sequence[str]],
    ) -> None:  # fmt: skip
        self.ledger, self.folder, self.name, self.around = ledger, folder, name, around
        self.arrays, self.after = arrays, after
        self.jobs: list[str] = []  # the arrays' ids, as far as they were taken

    def submit(self) -> None:
        """Submit all arrays, or raise what ``SlurmExecutor.submit`` says."""
        taken: list[str] = []
        for array in self.arrays:
            try:
                self.jobs.append(self._patiently(array))
            except SubmitLimit as limit:
                limit.taken = (*taken, *self._a_part(array))
                raise
            except ClusterError as error:
                if taken:
                    error.add(f"{len(taken)} of {sum(len(one.elements) for one in self.arrays)} jobs were submitted")
                raise
            taken += [job.key for job in array.elements.values()]

    def _a_part(self, array: JobArray) -> list[str]:
        """Submit as many of an array's elements as the cluster takes, by halves; their keys."""
        indices = sorted(array.elements)
        while len(indices) > 1:
            indices = indices[: len(indices) // 2]
            try:
                self._patiently(replace(array, elements={index: array.elements[index] for index in indices}))
            except SubmitLimit:
                continue
            return [array.elements[index].key for index in indices]
        return []

    def _patiently(self, array: JobArray) -> str:
        """Submit one array, again and again while slurmctld cannot be reached at all; its id."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        pause = 1.0
        while True:
            try:
                return self._once(array)
            except NoAnswerError as error:
                if error.sent or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause *= 2

    def _once(self, array: JobArray) -> str:
        token = secrets.token_hex(4)
        name, folder = array_name(self.name, array, token), self.folder / token
        try:
            dependency = dependency_text(array, self.jobs, self.arrays)
            path = write_array(array, name, folder, dependency, self.around)
            self.ledger.intend(token, name, folder, array, self.after)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ClusterError(
                f"cannot write what a job array needs: {error.strerror}",
                where=str(folder),
                allowed="a folder with room",
            ) from error
        except ClusterError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            job = cluster.sbatch(path)
        except ClusterError as error:
            if not isinstance(error, NoAnswerError) or not error.sent:
                self.ledger.append({"event": "refused", "token": token, "said": str(error.given or error.what)})
                shutil.rmtree(folder, ignore_errors=True)
                raise
            job = self._look_for(name, error)
        self.ledger.append({"event": "submitted", "token": token, "job": job})
        return job

    def _look_for(self, name: str, error: NoAnswerError) -> str:
        """The id of a submission whose answer was lost, should the cluster have taken it."""
        for pause in LOOKS:
            time.sleep(pause)
            with contextlib.suppress(ClusterError):
                for row in cluster.queue(names=[name]):
                    return row.job
        error.add("whether it was taken is not known yet: the next look at the sweep tells, and it is not sent twice")
        raise error

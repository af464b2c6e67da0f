"""What sbatch gets: the script of an array and the files that its elements need, in a folder of the array's own.

submitit writes the script and runs the job in it. It is never asked how jobs are doing and never requeues them.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import DelayedSubmission

from slurm.arrays import JobArray, index_list
from slurm.element import run_element, write_elements
from slurm.hearing import WARNING, warning_seconds
from slurm.notes import ELEMENTS_NAME
from slurm.profiles import ClusterProfile

PICKLE_NAME = "job.pkl"
SCRIPT_NAME = "submission.sh"
# As submitit names what belongs to one element.
_ELEMENT = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
# Not `python -m`, which would import from the folder where the job was submitted before PYTHONPATH is looked at.
_START = (
    "import sys; sys.path[:] = filter(None, sys.path); from submitit.core.submission import submitit_main as run; run()"
)


@dataclass(frozen=True)
class Surroundings:
    """What all arrays of a submission share."""

    profile: ClusterProfile
    python_path: tuple[Path, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        """The shell command that starts Python on a node."""
        return self.profile.python or shlex.quote(sys.executable)


class ArrayScript(submitit.SlurmExecutor):  # type: ignore[misc,unused-ignore]
    """submitit's executor, for the text of a script only."""

    def __init__(self, folder: Path, python: str) -> None:
        super().__init__(folder, python=python)

    @classmethod
    def affinity(cls) -> int:
        return 2  # a script can be written, for a look at it, where no SLURM is

    @property
    def _submitit_command_str(self) -> str:
        return f"{self.python} -u -c {shlex.quote(_START)} {shlex.quote(str(self.folder))}"

    def text(self) -> str:
        return str(self._make_submission_file_text(self._submitit_command_str, ""))


def script(array: JobArray, name: str, folder: Path, dependency: str, around: Surroundings) -> str:
    """The text of the sbatch file of an array; ``folder`` is the array's own."""
    folder = folder.absolute()
    wanted, profile = array.resources, around.profile
    cpus = max(1, wanted.cpus // wanted.tasks)
    minutes = wanted.minutes or profile.max_minutes
    writer = ArrayScript(folder, around.python)
    writer.update_parameters(
        job_name=name,
        partition=profile.partition,
        account=profile.account,
        qos=profile.qos,
        constraint=profile.constraint,
        exclude=",".join(around.exclude) or None,
        time=minutes,
        nodes=wanted.nodes,
        ntasks_per_node=wanted.tasks,
        cpus_per_task=cpus,
        gpus_per_node=wanted.gpus or None,
        mem=None if wanted.memory_gb is None else f"{math.ceil(wanted.memory_gb * 1024)}M",
        dependency=dependency or None,
        wckey=None,
        stderr_to_stdout=True,
        # srun does not take the number of CPUs over from sbatch, and would bind a task to one of them
        # Other ranks leave before rank 0, which measures alone: a site may have srun end it for that.
        srun_args=["--kill-on-bad-exit=1", "--wait=0", f"--cpus-per-task={cpus}"],
        setup=_setup(folder, around),
        teardown=_teardown(folder, around.python),
        additional_parameters={
            "array": index_list(array.elements) + (f"%{array.throttle}" if array.throttle else ""),
            "signal": f"{WARNING.name.removeprefix('SIG')}@{warning_seconds(wanted.minutes)}",
            "requeue" if profile.requeue else "no-requeue": True,
            # a child of a job that failed would otherwise wait for ever
            "kill-on-invalid-dep": "yes",
            "export": "ALL",
        },
    )
    writer.parameters["map_count"] = len(array.elements)  # has submitit name logs by array and index
    return writer.text()


def write_array(array: JobArray, name: str, folder: Path, dependency: str, around: Surroundings) -> Path:
    """Write all that an array needs before it is submitted; the path of its script."""
    folder = folder.absolute()
    elements = folder / ELEMENTS_NAME
    write_elements(elements, array.elements, array.resources, requeue=around.profile.requeue)
    # One pickle for all: each element finds its own work by its index.
    DelayedSubmission(run_element, str(elements)).dump(folder / PICKLE_NAME)
    path = folder / SCRIPT_NAME
    path.write_text(script(array, name, folder, dependency, around), encoding="utf-8")
    return path


def dependency_text(array: JobArray, jobs: Sequence[str], arrays: Sequence[JobArray]) -> str:
    """The ``--dependency`` of an array, given the job ids of the arrays before it in the plan.

    All of its terms must hold. Elements that make up a whole array are named by the array.
    """
    same = sorted(_identity(reference, jobs) for reference in array.same)
    terms = [f"aftercorr:{identity}" for identity in same]
    single = []
    by_array: dict[int | str, list[int]] = {}
    for place in array.single:
        by_array.setdefault(place.array, []).append(place.index)
    for reference, indices in by_array.items():
        whole = isinstance(reference, int) and set(indices) == set(arrays[reference].elements)
        identity = _identity(reference, jobs)
        single += [identity] if whole else [f"{identity}_{index}" for index in sorted(indices)]
    if single:
        terms.append("afterok:" + ":".join(sorted(single)))
    return ",".join(terms)


def _identity(reference: int | str, jobs: Sequence[str]) -> str:
    return reference if isinstance(reference, str) else jobs[reference]


def _setup(folder: Path, around: Surroundings) -> list[str]:
    element = f"{shlex.quote(str(folder))}/{_ELEMENT}"
    lines = []
    if around.profile.setup:
        lines.append(_tried(folder, around))
    for line in around.profile.setup:
        # On a line of its own: what was written may end in a comment, or be a whole block.
        lines += [line, f"tried {shlex.quote(line)}"]
    lines.append("set +e")  # a setup may have asked for it, and what follows looks at exit statuses itself
    if around.python_path:
        lines.append(f"export {_import_path(around)}")
    # What an earlier start of this element may have left half-written would stop submitit.
    lines.append(f"rm -f {element}_*_result.pkl*")
    lines.append(f"ln -sf {PICKLE_NAME} {element}_submitted.pkl")
    return lines


def _tried(folder: Path, around: Surroundings) -> str:
    """A shell function that ends the job if the line before it failed, and says so in the job's log and its note."""
    path = f"export {_import_path(around)}; " if around.python_path else ""
    return (
        'tried() { code=$?; [ $code -eq 0 ] && return; echo "setup failed: $1" >&2; '
        f'({path}{_aftermath(folder, around.python)} "$1"); exit $code; }}'
    )


def _import_path(around: Surroundings) -> str:
    paths = ":".join(str(path.absolute()) for path in around.python_path)
    return f'PYTHONPATH={shlex.quote(paths)}"${{PYTHONPATH:+:$PYTHONPATH}}"'


def _aftermath(folder: Path, python: str) -> str:
    # from a folder without modules: the code of the submission is meant, wherever that was made
    return f'cd {shlex.quote(str(folder))} && {python} -m slurm.aftermath {ELEMENTS_NAME} "$code"'


def _teardown(folder: Path, python: str) -> list[str]:
    element = f"{shlex.quote(str(folder))}/{_ELEMENT}"
    return [
        "code=$?",
        f"rm -f {element}_submitted.pkl {element}_*_result.pkl*",
        f"[ $code -eq 0 ] || ({_aftermath(folder, python)})",
        "exit $code",
    ]

"""The sbatch file of an array and the files beside it, as the cluster will read them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.arrays import JobArray, Place, plan_arrays
from slurm.cluster import clean_environment
from slurm.executor import Job, Resources
from slurm.hearing import warning_seconds
from slurm.profiles import ClusterProfile
from slurm.sbatch import Surroundings, dependency_text, script, write_array

PROFILE = ClusterProfile(
    "a100", partition="gpu", account="12345", qos="long", constraint="a100&80g", max_minutes=1440,
    setup=("module load cuda", "source ~/env/bin/activate"),
)  # fmt: skip
WANTED = Resources(gpus=4, cpus=32, tasks=4, nodes=2, memory_gb=250.5, minutes=600)


def job(key, *after):
    return Job(key=key, name=f"probe/{key}", target="os:getpid", log=Path("/runs/log"), after=after, resources=WANTED)


def array(*indices, **fields):
    return JobArray("probe", WANTED, {index: job(f"p{index}") for index in indices}, **fields)


def options(text):
    """The #SBATCH lines as a shell would read them."""
    lines = re.findall(r"^#SBATCH --(.*)$", text, re.MULTILINE)
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}


def text_of(around=None, dependency="", folder=Path("/runs/jobs/0badcafe"), given=None):
    return script(given or array(0, 1, 2, 7, throttle=3), "s.probe.0badcafe", folder, dependency,
                  around or Surroundings(PROFILE))  # fmt: skip


def test_every_wish_is_an_option_and_no_other_is():
    around = Surroundings(PROFILE, exclude=("n3", "n7"))
    assert options(text_of(around, "aftercorr:70")) == {
        "job-name": "s.probe.0badcafe", "partition": "gpu", "account": "12345", "qos": "long",
        "constraint": "a100&80g", "array": "0-2,7%3", "nodes": "2", "ntasks-per-node": "4", "cpus-per-task": "8",
        "gpus-per-node": "4", "mem": "256512M", "time": "600", "signal": "URG@120", "dependency": "aftercorr:70",
        "exclude": "n3,n7", "requeue": "", "kill-on-invalid-dep": "yes", "open-mode": "append", "export": "ALL",
        "output": "/runs/jobs/0badcafe/%A_%a_0_log.out",
    }  # fmt: skip


def test_what_is_not_said_is_left_to_the_cluster():
    bare = JobArray("probe", Resources(), {0: job("p0")})
    found = options(text_of(Surroundings(ClusterProfile("plain", requeue=False)), given=bare))
    assert found.keys() == {
        "job-name", "array", "nodes", "ntasks-per-node", "cpus-per-task", "signal", "no-requeue", "kill-on-invalid-dep",
        "open-mode", "export", "output",
    }  # fmt: skip
    assert options(text_of(given=JobArray("probe", Resources(), {0: job("p0")})))["time"] == "1440"


def test_a_short_job_is_told_in_its_last_quarter():
    assert [warning_seconds(minutes) for minutes in (1, 4, 8, 60)] == [15, 60, 120, 120]
    assert warning_seconds(None) == 120


def test_tasks_get_all_their_cpus_and_die_together():
    (srun,) = (line for line in text_of().splitlines() if line.startswith("srun"))
    assert "--kill-on-bad-exit=1" in srun
    assert "--cpus-per-task=8" in srun
    assert "/runs/jobs/0badcafe/%A_%a_%t_log.out" in srun


def test_the_jobs_python_is_the_profiles_or_this_one():
    assert f" {sys.executable} -u -c " in text_of()
    container = ClusterProfile("c", python="apptainer exec torch.sif python")
    assert " apptainer exec torch.sif python -u -c " in text_of(Surroundings(container))


@pytest.mark.parametrize("code", [0, 1, 137])
def test_the_script_runs_the_setup_links_the_pickle_and_keeps_the_exit_status(tmp_path, code):
    """Run by bash for real, with an srun that only looks around; blanks and quotes in the path must not matter."""
    folder = tmp_path / "a folder's jobs" / "0badcafe"
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text(f'#!/bin/sh\nreadlink "$LINK"\necho "$GREETING $PYTHONPATH"\nexit {code}\n')
    (programs / "python").write_text('#!/bin/sh\necho "$(pwd): $*"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    profile = ClusterProfile("c", setup=("export GREETING=hello",), python="python")
    path = write_array(array(0, 3), "s.probe.0badcafe", folder, "", Surroundings(profile, (tmp_path / "new code",)))
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin", "PYTHONPATH": "/old", "SLURM_ARRAY_JOB_ID": "70",
        "SLURM_ARRAY_TASK_ID": "3", "LINK": str(folder / "70_3_submitted.pkl"),
    }  # fmt: skip
    done = subprocess.run(["bash", str(path)], env=environment, capture_output=True, text=True, cwd="/")
    said = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (code, "")
    assert said[:2] == ["job.pkl", f"hello {tmp_path}/new code:/old"]
    assert said[2:] == ([f"{folder}: -m slurm.aftermath elements.json {code}"] if code else [])
    assert sorted(entry.name for entry in folder.iterdir()) == ["elements.json", "job.pkl", "submission.sh"]


def run_setup(tmp_path, *setup):
    """What a script with this setup says, run by bash with an srun and a Python that tell what they were called with.

    The last of its lines is the exit status.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("srun", "python"):
        (programs / program).write_text(f'#!/bin/sh\necho "{program} $4 $5: $PYTHONPATH"\n')
        (programs / program).chmod(0o755)
    around = Surroundings(ClusterProfile("c", setup=setup, python="python"), (tmp_path / "code",))
    path = write_array(array(0, 3), "s.probe.0badcafe", tmp_path / "0badcafe", "", around)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(["bash", str(path)], env=environment, capture_output=True, text=True, cwd="/")
    return [*done.stdout.splitlines(), *done.stderr.splitlines(), str(done.returncode)]


def test_a_line_of_the_setup_that_fails_ends_the_job_and_is_named(tmp_path):
    said = run_setup(tmp_path, "true", "cd '/no where' 2> /dev/null # 'quoted'", "touch never")
    line = "cd '/no where' 2> /dev/null # 'quoted'"
    assert said == [f"python 1 {line}: {tmp_path}/code", f"setup failed: {line}", "1"]


def test_a_setup_may_fail_where_it_says_so_and_may_ask_bash_for_what_it_likes(tmp_path):
    block = "if [ -d /no/scratch ]; then\n  export TMPDIR=/no/scratch\nfi"
    said = run_setup(tmp_path, "false || true", block, "set -e", "unset code")
    assert said[-1] == "0"
    assert [line.split()[0] for line in said[:-1]] == ["srun"]


def test_code_in_the_folder_of_the_submission_does_not_hide_the_snapshot(tmp_path):
    """As a job starts: from the submitter's folder, with the snapshot in PYTHONPATH."""
    for name in ("here", "snapshot"):
        (tmp_path / name / "ours").mkdir(parents=True)
        (tmp_path / name / "ours" / "__init__.py").write_text("")
    (start,) = re.findall(r"-u -c '(.*?)'", text_of())
    ask = start[: start.index("from submitit")] + "import ours; print(ours.__file__)"
    done = subprocess.run([sys.executable, "-u", "-c", ask], capture_output=True, text=True, cwd=tmp_path / "here",
                          env={"PYTHONPATH": str(tmp_path / "snapshot")}, check=True)  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "snapshot" / "ours" / "__init__.py")


def test_dependencies_name_elements_or_arrays():
    before = [array(0, 1, 2), array(0, 5)]
    jobs = ["70", "71"]
    assert dependency_text(array(0), jobs, before) == ""
    assert dependency_text(array(0, same=frozenset({0, "66"})), jobs, before) == "aftercorr:66,aftercorr:70"
    some = frozenset({Place(0, 2), Place(0, 0), Place("66", 4)})
    assert dependency_text(array(0, single=some), jobs, before) == "afterok:66_4:70_0:70_2"
    both = array(0, same=frozenset({0}), single=frozenset({Place(1, 0), Place(1, 5)}))
    assert dependency_text(both, jobs, before) == "aftercorr:70,afterok:71", "all elements: the array itself"


def test_a_plan_of_chains_is_tied_by_the_ids_of_the_arrays_before():
    jobs = [job("a"), job("b", "a"), job("c", "b"), job("d", "b")]
    arrays = plan_arrays(jobs, {}, limit=10)
    ids = [str(70 + number) for number in range(len(arrays))]
    assert [dependency_text(each, ids, arrays) for each in arrays] == ["", "aftercorr:70", "afterok:71"]


def test_what_belongs_to_another_job_is_not_handed_on():
    inherited = {"SLURM_CPU_BIND": "mask", "SBATCH_QOS": "x", "SRUN_DEBUG": "1", "PMI_RANK": "0", "PMIX_ID": "2",
                 "SALLOC_QOS": "y"}  # fmt: skip
    own = {"SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin", "SLURMISH": "1", "MY_SLURM_CONF": "2"}
    assert clean_environment(inherited | own) == own

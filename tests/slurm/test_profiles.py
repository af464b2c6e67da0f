"""Cluster profiles: where they come from, what they may say, and the words when they say something else."""

import pickle
from dataclasses import fields

import pytest

from slurm.profiles import KEYS, ClusterProfile, ProfileError, load_profile, load_profiles

# The keys that the documentation promises.
PROMISED = [
    "partition", "account", "qos", "constraint", "gpus_per_node", "max_gpus", "gpu_memory_gb", "cpus_per_gpu",
    "memory_per_gpu_gb", "max_minutes", "max_array", "max_running", "setup", "python", "requeue", "cost_per_gpu_hour",
    "tflops",
]  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of a project and of a user's configuration."""
    project, user = tmp_path / "project", tmp_path / "config" / "tokscale"
    project.mkdir()
    user.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(project)
    return project / "clusters.yaml", user / "clusters.yaml"


def test_local_needs_no_file(places):
    assert load_profile("local").name == "local"
    assert set(load_profiles()) == {"local"}


def test_every_field_is_read(places):
    project, _ = places
    project.write_text(
        """
a100:
  partition: gpu
  account: 12345
  qos: normal
  constraint: a100&80g
  gpus_per_node: 8
  max_gpus: 32
  gpu_memory_gb: 80
  cpus_per_gpu: 16
  memory_per_gpu_gb: 125.5
  max_minutes: 1440
  max_array: 1000
  max_running: 64
  setup:
    - module load cuda
    - source env/bin/activate
  python: apptainer exec torch.sif python
  requeue: no_
  cost_per_gpu_hour: 1e0
  tflops: 140
""".replace("no_", "false")
    )
    assert load_profile("a100") == ClusterProfile(
        name="a100", partition="gpu", account="12345", qos="normal", constraint="a100&80g", gpus_per_node=8,
        max_gpus=32, gpu_memory_gb=80.0, cpus_per_gpu=16, memory_per_gpu_gb=125.5, max_minutes=1440, max_array=1000,
        max_running=64, setup=("module load cuda", "source env/bin/activate"),
        python="apptainer exec torch.sif python", requeue=False, cost_per_gpu_hour=1.0, tflops=140.0,
    )  # fmt: skip


def test_the_keys_are_those_of_the_documentation():
    assert list(KEYS) == PROMISED
    assert [field.name for field in fields(ClusterProfile)] == ["name", *PROMISED]


def test_the_project_comes_before_the_user(places, tmp_path):
    project, user = places
    user.write_text("a: {partition: users, qos: low}\nb: {partition: users}\n")
    project.write_text("a: {partition: projects}\nempty:\n")
    profiles = load_profiles()
    assert profiles["a"] == ClusterProfile("a", partition="projects")
    assert profiles["b"].partition == "users"
    assert profiles["empty"] == ClusterProfile("empty")
    assert set(load_profiles(tmp_path)) == {"local", "a", "b"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a:\n  partitoin: gpu\n", 2, ["unknown key", "did you mean 'partition'"]),
        ("a:\n  qos: x\n  gpus_per_node: 0.5\n", 3, ["gpus_per_node", "0.5", "whole number, 0 or more"]),
        ("a:\n  max_array: 0\n", 2, ["max_array", "whole number, more than 0"]),
        ("a:\n  max_minutes: true\n", 2, ["max_minutes", "True"]),
        ("a:\n  tflops: -1\n", 2, ["tflops", "more than 0"]),
        ("a:\n  tflops: .inf\n", 2, ["tflops", "inf"]),
        ("a:\n  requeue: yes\n", 2, ["requeue", "the text 'yes'", "true or false"]),
        ("a:\n  setup: {x: y}\n", 2, ["setup", "a list"]),
        ("a:\n  setup: [1]\n", 2, ["setup", "a list"]),
        ("a:\n  partition: [gpu]\n", 2, ["partition", "text"]),
        ("a: gpu\n", 1, ["'a' must be a mapping", "partition"]),
        ("a: {qos: x}\na: {qos: y}\n", 2, ["duplicate key", "each key once"]),
        ('a:\n  gpus_per_node: "8"\n', 2, ["gpus_per_node", "the text '8'", "whole number"]),
        ("a: {}\nlocal: {qos: x}\n", 2, ["taken", "local", "this machine"]),
        ("a: {\n", 2, ["cannot read"]),
        ("a:\n  qos: x\n b: 1\n", 3, ["cannot read"]),
    ],
)
def test_what_is_wrong_is_said_with_its_line(places, text, line, words):
    project, _ = places
    project.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load_profiles()
    for word in [f"{project}, line {line}", "allowed:", *words]:
        assert word in str(caught.value)


def test_a_file_that_is_no_mapping_or_no_text_is_refused(places):
    project, _ = places
    project.write_text("- a\n")
    with pytest.raises(ProfileError, match="must be a mapping"):
        load_profiles()
    project.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="cannot read"):
        load_profiles()


def test_an_unknown_cluster_lists_those_that_there_are(places):
    project, _ = places
    project.write_text("a100: {}\n")
    with pytest.raises(ProfileError, match="did you mean 'a100'") as caught:
        load_profile("a10")
    assert str(project) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

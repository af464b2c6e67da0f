"""Whole sweeps of real training on the cluster, disturbed; the results are those of an undisturbed run."""

import json

import pytest

from tests.cluster.chore_book import eventually
from tests.cluster.sweep_desk import CLUSTER, SHORT, Desk

pytestmark = pytest.mark.xdist_group("slurm")


def attempts(desk, key):
    return sorted(path.name for path in (desk.runs / "stages" / key / "claim").glob("[0-9]*[0-9]"))


def begun(desk, images, trials=2):
    """Whether so many trials have trained on so many images."""
    return lambda: sum(seen >= images for seen in desk.progress().values()) >= trials


def test_preemption_and_a_dead_node_in_mid_training_change_no_result(lab, undisturbed, tmp_path):
    desk = Desk.make(tmp_path, lab)
    process = desk.start("run", desk.spec, "--cluster", "lab")
    eventually(begun(desk, 200))
    lab.ask("sbatch", "--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
    eventually(lambda: "PENDING" in lab.queue().values())
    eventually(lambda: any(len(attempts(desk, f"tokenizer/{name}")) >= 2 for name in desk.progress()))
    [victim, *_] = [node for node, state in lab.node_states().items() if state in ("mixed", "allocated")]
    lab.kill_node(victim)
    output, _ = process.communicate(timeout=480)
    assert process.returncode == 0, output
    assert "2 of 2 trials done" in output
    desk.check_whole(undisturbed)
    assert not lab.queue()
    status = desk.tokscale("status", "two")
    assert "done" in status


def test_a_trial_that_diverges_is_marked_and_the_other_goes_on(lab, tmp_path):
    spec = SHORT.replace("tokenizer.bottleneck: [{kind: kl, channels: 4}, {kind: fsq, levels: [4, 4]}]",
                         "training.lr: [2e-3, 1e30]")  # fmt: skip
    desk = Desk.make(tmp_path, lab, spec)
    output = desk.tokscale("run", desk.spec, "--cluster", "lab", expected=1)
    assert "1 of 2 trials done" in output
    assert "diverged" in output
    assert "lr" in output, "the remedy"
    assert len(desk.records()) == 2
    failed = [key for key in desk.stages() if key.startswith("tokenizer") and key not in desk.records()]
    assert [len(attempts(desk, key)) for key in failed] == [1], "a divergence is not tried again"
    again = desk.tokscale("submit", desk.spec, "--cluster", "lab")
    assert "nothing to submit" in again
    assert "1 failed, diverged" in again
    assert [len(attempts(desk, key)) for key in failed] == [1]


def test_a_stage_over_its_memory_is_tried_with_more(lab, tmp_path):
    spec = SHORT.replace("[{kind: kl, channels: 4}, {kind: fsq, levels: [4, 4]}]", "[{kind: kl, channels: 4}]")
    desk = Desk.make(tmp_path, lab, spec, CLUSTER.replace("gpu_gb: 2", "gpu_gb: 0.35"))  # at most 0.7
    output = desk.tokscale("run", desk.spec, "--cluster", "lab")
    assert "1 of 1 trials done" in output
    assert "host memory" in output, "why it was submitted again"
    assert sorted(desk.records()) == sorted(desk.stages())
    asked = [line for path in desk.runs.glob("sweeps/two/jobs/*/submission.sh")
             for line in path.read_text().splitlines() if "--mem" in line]  # fmt: skip
    assert len(set(asked)) >= 2


def test_the_same_error_of_every_trial_is_shown_once(lab, tmp_path):
    spec = SHORT.replace(
        "{kind: procedural, resolution: 16", f"{{kind: image_folder, root: {tmp_path}/no, resolution: 16"
    )
    desk = Desk.make(tmp_path / "desk", lab, spec)
    desk.tokscale("submit", desk.spec, "--cluster", "lab")
    output = desk.tokscale("status", desk.name, "--watch", expected=1)
    assert output.count("2 failed: data (tokenizer)") == 1, output
    (group,) = [group for group in desk.status()["failures"] if group["state"] == "failed"]
    assert (group["cause"], group["count"], group["trials"]) == ("data", 2, [1, 2])
    assert f"{tmp_path}/no" in group["message"]
    assert json.dumps(desk.records()) == "{}"
    assert not lab.queue()

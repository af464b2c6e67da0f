"""Several ranks train one stage: real processes, started with the variables that srun gives its tasks."""

import json

import pytest

from tests.tokscale.training import rank_tasks
from tests.tokscale.training.rank_tasks import STEP, Step
from tokscale import claim
from tokscale.errors import ConfigError
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.training.ranks import Ranks, ranks_here


def progress(folder):
    return [json.loads(line) for line in folder.progress.read_text().splitlines()]


@pytest.mark.parametrize("case", ["kl", "vq", "probe", "diffusion"])
def test_two_ranks_give_the_weights_and_losses_of_one_process(prepared, assert_close, case):
    alone, together = prepared("alone", case), prepared("together", case)
    run(str(alone.path), progress_seconds=0.0)
    step = Step(together, 2, nodes=2, micro_batch=3)
    assert step.finish() == [0, 0], step.output
    assert_close(together, alone)
    provenance = read_record(together.path).provenance
    assert (provenance["world_size"], provenance["micro_batch"], provenance["job"]) == (2, 3, "77")
    assert len(progress(together)) == len(progress(alone))
    for line, expected in zip(progress(together), progress(alone), strict=True):
        for name in expected.keys() - {"time", "per_second"}:
            assert line[name] == pytest.approx(expected[name], rel=2e-3), name


def test_a_signal_to_one_rank_stops_all_and_one_process_goes_on(prepared, assert_close):
    alone, together = prepared("alone"), prepared("together")
    run(str(alone.path))
    step = Step(together, 2, events={1: rank_tasks.signalled}, micro_batch=8)
    assert step.finish() == [1, 0], step.output
    assert [path.name for path in together.checkpoints.iterdir()] == [f"{STEP * 16:015d}"]
    outcome = claim.state(together.path).outcome
    assert (outcome["state"], outcome["again"], "cause" in outcome) == ("interrupted", True, False)
    assert "SIGUSR2" in outcome["message"]
    run(str(together.path), micro_batch=4)
    assert read_record(together.path).provenance["attempts"] == 2
    assert_close(together, alone)


def test_a_rank_that_runs_out_of_memory_has_all_take_half_the_next_time(prepared, assert_close):
    alone, together = prepared("alone", "vq"), prepared("together", "vq")
    run(str(alone.path))
    step = Step(together, 2, events={1: rank_tasks.out_of_memory})
    assert step.finish() == [1, 0], step.output
    outcome = claim.state(together.path).outcome
    assert (outcome["state"], outcome["cause"], outcome["micro_batch"]) == ("interrupted", "out of memory", 8)
    assert "rank 1" in outcome["message"]
    step = Step(together, 2, job="78")
    assert step.finish() == [0, 0], step.output
    assert read_record(together.path).provenance["micro_batch"] == 4
    assert_close(together, alone)


def test_a_rank_that_vanishes_ends_the_others(prepared):
    folder = prepared("runs")
    step = Step(folder, 2, events={1: rank_tasks.killed})
    assert step.finish() == [1, -9], step.output
    outcome = claim.state(folder.path).outcome
    assert (outcome["state"], outcome["cause"], outcome["again"]) == ("interrupted", "node", True)
    assert "another rank" in outcome["message"]


def test_when_rank_0_vanishes_the_others_leave_at_once(prepared):
    folder = prepared("runs")
    step = Step(folder, 2, events={0: rank_tasks.killed})
    assert step.finish() == [-9, 0], step.output
    assert claim.state(folder.path).kind == "dead"


def test_divergence_is_seen_by_all_ranks_at_the_same_step(prepared, small_spec):
    small_spec.write_text(
        small_spec.read_text().replace("lr: 2e-3}\n  latents", "lr: 1e30, gradient_clip: 0}\n  latents")
    )
    folder = prepared("runs")
    step = Step(folder, 2)
    assert step.finish() == [1, 0], step.output
    outcome = claim.state(folder.path).outcome
    assert (outcome["state"], outcome["cause"], outcome["again"]) == ("failed", "diverged", False)


def test_ranks_of_a_stage_that_is_done_or_held_go_home(prepared):
    folder = prepared("runs")
    with claim.claim(folder.path):
        step = Step(folder, 2)
        assert step.finish() == [1, 0]
        assert "HeldError" in step.output
    run(str(folder.path))
    assert Step(folder, 2, job="78").finish() == [0, 0]


def test_signals_to_the_data_loader_do_not_end_its_processes(prepared):
    folder = prepared("runs")
    step = Step(folder, 1, events={0: rank_tasks.loader_signalled}, loader_workers=2)
    assert step.finish() == [0], step.output
    assert read_record(folder.path).provenance["world_size"] == 1


def test_only_a_step_of_several_tasks_has_ranks():
    job = {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
    assert ranks_here({}) == ranks_here(job) == ranks_here({**job, "SLURM_STEP_NUM_TASKS": "1"}) == Ranks()
    step = {**job, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_ID": "1"}
    ranks = ranks_here(step)
    assert (ranks.rank, ranks.world, ranks.local_rank, ranks.nodes, ranks.per_node) == (3, 4, 1, 2, 2)
    assert ranks.name != ranks_here({**step, "SLURM_RESTART_COUNT": "1"}).name
    with pytest.raises(ConfigError, match="equally"):
        ranks_here({**step, "SLURM_STEP_NUM_TASKS": "3"})

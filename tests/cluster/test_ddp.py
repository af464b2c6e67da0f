"""One stage over two nodes by DDP: the same result as one process with the same global batch, and one record."""

import pytest
from safetensors.torch import load_file

from slurm.executor import Job, JobState, Resources
from sweeps.planning import make_plan
from tests.cluster.chore_book import finish
from tests.cluster.sweep_desk import SHORT, Desk, lasting

pytestmark = pytest.mark.xdist_group("slurm")
WITH_CODES = SHORT.replace(
    "{kind: fsq, levels: [4, 4]}", "{kind: vq, codebook_size: 32, code_dim: 4, revive_after: 10}"
)


def test_two_nodes_give_the_result_of_one_process(lab, open_executor, tmp_path):
    alone, spread = (Desk.make(tmp_path / name, lab, WITH_CODES) for name in ("alone", "spread"))
    alone.run_undisturbed()
    stages = [stage for stage in make_plan(spread.spec, spread.store).stages.values() if stage.kind == "tokenizer"]
    executor = open_executor(setup=("export OMP_NUM_THREADS=1",))
    executor.submit([
        Job(
            key=stage.key, name=stage.key, target="tokscale.stages:run",
            arguments={"path": str(spread.store.prepare(stage).path)}, log=tmp_path / f"{stage.id}.txt",
            resources=Resources(nodes=2, tasks=1, cpus=1, gpus=1, memory_gb=2, minutes=10),
        )
        for stage in stages
    ])  # fmt: skip
    statuses = finish(executor, [stage.key for stage in stages], 240)
    logs = "\n".join(path.read_text() for path in tmp_path.glob("*.txt"))
    assert {status.state for status in statuses.values()} == {JobState.done}, logs
    expected, records = alone.records(), spread.records()
    assert sorted(records) == sorted(stage.key for stage in stages)
    for stage in stages:
        record, of_one = records[stage.key], expected[stage.key]
        assert record["provenance"]["world_size"] == 2
        # sums over two halves of a batch are rounded otherwise than sums over the whole
        assert lasting(record) == pytest.approx(lasting(of_one), rel=2e-3)
        paths = [desk.store.folder(stage).artifacts / "tokenizer.safetensors" for desk in (spread, alone)]
        weights, weights_of_one = map(load_file, paths)
        for name, tensor in weights_of_one.items():
            assert (weights[name] - tensor).abs().max() <= 1e-3, name

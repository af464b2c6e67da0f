"""Blocks shared out among ranks: the weights of one process, and checkpoints that any layout goes on from."""

import json

import pytest
import torch

from tests.tokscale.training import rank_tasks
from tests.tokscale.training.rank_tasks import STEP, Step
from tokscale import claim, cost
from tokscale.config import KLBottleneck, TrialConfig, VitTokenizer
from tokscale.data.latents import LatentSpec
from tokscale.models.tokenizer import build_tokenizer
from tokscale.probes import build_probe
from tokscale.record import read_record
from tokscale.stages import run
from tokscale.training import parts
from tokscale.training.checkpoints import FolderCheckpoints, newest_checkpoint
from tokscale.training.optimization import transformer_blocks
from tokscale.training.sharding import clip_gradients


@pytest.mark.parametrize("case", ["vq", "probe", "diffusion"])
def test_two_ranks_that_share_out_the_blocks_give_the_weights_of_one_process(prepared, assert_close, case):
    alone, together = prepared("alone", case), prepared("together", case)
    run(str(alone.path))
    step = Step(together, 2, nodes=2, micro_batch=3, shard=True, recompute=True)
    assert step.finish() == [0, 0], step.output
    assert_close(together, alone)
    assert read_record(together.path).provenance["world_size"] == 2


def test_a_checkpoint_in_parts_is_gone_on_from_in_any_layout(prepared, assert_close):
    alone, together = prepared("alone"), prepared("together")
    run(str(alone.path))
    step = Step(together, 2, events={1: rank_tasks.signalled}, shard=True)
    assert step.finish() == [1, 0], step.output
    path = newest_checkpoint(together.checkpoints, together.path.name)
    assert path is not None
    assert parts.are_in(path)
    assert json.loads((path / "manifest.json").read_text())["files"].keys() > {"training.pt", "parts/.metadata"}
    step = Step(together, 2, job="78", events={1: rank_tasks.signalled_later}, shard=True)
    assert step.finish() == [1, 0], step.output
    assert "SIGUSR2" in claim.state(together.path).outcome["message"]
    run(str(together.path))
    assert read_record(together.path).provenance["attempts"] == 3
    assert_close(together, alone)


def test_a_whole_checkpoint_is_gone_on_from_in_parts(prepared, assert_close):
    alone, together = prepared("alone"), prepared("together")
    run(str(alone.path))
    step = Step(together, 1, events={0: rank_tasks.signalled})
    assert step.finish() == [1], step.output
    step = Step(together, 2, job="78", shard=True)
    assert step.finish() == [0, 0], step.output
    assert_close(together, alone)


@pytest.mark.parametrize("damaged", ["parts/.metadata", "parts/__1_0.distcp"])
def test_a_damaged_part_is_noticed(prepared, damaged):
    folder = prepared("runs")
    step = Step(folder, 2, events={0: rank_tasks.signalled}, shard=True)
    assert step.finish() == [1, 0], step.output
    file = folder.checkpoints / f"{STEP * 16:015d}" / damaged
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert newest_checkpoint(folder.checkpoints, folder.path.name) is None


def test_a_part_that_cannot_be_written_stops_all_ranks_and_leaves_nothing(prepared):
    folder = prepared("runs")
    step = Step(folder, 2, events={1: rank_tasks.signalled_without_room}, shard=True)
    assert step.finish() == [1, 0], step.output
    outcome = claim.state(folder.path).outcome
    assert (outcome["state"], outcome.get("cause")) == ("failed", "store")
    assert list(folder.checkpoints.iterdir()) == []


def test_gradients_are_clipped_as_torch_does():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,))]
    theirs = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,))]
    for mine, other in zip(ours, theirs, strict=True):
        mine.grad = torch.randn(mine.shape)
        other.grad = mine.grad.clone()
    for bound in (float("inf"), 1.0, 0.1):
        assert torch.equal(clip_gradients(ours, bound), torch.nn.utils.clip_grad_norm_(theirs, bound))
        assert all(torch.equal(mine.grad, other.grad) for mine, other in zip(ours, theirs, strict=True))


def test_a_checkpoint_of_another_layout_is_passed_over(tmp_path):
    path = tmp_path / f"{1:015d}"
    FolderCheckpoints("ab").save_checkpoint({"state_dict": {"w": torch.ones(2)}}, path)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["layout"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert newest_checkpoint(tmp_path, "ab") is None


def test_what_may_be_shared_out_are_the_blocks_of_the_built_modules():
    config = VitTokenizer(encoder="micro", decoder="tiny", patch=8, bottleneck=KLBottleneck(channels=16))
    trial = TrialConfig(tokenizer=config, probe={"size": "mini"})
    tokenizer = build_tokenizer(config, 32)
    probe = build_probe(trial.probe, LatentSpec("continuous", (4, 4), 16, 16, None), 10)
    for kind, module in (("tokenizer", tokenizer), ("probe", probe)):
        sizes = [sum(one.numel() for one in block.parameters()) for block in transformer_blocks(module)]
        found = cost.stage_cost(kind, trial)
        assert (found.blocks_bytes, found.block_bytes) == (16 * sum(sizes), 4 * max(sizes))
        assert found.shared_bytes(4) == found.fixed_bytes - 12 * sum(sizes) + 12 * max(sizes)

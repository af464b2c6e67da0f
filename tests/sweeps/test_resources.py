"""Resources from costs: the batch is never changed, memory and time limits hold, and as few GPUs as suffice."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm.profiles import ClusterProfile
from sweeps.layouts import layouts
from sweeps.planning import plan_of
from sweeps.resources import START_SECONDS, TIME_MARGIN, USABLE_MEMORY, Allocator, with_memory
from sweeps.spec import parse_spec
from sweeps.store import Store
from tokscale.errors import UsageError

STUDY = """\
name: study
trial:
  data: {kind: image_folder, root: /datasets/imagenet, resolution: 256}
  tokenizer: {encoder: S, decoder: B, patch: 16, bottleneck: {kind: kl, channels: 16}}
  training: {images: 102.4M, batch_size: 1024, precision: bf16}
grid:
  tokenizer.decoder: [B, L]
"""
H100 = ClusterProfile(
    "h100", gpus_per_node=8, gpu_memory_gb=80, max_minutes=24 * 60, tflops=300, cost_per_gpu_hour=2.5, cpus_per_gpu=12
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resources")
    return plan_of(*parse_spec(STUDY, folder / "study.yaml"), Store(folder / "runs"))


def allocator(profile, plan):
    return Allocator(profile, plan, Store(plan.file.path.parent / "runs"))


def key_of(plan, kind, decoder=0):
    return next(stage.key for stage in plan.trials[decoder].stages if stage.kind == kind)


@settings(max_examples=60, deadline=None)
@given(
    memory=st.floats(8, 200),
    per_node=st.sampled_from([1, 2, 4, 6, 8]),
    nodes=st.integers(1, 8),
    limit=st.sampled_from([None, 60, 24 * 60, 7 * 24 * 60]),
    tflops=st.sampled_from([None, 20, 300]),
)
def test_the_share_fits_and_adds_up_to_the_global_batch(plan, memory, per_node, nodes, limit, tflops):
    profile = ClusterProfile("any", gpus_per_node=per_node, gpu_memory_gb=memory, max_minutes=limit, tflops=tflops,
                             max_gpus=per_node * nodes)  # fmt: skip
    for key, stage in plan.stages.items():
        cost, usable = plan.costs[key], USABLE_MEMORY * memory * 2**30
        most = max((n for n in range(1, per_node * nodes + 1) if cost.batch % n == 0), default=1) if cost.batch else 1
        shared = cost.shared_bytes(most) if most > 1 else cost.fixed_bytes
        least = min(cost.image_bytes, cost.recomputed_bytes or cost.image_bytes)
        if min(cost.fixed_bytes, shared) + least > usable:
            with pytest.raises(UsageError, match="does not fit"):
                allocator(profile, plan).of(key)
            continue
        made = allocator(profile, plan).of(key)
        # the first layout, from the cheapest on, whose single image fits so many devices
        fitting = [one for one in layouts(cost, made.gpus) if one.fixed_bytes + one.image_bytes <= usable]
        assert made.layout == fitting[0]
        fixed, each = made.layout.fixed_bytes, made.layout.image_bytes
        assert fixed == (cost.shared_bytes(made.gpus) if made.layout.shard else cost.fixed_bytes)
        asked = made.resources
        assert asked.gpus == asked.tasks <= per_node
        assert asked.nodes * asked.gpus == made.gpus <= per_node * nodes
        if limit is not None:
            assert asked.minutes <= limit
        if not cost.batch:
            assert (made.gpus, made.micro_batch) == (1, None)
            continue
        share, rest = divmod(cost.batch, made.gpus)
        assert rest == 0, stage.kind
        micro = made.micro_batch or share
        assert math.ceil(share / micro) * micro >= share
        alone = made.gpus == 1 and made.micro_batch is None
        assert (cost.at_once_bytes(micro, each) if alone else fixed + micro * each) <= usable


def test_hours_and_cost_are_the_closed_form(plan):
    key = key_of(plan, "tokenizer")
    made = allocator(H100, plan).of(key)
    hours = (START_SECONDS + plan.costs[key].flops / (300e12 * made.gpus)) / 3600
    assert made.hours == pytest.approx(hours)
    assert made.gpu_hours == pytest.approx(hours * made.gpus)
    assert made.cost == pytest.approx(2.5 * hours * made.gpus)
    assert made.resources.minutes >= 60 * TIME_MARGIN * hours


def test_sampling_by_diffusion_is_no_reading_of_weights_for_one_token(plan, tmp_path):
    text = STUDY + "  probe: [{kind: autoregressive, size: B}, {kind: diffusion, size: B}]\n"
    both = plan_of(*parse_spec(text, tmp_path / "study.yaml"), Store(tmp_path / "runs"))
    hours = []
    for trial in both.trials[:2]:
        key = next(stage.key for stage in trial.stages if stage.kind == "generation")
        seconds = 3600 * allocator(H100, both).of(key).hours - START_SECONDS
        hours.append(both.costs[key].flops / seconds / 300e12)
    assert hours == pytest.approx([0.05, 0.5])


def test_the_fewest_gpus_that_finish_in_time_are_taken(plan):
    key = key_of(plan, "tokenizer")
    one = allocator(dataclasses.replace(H100, max_minutes=10**6), plan).of(key)
    assert one.gpus == 1
    for minutes in (2000, 1000, 500):
        made = allocator(dataclasses.replace(H100, max_minutes=minutes), plan).of(key)
        assert TIME_MARGIN * made.hours * 60 <= minutes
        assert TIME_MARGIN * one.hours * 60 / (made.gpus / 2) > minutes  # half as many would not do
    # no number suffices: the most there are, and the job resumes after its limit
    assert allocator(dataclasses.replace(H100, max_minutes=60), plan).of(key).gpus == 8
    spread = allocator(dataclasses.replace(H100, max_minutes=60, max_gpus=32), plan).of(key)
    assert (spread.resources.nodes, spread.resources.gpus) == (4, 8)


def test_a_model_too_large_for_one_gpu_is_shared_out_among_as_many_as_it_takes(tmp_path):
    spec = STUDY.replace("{encoder: S, decoder: B, patch: 16, bottleneck: {kind: kl, channels: 16}}",
                         "{kind: gigatok, encoder: XL, decoder: XXL}").replace("[B, L]", "[XXL]")  # fmt: skip
    large = plan_of(*parse_spec(spec, tmp_path / "study.yaml"), Store(tmp_path / "runs"))
    key = key_of(large, "tokenizer")
    profile = dataclasses.replace(H100, tflops=None)
    whole = allocator(dataclasses.replace(profile, gpu_memory_gb=141), large).of(key)
    assert (whole.gpus, whole.layout.shard, "shard" in whole.arguments) == (1, False, False)
    shared = allocator(dataclasses.replace(profile, gpu_memory_gb=40), large).of(key)
    assert (shared.gpus, shared.arguments["shard"]) == (2, True)
    with pytest.raises(UsageError, match="shared out among 8"):
        allocator(dataclasses.replace(profile, gpu_memory_gb=8), large).of(key)


def test_without_a_rate_hours_are_not_invented(plan):
    made = allocator(dataclasses.replace(H100, tflops=None), plan).of(key_of(plan, "tokenizer"))
    assert (made.hours, made.gpu_hours, made.cost) == (None, None, None)
    assert made.resources.minutes == H100.max_minutes


def test_stages_fall_into_few_kinds_of_resources(plan):
    found = allocator(H100, plan)
    for kind in ("reconstruction", "latents", "generation"):
        assert len({found.of(key_of(plan, kind, number)).resources for number in (0, 1)}) <= 2


def test_memory_grows_up_to_what_a_node_has(plan):
    profile = ClusterProfile("processors", cpus_per_gpu=4)
    made = allocator(profile, plan).of(key_of(plan, "reconstruction"))
    memory = made.resources.memory_gb
    assert memory * 2**30 > plan.costs[key_of(plan, "reconstruction")].memory_bytes
    assert with_memory(made, 1.5, None).resources.memory_gb == pytest.approx(1.5 * memory)
    assert with_memory(made, 1.5, 1.2 * memory).resources.memory_gb == pytest.approx(1.2 * memory)


def test_a_stage_that_cannot_fit_is_refused_in_numbers(plan):
    with pytest.raises(UsageError) as refused:
        allocator(dataclasses.replace(H100, gpu_memory_gb=0.3), plan).of(key_of(plan, "tokenizer"))
    assert "h100" in str(refused.value)
    assert "GB" in refused.value.given

"""Jobs to arrays: every job once, every dependency kept, as few arrays as the graph allows."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm.arrays import Place, index_list, kind_of, needed_parents, plan_arrays, shares
from slurm.cluster import parse_indices
from slurm.executor import Job, Resources

KINDS = ("tokenizer", "latents", "reconstruction", "probe", "generation")


def job(key, *after, kind=None, **resources):
    name = f"{kind or key.split('-')[0]}/{key}"
    return Job(key=key, name=name, target="m:f", log=Path("log"), after=after, resources=Resources(**resources))


@st.composite
def graphs(draw):
    """Any graph of jobs with few kinds and sizes, so that many are alike; some stand on jobs of the cluster."""
    live = {f"live-{i}": Place(draw(st.sampled_from(["70", "71"])), draw(st.integers(0, 9)))
            for i in range(draw(st.integers(0, 4)))}  # fmt: skip
    jobs = []
    for number in range(draw(st.integers(0, 24))):
        before = [one.key for one in jobs[-6:]] + sorted(live) + ["gone"]
        after = draw(st.lists(st.sampled_from(before), max_size=3))
        jobs.append(job(f"{draw(st.sampled_from('abc'))}-{number}", *after, gpus=draw(st.integers(0, 1))))
    return draw(st.permutations(jobs)), live, draw(st.integers(1, 12))


def places_of(arrays):
    return {
        job.key: Place(number, index) for number, array in enumerate(arrays) for index, job in array.elements.items()
    }


def waits_for(array, index):
    """The elements that an element of an array waits for, as SLURM understands its dependency."""
    return {Place(other, index) for other in array.same} | set(array.single)


@settings(deadline=None)
@given(graphs())
def test_every_job_is_in_one_element_and_waits_for_all_that_it_must(graph):
    jobs, live, limit = graph
    arrays = plan_arrays(jobs, live, limit=limit)
    places = places_of(arrays)
    assert Counter(job.key for array in arrays for job in array.elements.values()) == Counter(job.key for job in jobs)
    assert all(0 <= index < limit for array in arrays for index in array.elements)
    by_place = {place: key for key, place in places.items()}
    implied = {}
    for number, array in enumerate(arrays):
        for index, element in array.elements.items():
            waits = waits_for(array, index)
            inner = {place for place in waits if isinstance(place.array, int)}
            assert all(place.array < number for place in inner), "parents are submitted first"
            assert all(place in by_place for place in inner), "an element that is not there would be waited for"
            assert waits - inner <= set(live.values())
            # one waits for what one's parents waited for, too
            implied[element.key] = waits.union(*(implied[by_place[place]] for place in inner))
    for each in jobs:
        wanted = {places.get(parent) or live.get(parent) for parent in each.after} - {None}
        assert wanted <= implied[each.key]


@settings(deadline=None)
@given(graphs())
def test_no_element_waits_for_one_that_its_job_does_not_come_after(graph):
    jobs, live, limit = graph
    arrays = plan_arrays(jobs, live, limit=limit)
    places = places_of(arrays) | live
    parents = needed_parents(jobs, live)
    for array in arrays:
        for index, element in array.elements.items():
            assert waits_for(array, index) == {places[parent] for parent in parents[element.key]}
            assert (kind_of(element), element.resources) == (array.kind, array.resources)


def chains(count, kinds=KINDS, first=0):
    for number in range(first, first + count):
        for place, kind in enumerate(kinds):
            yield job(f"{kind}-{number}", *([f"{kinds[place - 1]}-{number}"] if place else []))


def test_a_thousand_chains_of_five_kinds_are_five_arrays_tied_element_to_element():
    arrays = plan_arrays(list(chains(1000)), {}, limit=1001)
    assert [array.kind for array in arrays] == list(KINDS)
    for number, array in enumerate(arrays):
        assert sorted(array.elements) == list(range(1000))
        assert (array.same, array.single) == (frozenset({number - 1} if number else ()), frozenset())
        assert {int(job.key.split("-")[1]) - index for index, job in array.elements.items()} == {0}


def test_arrays_are_split_at_the_limit_and_no_index_reaches_it():
    arrays = plan_arrays(list(chains(1000)), {}, limit=400)
    assert Counter(array.kind for array in arrays) == dict.fromkeys(KINDS, 3)
    assert max(index for array in arrays for index in array.elements) == 399
    assert sorted(len(array.elements) for array in arrays) == [200] * 5 + [400] * 10


def test_another_size_is_another_array_and_another_shape_shares_what_it_can():
    small = [job(f"probe-s{number}", gpus=1) for number in range(10)]
    large = [job(f"probe-l{number}", gpus=8) for number in range(10, 15)]
    arrays = plan_arrays([*chains(20), *chains(5, KINDS[:2], first=20), *small, *large], {}, limit=100)
    sizes = {(array.kind, array.resources.gpus, bool(array.same)): len(array.elements) for array in arrays}
    assert len(sizes) == len(arrays) == 7, "five of chains, two of lone probes"
    assert sizes["tokenizer", 0, False] == sizes["latents", 0, True] == 25
    assert sizes["probe", 0, True] == 20
    assert (sizes["probe", 1, False], sizes["probe", 8, False]) == (10, 5)


def twins(trees, children):
    for tree in range(trees):
        yield job(f"tokenizer-{tree}")
        for child in range(children):
            yield job(f"probe-{tree}-{child}", f"tokenizer-{tree}")
            yield job(f"generation-{tree}-{child}", f"probe-{tree}-{child}")


@pytest.mark.parametrize(
    ("trees", "children", "expected"),
    [(1000, 3, 1 + 3 * 2), (1, 1000, 1 + 2), (3, 200, 1 + 3 * 2), (40, 2, 1 + 2 * 2)],
)
def test_twins_become_layers_or_are_cut_off_whichever_is_fewer(trees, children, expected):
    assert len(plan_arrays(list(twins(trees, children)), {}, limit=1001)) == expected


def test_one_tokenizer_with_many_probes_is_cut_and_the_others_stay_layered():
    jobs = [*twins(100, 2), *(job(f"probe-0-{child}", "tokenizer-0") for child in range(2, 300))]
    arrays = plan_arrays(jobs, {}, limit=1001)
    probes = [array for array in arrays if array.kind == "probe"]
    assert sorted(len(array.elements) for array in probes) == [99, 99, 300]
    (cut,) = (array for array in probes if array.single)
    assert cut.single == {places_of(arrays)["tokenizer-0"]}


def test_an_element_takes_the_index_of_the_live_element_that_it_stands_on():
    live = {f"tokenizer-{number}": Place("70", 2 * number) for number in range(5)}
    jobs = [job(f"probe-{number}", f"tokenizer-{number}") for number in range(5)]
    (array,) = plan_arrays(jobs, live, limit=10)
    assert (array.same, array.single) == ({"70"}, frozenset())
    assert {job.key: index for index, job in array.elements.items()} == {f"probe-{i}": 2 * i for i in range(5)}


def test_a_live_element_out_of_reach_or_with_many_children_is_waited_for_by_name():
    (array,) = plan_arrays([job("probe-0", "far")], {"far": Place("70", 10)}, limit=10)
    assert (array.same, array.single) == (frozenset(), {Place("70", 10)})
    jobs = [job(f"probe-{number}", "tokenizer-0") for number in range(50)]
    (array,) = plan_arrays(jobs, {"tokenizer-0": Place("70", 3)}, limit=100)
    assert (array.same, array.single, len(array.elements)) == (frozenset(), {Place("70", 3)}, 50)


def test_what_a_parent_waits_for_is_not_waited_for_again():
    jobs = [job("a"), job("b", "a"), job("c", "b", "a", "gone"), job("d", "c", "a", "a")]
    assert needed_parents(jobs) == {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}


def test_jobs_that_wait_for_each_other_are_named():
    with pytest.raises(ValueError, match=r"wait for each other: .*a/a-1"):
        plan_arrays([job("a-1", "b-1"), job("b-1", "a-1")], {}, limit=10)


@settings(deadline=None)
@given(st.integers(1, 500), st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 300)), min_size=1, max_size=20))
def test_shares_sum_to_the_total_with_one_for_each(total, arrays):
    weights, most = zip(*arrays, strict=True)
    parts = shares(total, weights, most)
    assert all(1 <= part <= limit for part, limit in zip(parts, most, strict=True))
    assert sum(parts) == max(len(arrays), min(total, sum(most)))


def test_shares_follow_the_work():
    assert shares(100, [900, 90, 10], [1000, 1000, 1000]) == [90, 9, 1]
    arrays = plan_arrays(list(chains(1000)), {}, limit=1001, max_running=64)
    assert sum(array.throttle for array in arrays) == 64
    assert all(array.throttle is None for array in plan_arrays(list(chains(3)), {}, limit=10))


@settings(deadline=None)
@given(st.sets(st.integers(0, 2000)))
def test_an_index_list_names_each_index_once(indices):
    assert list(parse_indices(f"[{index_list(indices)}%7]")) == sorted(indices)

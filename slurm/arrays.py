"""Jobs to job arrays: as few arrays as the graph of the jobs allows, each element waiting for its own parents only.

A dependency of an array holds for all its elements, so the elements of one array must say the same thing about theirs:
``aftercorr:A``, "the element of A that has my index", or ``afterok:A_k``, "this one element of A". Indices are
therefore given by connected component: all jobs of a trial have the trial's number, in whatever array they are, and a
thousand chains of five kinds become five arrays.

Several jobs of one kind under one parent (twins) want the same index. They become layers, an array each for the first,
the second, ... of every parent; or they are cut off, an array of their own for each parent with many. Whichever makes
fewer arrays is taken. Pure functions: no file and no cluster.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from slurm.executor import Job, Resources

DEFAULT_MINUTES = 60  # of a job without a limit, when the jobs that may run at a time are shared out


@dataclass(frozen=True)
class Place:
    """An element of an array: ``array`` is the array's number in a plan, or its job id when it is on the cluster."""

    array: int | str
    index: int


@dataclass(frozen=True)
class JobArray:
    """Jobs of one kind and one size, by index, and what all of them wait for.

    ``same`` are arrays of which each element waits for the element with its own index, ``single`` are elements for
    which all wait. At most ``throttle`` of them run at a time.
    """

    kind: str
    resources: Resources
    elements: Mapping[int, Job]
    same: frozenset[int | str] = frozenset()
    single: frozenset[Place] = frozenset()
    throttle: int | None = None


def kind_of(job: Job) -> str:
    """The first word of a job's name, up to a slash or a space."""
    return re.split(r"[/\s]", job.name, maxsplit=1)[0] or "job"


def plan_arrays(
    jobs: Sequence[Job], live: Mapping[str, Place], *, limit: int, max_running: int | None = None
) -> list[JobArray]:
    """Arrays for jobs, parents before children; every index is below ``limit``.

    ``live`` has the places of jobs on the cluster that ``after`` may name; other keys of ``after`` that are not among
    the jobs count as done. Throttles sum to ``max_running``, or to one for each array where there are more arrays.
    ``ValueError`` when jobs wait for each other.
    """
    assert limit >= 1
    planner = _Planner(jobs, live, limit)
    return share_out(planner.arrays(), max_running)


def needed_parents(jobs: Sequence[Job], live: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """The parents that each job must wait for itself: those that no other of its parents waits for already.

    ``ValueError`` when jobs wait for each other. Keys come parents first.
    """
    known = {job.key for job in jobs}
    graph = {job.key: tuple(key for key in dict.fromkeys(job.after) if key in known) for job in jobs}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        names = {job.key: job.name for job in jobs}
        raise ValueError(f"jobs wait for each other: {' -> '.join(names[key] for key in error.args[1])}") from error
    live = set(live)
    given = {job.key: tuple(key for key in dict.fromkeys(job.after) if key in known or key in live) for job in jobs}
    before: dict[str, frozenset[str]] = {}
    found = {}
    for key in order:
        parents = given[key]
        implied = frozenset[str]().union(*(before.get(parent, frozenset()) for parent in parents))
        found[key] = tuple(parent for parent in parents if parent not in implied)
        before[key] = implied.union(parents)
    return found


def share_out(arrays: Sequence[JobArray], max_running: int | None) -> list[JobArray]:
    """Give each array its part of the jobs that may run at a time, by the minutes that its jobs take together.

    Work flows through arrays that stand on each other when each gets its part of the total time.
    """
    if max_running is None:
        return list(arrays)
    work = [len(array.elements) * (array.resources.minutes or DEFAULT_MINUTES) for array in arrays]
    parts = shares(max_running, work, [len(array.elements) for array in arrays])
    return [replace(array, throttle=part) for array, part in zip(arrays, parts, strict=True)]


def shares(total: int, weights: Sequence[float], most: Sequence[int]) -> list[int]:
    """Split ``total`` in proportion to ``weights``, at least 1 and at most ``most`` each."""
    parts = [1] * len(weights)
    for _ in range(total - len(parts)):
        # The next one goes where a share is worth most (the method of D'Hondt): never more than the total is given.
        open_ = [i for i, part in enumerate(parts) if part < most[i]]
        if not open_:
            break
        best = max(open_, key=lambda i: (weights[i] / parts[i], -i))
        parts[best] += 1
    return parts


def index_list(indices: Iterable[int]) -> str:
    """Indices as sbatch reads them: 0-3,7."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


class _Planner:
    """One run of the planning: level by level, parents first, each job next to its parents' index."""

    def __init__(self, jobs: Sequence[Job], live: Mapping[str, Place], limit: int) -> None:
        self.limit = limit
        self.jobs = {job.key: job for job in jobs}
        self.live = live
        self.parents = needed_parents(jobs, live)
        self.places: dict[str, Place] = {key: place for key, place in live.items() if key not in self.jobs}
        self.built: list[JobArray] = []

    def arrays(self) -> list[JobArray]:
        numbers = self._numbers()
        for level in self._levels():
            # bucket: jobs that say the same about their parents, with the index at which they do
            buckets: dict[Any, list[tuple[int, Job]]] = defaultdict(list)
            for key in level:
                job, (room, number) = self.jobs[key], numbers[key]
                index, same, single = self._stance(key, number)
                # Without parents nothing but the room keeps indices of two components apart.
                scope = room if not same and not single else None
                buckets[kind_of(job), job.resources, same, single, scope].append((index, job))
            for (kind, resources, same, single, _), members in buckets.items():
                self._build(JobArray(kind, resources, {}, same, single), members)
        return self.built

    def _stance(self, key: str, number: int) -> tuple[int, frozenset[int | str], frozenset[Place]]:
        """The index at which most parents stand, the arrays that have a parent there, and the other parents."""
        places = [self.places[parent] for parent in self.parents[key]]
        count = Counter(place.index for place in places if place.index < self.limit)
        index = max(count, key=lambda i: (count[i], i == number, -i)) if count else number
        same = frozenset(place.array for place in places if place.index == index)
        return index, same, frozenset(place for place in places if place.index != index)

    def _build(self, pattern: JobArray, members: list[tuple[int, Job]]) -> None:
        """Arrays for jobs that agree about their parents: twins in layers, or cut off."""
        twins: dict[int, list[Job]] = defaultdict(list)
        for index, job in members:
            twins[index].append(job)
        for index in _to_cut({index: len(jobs) for index, jobs in twins.items()}):
            single = pattern.single | {Place(array, index) for array in pattern.same}
            jobs = twins.pop(index)
            for start in range(0, len(jobs), self.limit):
                self._add(
                    replace(pattern, same=frozenset(), single=single), dict(enumerate(jobs[start:][: self.limit]))
                )
        for layer in range(max(map(len, twins.values()), default=0)):
            self._add(pattern, {index: jobs[layer] for index, jobs in sorted(twins.items()) if layer < len(jobs)})

    def _add(self, pattern: JobArray, elements: Mapping[int, Job]) -> None:
        for index, job in elements.items():
            self.places[job.key] = Place(len(self.built), index)
        self.built.append(replace(pattern, elements=elements))

    def _levels(self) -> list[list[str]]:
        """Keys by the length of the longest way to them; inside a level in the order given."""
        depth: dict[str, int] = {}
        for key, parents in self.parents.items():
            depth[key] = 1 + max((depth[parent] for parent in parents if parent in self.jobs), default=-1)
        levels: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for key in self.jobs:
            levels[depth[key]].append(key)
        return levels

    def _numbers(self) -> dict[str, tuple[int, int]]:
        """For each job the number of its component: a room, and an index in it that no other component has.

        A component that stands on elements of the cluster takes the index of the first. The others are numbered by the
        kinds they consist of, so that those of one sort lie in one room as long as it holds them.
        """
        components = list(self._components())
        taken: dict[int, set[int]] = defaultdict(set)
        numbers: dict[str, tuple[int, int]] = {}
        wanted: Counter[int] = Counter()
        sorts: dict[Any, list[list[str]]] = defaultdict(list)
        for component in components:
            place = next((self.live[parent] for key in component for parent in self.parents[key]
                          if parent in self.live and self.live[parent].index < self.limit), None)  # fmt: skip
            if place is None:
                sorts[frozenset(Counter(kind_of(self.jobs[key]) for key in component).items())].append(component)
                continue
            room = wanted[place.index]
            wanted[place.index] += 1
            taken[room].add(place.index)
            numbers.update(dict.fromkeys(component, (room, place.index)))
        rooms = _Rooms(self.limit, taken)
        for alike in sorted(sorts.values(), key=len, reverse=True):
            for component, number in zip(alike, rooms.take(len(alike)), strict=True):
                numbers.update(dict.fromkeys(component, number))
        return numbers

    def _components(self) -> Iterator[list[str]]:
        """Jobs that are tied to each other, in the order given."""
        neighbours: dict[str, list[str]] = {key: [] for key in self.jobs}
        for key, parents in self.parents.items():
            for parent in parents:
                if parent in self.jobs:
                    neighbours[key].append(parent)
                    neighbours[parent].append(key)
        order = {key: number for number, key in enumerate(self.jobs)}
        seen: set[str] = set()
        for first in self.jobs:
            if first in seen:
                continue
            seen.add(first)
            component = [first]
            for key in component:  # grows while it is walked
                fresh = [other for other in dict.fromkeys(neighbours[key]) if other not in seen]
                seen.update(fresh)
                component.extend(fresh)
            yield sorted(component, key=order.__getitem__)


class _Rooms:
    """Numbers below a limit, as many times over as are needed."""

    def __init__(self, limit: int, taken: Mapping[int, set[int]]) -> None:
        self.limit = limit
        self._free = {room: [i for i in range(limit) if i not in used] for room, used in sorted(taken.items())}

    def take(self, count: int) -> Iterator[tuple[int, int]]:
        """Numbers for components of one sort: all in the first room that has as many, or in new ones."""
        while count > 0:
            room = next((room for room, free in self._free.items() if len(free) >= count), None)
            if room is None:
                room = len(self._free)
                self._free[room] = list(range(self.limit))
            now = min(count, self.limit)
            given, self._free[room] = self._free[room][:now], self._free[room][now:]
            yield from ((room, number) for number in given)
            count -= now


def _to_cut(twins: Mapping[int, int]) -> list[int]:
    """Which indices get an array of their own, so that these and the layers of the others are fewest together."""
    heaviest = sorted(twins, key=lambda index: -twins[index])
    layers = [twins[index] for index in heaviest] + [0]
    fewest = min(range(len(layers)), key=lambda cut: cut + layers[cut])
    return heaviest[:fewest]

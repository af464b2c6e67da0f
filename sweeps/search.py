"""A search in a runs folder: the points that were asked for, and the trials that judge them. No sampler here."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweeps.feasibility import INVALID, TOO_LARGE
from sweeps.grid import Trial
from sweeps.search_log import FILE_NAME, Point, read_points
from sweeps.search_space import Space
from sweeps.spec import SpecFile, SweepSpec
from sweeps.store import Store
from tokscale import cost
from tokscale.columns import at_scale, without_scale
from tokscale.config import TrialConfig
from tokscale.errors import ConfigError
from tokscale.stage import Stage, canonical

MOST_DRAWS = 200
"""draws in a row without a feasible point, after which a search counts as one that has no more"""

# Measures of the stages that a trial may be without; all others are taken of every tokenizer.
MEASURED_BY = {
    "ar_loss": "probe", "ar_bits_per_image": "probe", "ar_bits_per_pixel": "probe",
    **dict.fromkeys(("gfid", "gfdd", "gfd", "gfvd", "gfcd", "gis", "precision", "recall"), "generation"),
    "diffusion_loss": "probe", "ar_linear_accuracy": "linear_probe", "diffusion_linear_accuracy": "linear_probe",
    "tokenizer_linear_accuracy": "linear_probe",
}  # fmt: skip
_NEEDED = {"probe": ("probe",), "generation": ("probe", "generation"), "linear_probe": ("probe", "linear_probe")}
"""sections of the trial that a kind of stage needs"""
_OF_PROBE = {"ar_": "autoregressive", "diffusion_": "diffusion"}
"""how the measures begin that one kind of probe has"""


class Search:
    """The search of a spec in a runs folder, as its log has it; reading changes nothing."""

    def __init__(self, spec: SweepSpec, file: SpecFile, store: Store) -> None:
        assert spec.search is not None
        self.spec, self.file, self.store, self.config = spec, file, store, spec.search
        self.space = Space(spec, file)
        self.points: list[Point] = []
        self.others = 0
        """points of the log that are not of this spec as it is now: they neither count nor run"""
        self.next_number = 0
        self.exhausted: set[str] = set()
        """points of the grid at which no new point was found in many draws"""
        self.taken: set[str] = set()
        """ids of all trials"""
        self._trials: dict[int, tuple[Trial, ...]] = {}
        self._by_cell: dict[str, list[Point]] = {}
        self._size = 0
        self._check_measured()
        self.reload()

    def _check_measured(self) -> None:
        """Raise ``ConfigError`` for an objective or a pruner that no stage of these trials would ever measure."""
        asked = [(f"search.objectives.{number}", one.measure, MEASURED_BY.get(without_scale(one.measure)))
                 for number, one in enumerate(self.config.objectives)]  # fmt: skip
        if self.config.pruner is not None:
            asked.append(("search.pruner", f"on: {self.config.pruner.on}", self.config.pruner.on))
        self._check_watched()
        self._check_kind_of_probe()
        self._check_scales()
        varied = {path.split(".")[0] for path in [*self.spec.grid, *self.config.space]}
        for place, words, kind in asked:
            for section in _NEEDED.get(kind or "", ()):
                default = TrialConfig.model_fields[section].default
                if section not in varied and self.spec.trial.get(section, default) is None:
                    raise ConfigError(f"no stage of these trials measures this: they have no {section}",
                                      where=self.file.place(place), given=f"{words}, with {section}: null",
                                      allowed=f"a {section}, or another measure")  # fmt: skip

    def _check_kind_of_probe(self) -> None:
        """Raise ``ConfigError`` for a measure that probes of another kind than these trials' have."""
        probe = self.spec.trial.get("probe", {})
        if probe is None or {"probe", "probe.kind"} & {*self.spec.grid, *self.config.space}:
            return
        kind = probe.get("kind", "autoregressive")
        asked = [(f"search.objectives.{number}", one.measure) for number, one in enumerate(self.config.objectives)]
        if self.config.pruner is not None:
            asked.append(("search.pruner", self.config.pruner.measure))
        for place, measure in asked:
            needed = next((known for start, known in _OF_PROBE.items() if measure.startswith(start)), kind)
            if needed != kind:
                raise ConfigError("no stage of these trials measures this: their probe is of another kind",
                                  where=self.file.place(place), given=f"{measure}, with probe.kind: {kind}",
                                  allowed=f"probe.kind {needed}, or another measure")  # fmt: skip

    def _check_scales(self) -> None:
        """Raise ``ConfigError`` for a measure at a scale of guidance that is none of those that are measured."""
        varies = any(path.split(".")[0] == "generation" for path in (*self.spec.grid, *self.config.space))
        scales = (self.spec.trial.get("generation") or {}).get("cfg_scales") or ()
        for number, one in enumerate(self.config.objectives):
            name = without_scale(one.measure)
            if name != one.measure and not varies and one.measure not in [at_scale(name, scale) for scale in scales]:
                raise ConfigError("no stage of these trials measures this: it is of another scale of guidance",
                                  where=self.file.place(f"search.objectives.{number}"), given=one.measure,
                                  allowed=f"a scale of generation.cfg_scales: {list(scales)}")  # fmt: skip

    def _check_watched(self) -> None:
        """Raise ``ConfigError`` for a pruner of intermediate probes where none are made."""
        pruner, path = self.config.pruner, "training.probe_every"
        training = self.spec.trial.get("training") or {}
        asked = training.get("probe_every") or any(
            name in (path, "training") for name in (*self.spec.grid, *self.config.space)
        )
        if pruner is not None and pruner.measure.startswith("probe_") and not asked:
            raise ConfigError("the pruner looks at intermediate probes, and there are none",
                              where=self.file.place("search.pruner"), given=f"measure: {pruner.measure}",
                              allowed=f"trial.{path}: images between two of them")  # fmt: skip

    @property
    def folder(self) -> Path:
        return self.store.sweep(self.spec.name)

    @property
    def log(self) -> Path:
        return self.folder / FILE_NAME

    def reload(self) -> None:
        """Read the log again, if it has grown."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size == self._size:
            return
        self._size = size
        logged = read_points(self.log)
        self.next_number = max((point.number for point in logged), default=-1) + 1
        cells = {canonical(cell) for cell in self.space.cells}
        names = {*self.config.constraints, *self.spec.where, INVALID, TOO_LARGE}
        mine = [
            point for point in logged
            if canonical(point.cell) in cells and self.space.holds(point.params) and point.broken <= names
        ]  # fmt: skip
        self._trials = self._same([point for point in mine if point.feasible], where=True)
        drawn = self._same([point for point in mine if not point.feasible], where=False)
        self.points = [point for point in mine if point.number in self._trials or point.number in drawn]
        self.others = len(logged) - len(self.points)
        self.taken = {trial.id for trials in self._trials.values() for trial in trials}
        self._by_cell = {}
        for point in self.points:
            self._by_cell.setdefault(canonical(point.cell), []).append(point)

    def add(self, point: Point, trials: Sequence[Trial]) -> None:
        """Take in a point that was just written to the log."""
        self.points.append(point)
        self._by_cell.setdefault(canonical(point.cell), []).append(point)
        self.next_number = point.number + 1
        if point.feasible:
            self._trials[point.number] = tuple(trials)
            self.taken |= {trial.id for trial in trials}

    def trials(self) -> list[Trial]:
        """The trials of all points, in the order in which they were asked; the seeds of a point side by side."""
        return [trial for point in self.points for trial in self.trials_of(point)]

    def trials_of(self, point: Point) -> tuple[Trial, ...]:
        """The trials that judge a point, one for each seed; none for a point that is not feasible."""
        return self._trials.get(point.number, ())

    def points_of(self, cell: Mapping[str, object]) -> Sequence[Point]:
        """The points of the search at one point of the grid."""
        return self._by_cell.get(canonical(cell), ())

    def to_come(self, cell: Mapping[str, object]) -> int:
        """Points that the search at one point of the grid may still ask for."""
        points = self.points_of(cell)
        if canonical(cell) in self.exhausted or in_vain(points) >= MOST_DRAWS:
            return 0
        left = self.space.size - len(points)
        if self.config.trials is not None:
            left = min(left, self.config.trials - sum(point.feasible for point in points))
        return max(0, int(left))

    def words(self) -> str:
        """One line for people: how many points were asked, and how many are to come."""
        asked = sum(point.feasible for point in self.points)
        to_come = sum(self.to_come(cell) for cell in self.space.cells)
        words = [f"{asked} points asked", f"{to_come} to come"]
        if len(self.space.cells) > 1:
            words.append(f"a search at each of {len(self.space.cells)} points of the grid")
        if self.space.seeds:
            words.append(f"{len(self.space.seeds)} seeds each")
        if infeasible := len(self.points) - asked:
            words.append(f"{infeasible} not feasible")
        if self.others:
            words.append(f"{self.others} of an earlier spec left out")
        if to_come and (ends := self._flops_at_the_corners()):
            words.append(f"a trial takes {' to '.join(ends)} from one corner of the space to the other")
        return f"search ({self.config.sampler}): {', '.join(words)}"

    def _flops_at_the_corners(self) -> list[str]:
        """FLOPs of a trial where all settings are the first of their range or list, and the last; the smaller first."""
        found = set()
        for ends in (0, -1):
            params = {path: dimension.ends[ends] for path, dimension in self.space.dimensions.items()}
            with contextlib.suppress(ConfigError):  # these settings do not go together
                for trial in self.space.trials(self.space.rows(self.space.cells[ends], params), where=False):
                    found.add(sum(cost.stage_cost(stage.kind, trial.config).flops for stage in trial.stages))
        return [f"{flops:.2g} FLOP" for flops in sorted(found)]

    def stages_of_none_but(self, trials: Sequence[Trial]) -> list[Stage]:
        """The stages that nobody needs without these trials."""
        left_out = {trial.id for trial in trials}
        needed = {stage.key for trial in self.trials() if trial.id not in left_out for stage in trial.stages}
        stages = {stage.key: stage for trial in trials for stage in trial.stages if stage.key not in needed}
        return list(stages.values())

    def _same(self, points: Sequence[Point], *, where: bool) -> dict[int, tuple[Trial, ...]]:
        """The trials, by number, of those points whose trials are still what they were when they were asked."""
        rows = {point.number: self.space.rows(point.cell, point.params) for point in points}
        valid = [row for point in points if INVALID not in point.broken for row in rows[point.number]]
        made = self._made(valid, where)
        same: dict[int, tuple[Trial, ...]] = {}
        for point in points:
            if INVALID in point.broken:
                if not self._made(rows[point.number], where):
                    same[point.number] = ()
            elif len(point.trials) == max(1, len(self.space.seeds)) and all(one in made for one in point.trials):
                same[point.number] = tuple(made[one] for one in point.trials)
        return same

    def _made(self, rows: Sequence[Mapping[str, object]], where: bool) -> dict[str, Trial]:
        """The trials of rows by id, without those that the spec, which may have been edited, does not make."""
        try:
            return {trial.id: trial for trial in self.space.trials(rows, where=where)}
        except ConfigError:
            if len(rows) == 1:
                return {}
        return {identity: trial for row in rows for identity, trial in self._made([row], where).items()}


def in_vain(points: Sequence[Point]) -> int:
    """How many points since the last feasible one."""
    return next((count for count, point in enumerate(reversed(points)) if point.feasible), len(points))

"""A search whose trials are finished by hand: for tests of asking, judging and pruning without training anything."""

import math

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeps.rounds import rounds_of
from sweeps.search_log import read_points
from sweeps.store import StageState, Store
from tokscale import claim
from tokscale.record import Record, write_record

SPEC = """\
name: study
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
  probe: null
search:
  trials: 12
  parallel: 1
  space:
    training.lr: {low: 1e-5, high: 1e-1, log: true}
    tokenizer.bottleneck.channels: [2, 4, 8, 16]
  objectives: [psnr]
"""


def finish(store, trial, **measures):
    """Leave the records of a finished trial."""
    for stage in trial.stages:
        found = measures if stage.kind == "reconstruction" else {}
        write_record(store.folder(stage).path, Record(stage.kind, stage.id, {}, dict(stage.parents), found))


def judge(trial):
    """Decibels that depend on nothing but the trial's settings."""
    return 30 - (math.log10(trial.config.training.lr) + 3) ** 2 - 1 / trial.config.tokenizer.bottleneck.channels


def fail(store, stage, cause):
    held = claim.claim(store.prepare(stage).path)
    held.release({"state": "failed", "cause": cause, "message": "it went wrong"})


class Bench:
    """A search whose trials are finished by hand."""

    def __init__(self, folder, text, profile=None):
        self.spec, self.store, self.profile = folder / "study.yaml", Store(folder / "runs"), profile
        self.spec.write_text(text)

    def rounds(self):
        return rounds_of(self.spec, self.store, self.profile)

    def points(self):
        return read_points(self.store.sweep("study") / "search.jsonl")

    def open_trials(self, plan):
        statuses = self.store.statuses(plan.stages.values())
        return [trial for trial in plan.trials
                if any(statuses[stage.key].state is StageState.new for stage in trial.stages)]  # fmt: skip

    def run(self, again=False, most_open=None):
        """Judge trial by trial until nothing more comes; ``again`` begins a new orchestrator after each step."""
        rounds, plan = self.rounds(), None
        while (larger := rounds.advance({} if plan is None else self.store.statuses(plan.stages.values()))) is not None:
            plan = larger
            waiting = self.open_trials(plan)
            assert most_open is None or len(waiting) <= most_open
            if waiting:
                finish(self.store, waiting[0], psnr=judge(waiting[0]))
            if again:
                rounds.close()
                rounds = self.rounds()
                if not rounds.more and not self.open_trials(rounds.plan):
                    break
        rounds.close()
        return plan


def asked(points):
    return [(point.params, point.trials, point.cell, point.constraints, point.sampler) for point in points]


def study(store, name="study"):
    journal = store.sweep("study") / "study.journal"
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(journal.absolute()))))

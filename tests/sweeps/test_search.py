"""Points that are asked for: written down for good, drawn again alike, and better than chance."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeps.curves import read_curve
from sweeps.dashboard import Dashboard
from sweeps.outcomes import Outcome
from sweeps.search_log import Point, append_point, read_points
from sweeps.search_space import Space
from sweeps.spec import parse_spec
from sweeps.study import Sampling, Translation
from tokscale.errors import StoreError

SPEC = """\
name: study
trial:
  data: {kind: procedural, resolution: 32}
  tokenizer: {encoder: nano, decoder: nano, patch: 8}
search:
  trials: 60
  space:
    training.lr: {low: 1e-5, high: 1e-1, log: true}
    training.warmup: {low: 0, high: 1}
    probe.dropout: {low: 0, high: 0.9}
  objectives: [psnr]
"""
FRONT = SPEC.replace("trials: 60", "trials: 240\n  sampler: nsga2\n  population: 24").replace("psnr", "mse, ar_loss")


def translation(text):
    space = Space(*parse_spec(text, Path("study.yaml")))
    return Translation(space.config, space.dimensions)


def searched(text, objective, seed, at_once=2):
    """A whole search, a few points at a time; the objective's values of all points."""
    made = translation(text)
    known = []
    for number in range(0, made.config.trials, at_once):
        sampling = Sampling(made, known)
        asked = []
        for offset in range(at_once):
            params, notes = sampling.draw(1000 * seed + number + offset)
            asked.append(Point(number + offset, params, ("trial",), 0.0, sampler=notes))
            sampling.note(asked[-1])
        known += [(point, Outcome("done", objective(point.params))) for point in asked]
    return [outcome.values for _, outcome in known]


def hill(params):
    lr, warmup, dropout = params["training.lr"], params["training.warmup"], params["probe.dropout"]
    return (30 - 4 * (math.log10(lr) + 3.3) ** 2 - 20 * (warmup - 0.2) ** 2 - 10 * (dropout - 0.1) ** 2,)


def test_tpe_finds_more_than_chance_does():
    seeds = range(8)
    found = {
        sampler: statistics.mean(
            30 - max(searched(SPEC.replace("trials: 60", f"trials: 60\n  sampler: {sampler}"), hill, seed))[0]
            for seed in seeds
        )
        for sampler in ("tpe", "random")
    }
    assert found["tpe"] < 0.5 * found["random"]


def zdt1(params):
    """ZDT1 (Zitzler, Deb & Thiele 2000) in three variables: its front is f2 = 1 - sqrt(f1)."""
    first, others = params["training.warmup"], [params["probe.dropout"], (5 + math.log10(params["training.lr"])) / 4]
    scale = 1 + 9 * statistics.mean(others)
    return first, scale * (1 - math.sqrt(first / scale))


def front(values):
    return [one for one in values if not any(other != one and other[0] <= one[0] and other[1] <= one[1]
                                             for other in values)]  # fmt: skip


def test_nsga2_comes_near_a_known_front():
    values = searched(FRONT, zdt1, seed=0, at_once=8)
    chance = searched(FRONT.replace("nsga2\n  population: 24", "random"), zdt1, seed=0, at_once=8)
    beyond = {name: statistics.median(second - (1 - math.sqrt(first)) for first, second in front(found))
              for name, found in (("nsga2", values), ("random", chance))}  # fmt: skip
    assert beyond["nsga2"] < 0.15
    assert beyond["nsga2"] < 0.3 * beyond["random"]
    spread = [first for first, _ in front(values)]
    assert min(spread) < 0.2
    assert max(spread) > 0.7


@pytest.mark.parametrize("text", [SPEC, FRONT], ids=["tpe", "nsga2"])
def test_equal_knowledge_and_seed_give_the_same_point(text):
    made = translation(text)
    values = [hill, zdt1][len(made.config.objectives) - 1]
    known = []
    for number in range(30):
        params, notes = Sampling(made, known).draw(number)
        # what it noted survives being written down
        point = Point(**json.loads(json.dumps({"number": number, "params": params, "trials": [], "when": 0.0,
                                               "sampler": notes})))  # fmt: skip
        known.append((point, Outcome("done", values(point.params))))
    first, second = Sampling(made, known), Sampling(made, known)
    second.draw(5)  # a draw that came to nothing leaves no trace
    assert first.draw(77) == second.draw(77)
    assert first.draw(77)[0] != first.draw(78)[0]


def test_tpe_stays_away_from_what_diverged_and_from_what_is_not_feasible():
    made = translation(SPEC)
    upper = "training.lr"

    def share_above(state):
        known = []
        for number in range(40):
            params, _ = Sampling(made, []).draw(number)
            bad = params[upper] > 1e-3
            point = Point(
                number, params, ("trial",), 0.0, constraints={"limit": 1.0} if bad and state == "infeasible" else {}
            )
            known.append((point, Outcome(state) if bad else Outcome("done", (20.0 + number % 3,))))
        sampling = Sampling(made, known)
        return statistics.mean(sampling.draw(1000 + seed)[0][upper] > 1e-3 for seed in range(40))

    assert share_above("diverged") < 0.15
    assert share_above("infeasible") < 0.15


def test_points_survive_a_writer_that_was_killed_in_mid_line(tmp_path):
    log = tmp_path / "sweeps" / "study" / "search.jsonl"
    points = [Point(number, {"training.lr": 10.0**-number}, (f"trial{number}",), 1.5, constraints={"a": -0.5})
              for number in range(3)]  # fmt: skip
    for point in points[:2]:
        append_point(log, point)
    whole = log.read_bytes()
    for length in range(1, len(whole.splitlines()[0])):
        log.write_bytes(whole + whole[:length])
        assert read_points(log) == points[:2]
        append_point(log, points[2])
        assert read_points(log) == points
        assert log.read_bytes().startswith(whole)


def test_a_damaged_line_is_named(tmp_path):
    log = tmp_path / "search.jsonl"
    append_point(log, Point(0, {}, (), 0.0))
    log.write_bytes(b"nonsense\n" + log.read_bytes())
    with pytest.raises(StoreError, match=r"search\.jsonl:1"):
        read_points(log)


def progress(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"done": 9')


def test_a_curve_is_read_at_equal_shares_of_the_budget(tmp_path):
    path = tmp_path / "progress.jsonl"
    assert read_curve(path, "loss") == {}
    progress(path, [{"done": done, "total": 200, "loss": 1 - done / 200} for done in (4, 26, 61, 105)])
    # the part of the budget that it is in now may still say something else
    assert read_curve(path, "loss") == pytest.approx({step: 1 - step / 100 for step in range(5, 35, 5)})
    assert read_curve(path, "kl") == {}


def test_the_noise_of_batches_is_averaged(tmp_path):
    path = tmp_path / "progress.jsonl"
    progress(
        path, [{"done": done, "total": 1000, "loss": 1 - done / 1000 + 0.1 * (-1) ** done} for done in range(1001)]
    )
    curve = read_curve(path, "loss")
    assert list(curve) == list(range(5, 100, 5))
    assert curve == pytest.approx({step: 1 - step / 100 for step in curve}, abs=0.005)


def test_what_is_rarely_said_counts_as_soon_as_the_stage_is_past_it(tmp_path):
    """As of an intermediate probe at every quarter: its first value is of use in the twentieth that follows."""
    path = tmp_path / "progress.jsonl"
    lines = [{"done": done, "total": 100, "loss": 1.0} | ({"probe_loss": 4.0 - done / 50} if done % 25 == 0 else {})
             for done in range(1, 61)]  # fmt: skip
    progress(path, lines[:24])
    assert read_curve(path, "probe_loss") == {}
    progress(path, lines[:30])
    assert read_curve(path, "probe_loss") == {25: 3.5}
    progress(path, lines)
    assert read_curve(path, "probe_loss") == pytest.approx({25: 3.5, 30: 3.4, 35: 3.3, 40: 3.2, 45: 3.1, 50: 3.0})


def test_an_attempt_that_goes_on_from_a_checkpoint_overwrites_the_one_before(tmp_path):
    path = tmp_path / "progress.jsonl"
    lines = [{"done": done, "total": 100, "loss": 9.0} for done in (1, 40, 60)]
    lines += [{"done": done, "total": 100, "loss": 1.0} for done in (39, 70, 90)]
    progress(path, lines)
    curve = read_curve(path, "loss")
    assert curve[40] == curve[60] == curve[70] == 1.0
    assert curve[5] > 8


def loaded(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return {study.study_name: optuna.load_study(study_name=study.study_name, storage=storage)
            for study in optuna.get_all_study_summaries(storage)}  # fmt: skip


def seen(study):
    return [(trial.state.name, trial.values, trial.params, trial.intermediate_values, trial.constraints)
            for trial in study.trials]  # fmt: skip


def test_the_dashboards_journal_follows_and_equals_one_made_anew(tmp_path):
    made = translation(SPEC + '  constraints: ["tokenizer_params <= 1G"]\n  pruner: {on: tokenizer}\n')
    points = [Point(number, Sampling(made, []).draw(number)[0], ("trial",), 100.0, constraints={"limit": -1.0})
              for number in range(6)]  # fmt: skip
    lost = Point(6, points[0].params | {"training.warmup": 0.5}, ("trial",), 100.0, constraints={"limit": 2.0})
    curve = {5: 3.0, 10: 2.0}
    ends = [Outcome("done", (20.0,), curve, 200.0), Outcome("failed", curve={5: 3.0}),
            Outcome("diverged", curve=curve), Outcome("pruned", curve=curve), Outcome("open", curve={5: 3.0}),
            Outcome("open", curve={5: 3.0}), Outcome("infeasible")]  # fmt: skip
    points.append(lost)
    followed, anew = tmp_path / "followed.journal", tmp_path / "anew.journal"
    dashboard = Dashboard(made, followed)
    for count in range(1, 8):
        opened = [(point, Outcome("open", curve={5: 3.0}) if point.feasible else Outcome("infeasible"))
                  for point in points[:count]]  # fmt: skip
        dashboard.follow({"study": [*zip(points[: count - 1], ends, strict=False), opened[-1]]})
        inode = followed.stat().st_ino
    known = list(zip(points, ends, strict=True))
    dashboard.follow({"study": known})
    assert followed.stat().st_ino == inode  # it grew: a dashboard that reads it does not lose its place
    Dashboard(made, anew).follow({"study": known})
    assert seen(loaded(followed)["study"]) == seen(loaded(anew)["study"])
    states = [trial.state.name for trial in loaded(anew)["study"].trials]
    assert states == ["COMPLETE", "FAIL", "PRUNED", "PRUNED", "RUNNING", "RUNNING", "PRUNED"]
    assert loaded(anew)["study"].best_trial.user_attrs["point"] == 0


@pytest.mark.parametrize("damage", ["torn", "removed", "edited"])
def test_a_damaged_journal_is_written_anew(tmp_path, damage):
    made = translation(SPEC)
    path = tmp_path / "study.journal"
    known = [(Point(number, Sampling(made, []).draw(number)[0], (), 1.0), Outcome("open")) for number in range(3)]
    dashboard = Dashboard(made, path)
    dashboard.follow({"study": known[:2]})
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "removed":
        path.unlink()
    else:
        path.write_text("nonsense\n")
    dashboard.follow({"study": known})
    assert len(loaded(path)["study"].trials) == 3


def test_a_result_that_changed_after_it_was_told_makes_the_journal_anew(tmp_path):
    made = translation(SPEC)
    point = Point(0, Sampling(made, []).draw(0)[0], (), 1.0)
    dashboard = Dashboard(made, tmp_path / "study.journal")
    dashboard.follow({"study": [(point, Outcome("failed"))]})
    dashboard.follow({"study": [(point, Outcome("done", (20.0,)))]})
    assert loaded(tmp_path / "study.journal")["study"].best_value == 20.0


GRID_ONLY = """
import sys
from pathlib import Path
from sweeps.planning import make_plan
from sweeps.rounds import rounds_of
from sweeps.store import Store
plan = make_plan(Path(sys.argv[1]), Store(Path("nowhere")))
if plan.spec.search is None:
    assert rounds_of(Path(sys.argv[1]), Store(Path("nowhere"))).advance({}).trials == plan.trials
assert not {"optuna", "torch", "pandas"} & set(sys.modules), "too much was imported"
print(len(plan.trials))
"""


@pytest.mark.parametrize("text", [SPEC, SPEC.partition("search:")[0]], ids=["search", "grid"])
def test_planning_imports_no_sampler(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    done = subprocess.run([sys.executable, "-c", GRID_ONLY, "study.yaml"], cwd=tmp_path, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("0" if "search" in text else "1")

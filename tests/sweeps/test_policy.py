"""The failure policy as a table: what each cause leads to, how often, and with what changed."""

from collections import Counter

import pytest

from sweeps.policy import BREAKER, RULES, decide, may_go_on, remedy, signature
from sweeps.store import StageState, StageStatus
from tokscale.stage import Stage


def stage(kind, number, **parents):
    identity = f"{number:016x}"
    return Stage(f"{kind}/{identity}", kind, identity, {}, {name: f"{n:016x}" for name, n in parents.items()})


def by_key(*stages):
    return {one.key: one for one in stages}


NEW = StageStatus(StageState.new)
ALWAYS, NEVER = 10**6, 0
# how often a stage that ends so time after time is submitted again by itself
TIMES = {
    None: ALWAYS, "interrupted": ALWAYS, "preempted": ALWAYS, "time limit": ALWAYS, "node": 5, "out of memory": 6,
    "host memory": 4, "killed": 3, "lost": 3, "store": 3, "diverged": NEVER, "data": NEVER, "weights": NEVER,
    "config": NEVER, "code": NEVER, "crash": NEVER, "launch": NEVER, "no progress": NEVER, "cancelled": NEVER,
    "blocked": NEVER, "a word of a later version": NEVER,
}  # fmt: skip


@pytest.mark.parametrize("cause", TIMES)
def test_how_often_each_cause_is_tried_again(cause):
    times = TIMES[cause]
    assert may_go_on(cause, max(0, times - 1)) == (times > 0)
    assert may_go_on(cause, times) == (times == ALWAYS)


def test_what_is_merely_interrupted_needs_nobody():
    assert remedy("lost", StageState.interrupted).startswith("nothing yet")
    assert remedy("lost", StageState.failed) == remedy("lost") == RULES["lost"].remedy
    assert remedy("preempted", StageState.interrupted) == RULES["preempted"].remedy


def test_every_cause_has_a_rule_and_a_remedy_in_words():
    assert set(RULES) <= set(TIMES)
    assert all(len(remedy(cause)) > 20 for cause in TIMES)
    assert "tokscale cluster check" in remedy("launch")
    assert all("tokscale retry" in remedy(cause) for cause in ("data", "code", "crash", "killed", "lost", "cancelled"))


LEFT = ["done", "running", "queued", "failed", "cancelled", "blocked"]


@pytest.mark.parametrize("state", LEFT)
def test_what_is_in_hand_or_over_is_left(state):
    one = stage("tokenizer", 1)
    made = decide(by_key(one), {one.key: StageStatus(StageState(state))}, {}, {one.key})
    assert made.submit == ()
    assert made.left == {one.key: state}


def test_new_and_interrupted_are_submitted_parents_first():
    parent, child = stage("tokenizer", 1), stage("reconstruction", 2, tokenizer=1)
    stages = by_key(parent, child)
    made = decide(stages, {parent.key: StageStatus(StageState.interrupted, 2, "preempted"), child.key: NEW}, {})
    assert made.submit == (parent.key, child.key)
    assert (made.memory, made.exclude, made.words) == ({}, (), ())


def test_a_child_waits_for_a_job_by_dependency_and_for_any_other_process_by_being_left():
    parent, child = stage("tokenizer", 1), stage("latents", 2, tokenizer=1)
    grandchild = stage("probe", 3, latents=2)
    stages = by_key(parent, child, grandchild)
    standings = {parent.key: StageStatus(StageState.running, 1), child.key: NEW, grandchild.key: NEW}
    assert decide(stages, standings, {}, {parent.key}).submit == (child.key, grandchild.key)
    assert decide(stages, standings, {}).left == {
        parent.key: "running", child.key: "waiting", grandchild.key: "waiting"}  # fmt: skip


def test_memory_grows_by_half_each_time_the_cluster_killed_for_it():
    one, other = stage("tokenizer", 1), stage("tokenizer", 2)
    standings = {one.key: StageStatus(StageState.interrupted, 3, "host memory"),
                 other.key: StageStatus(StageState.interrupted, 3, "preempted")}  # fmt: skip
    assert decide(by_key(one, other), standings, {}).memory == {one.key: 1.5}
    ends = {one.key: Counter({"host memory": 2}), other.key: Counter({"host memory": 1, "preempted": 7})}
    # what was learnt is kept when the stage is interrupted for another reason later
    assert decide(by_key(one, other), standings, ends).memory == {one.key: 1.5**3, other.key: 1.5}


def test_the_node_of_a_failure_is_left_out_once():
    stages = by_key(*(stage("tokenizer", number) for number in range(3)))
    standings = dict.fromkeys(stages, StageStatus(StageState.interrupted, 1, "node", node="n7"))
    assert decide(stages, standings, {}).exclude == ("n7",)


def many(count, status, kind="probe", first=100):
    stages = by_key(*(stage(kind, first + number) for number in range(count)))
    return stages, {key: status(number) for number, key in enumerate(stages)}


def broken(cause):
    return lambda number: StageStatus(StageState.failed, 1, cause, f"ImportError in job {4000 + number}_1: no module x")


@pytest.mark.parametrize("cause", ["data", "code", "launch", "config", "crash"])
def test_the_same_error_ten_times_holds_back_what_is_left_of_the_kind(cause):
    failed, states = many(BREAKER, broken(cause))
    fresh = by_key(stage("probe", 1), stage("tokenizer", 3), stage("generation", 2, probe=1))
    made = decide({**failed, **fresh}, {**states, **dict.fromkeys(fresh, NEW)}, {})
    assert made.submit == (stage("tokenizer", 3).key,)
    assert Counter(made.left.values()) == {"failed": BREAKER, "held back": 2}
    (words,) = made.words
    assert "10 failed with the same error" in words
    assert "no module x" in words
    assert remedy(cause) in words


def test_nine_are_not_enough_nor_ten_different_nor_where_one_is_done():
    one = stage("probe", 1)
    cases = [
        many(BREAKER - 1, broken("code")),
        many(BREAKER, lambda number: StageStatus(StageState.failed, 1, "code", f"layer {'abcdefghij'[number]}")),
        many(BREAKER, broken("diverged")),
    ]
    for failed, states in cases:
        assert decide({**failed, one.key: one}, {**states, one.key: NEW}, {}).submit == (one.key,)
    failed, states = many(BREAKER, broken("code"))
    done = stage("probe", 2)
    made = decide({**failed, one.key: one, done.key: done},
                  {**states, one.key: NEW, done.key: StageStatus(StageState.done)}, {})  # fmt: skip
    assert made.submit == (one.key,)


def test_forgiving_the_failures_releases_the_rest():
    failed, _ = many(BREAKER, broken("code"))
    one = stage("probe", 1)
    forgiven = dict.fromkeys(failed, StageStatus(StageState.interrupted, 1))
    assert len(decide({**failed, one.key: one}, {**forgiven, one.key: NEW}, {}).submit) == BREAKER + 1


def test_the_same_error_of_two_trials_has_one_signature():
    where = "StoreError: x is gone\n  where:   /runs/stages/probe/{}/record.json"
    one, other = (StageStatus(StageState.failed, 1, "store", where.format(name)) for name in ("0" * 16, "ab" * 8))
    assert signature(one) == signature(other)
    assert signature(one) != signature(StageStatus(StageState.failed, 1, "data", where))


def test_what_a_node_adds_to_a_launchers_last_words_makes_no_other_error():
    line = "a line of setup failed with status 7: module load cuda"
    words = [StageStatus(StageState.failed, 1, cause, message) for cause, message in (
        ("launch", f"{line}\nno such module"), ("launch", f"{line}\nslurmstepd: error\nno such module"),
        ("launch", "a line of setup failed with status 7: cd /data\nno such module"),
        ("code", f"{line}\none"), ("code", f"{line}\ntwo"),
    )]  # fmt: skip
    first, second, other, *code = map(signature, words)
    assert first == second != other
    assert code[0] != code[1]

"""What SLURM and an element say of it, put into one status."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm.cluster import AccountRow, QueueRow
from slurm.executor import CAUSES, JobState
from slurm.notes import End
from slurm.states import LOST_SECONDS, TAKEN_SECONDS, Evidence, exit_status, judge, needs_account, why_it_waits

NOW = 1_000_000.0
ROW = QueueRow("70", 3, "RUNNING", "None", "n2", NOW - 500, NOW + 3000, "s.probe.0badcafe")
ACCOUNT = AccountRow("70", 3, "COMPLETED", "0:0", "n2", NOW - 900, NOW - 400, "s.probe.0badcafe")
# All that squeue's and sacct's manuals list, 17.11 to 24.05.
FINAL = {
    "COMPLETED": ("done", ""), "CANCELLED": ("cancelled", "cancelled"), "TIMEOUT": ("failed", "time limit"),
    "DEADLINE": ("failed", "time limit"), "NODE_FAIL": ("failed", "node"), "BOOT_FAIL": ("failed", "node"),
    "PREEMPTED": ("failed", "preempted"), "OUT_OF_MEMORY": ("failed", "out of memory"), "FAILED": ("failed", "launch"),
}  # fmt: skip
ALIVE = [
    "PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "REVOKED", "LAUNCH_FAILED",
    "EXPEDITING", "POWER_UP_NODE", "SOMETHING_NEW",
]  # fmt: skip


def verdict(now=NOW, **known):
    return judge("probe/1", Evidence(**{"heard": NOW - 600, **known}), now)


def row(**fields):
    return replace(ROW, **fields)


def note(state, **fields):
    return End(state, restart=0, host="n2", time=NOW - 400, **fields)


@pytest.mark.parametrize("state", ALIVE)
def test_what_is_no_known_end_is_alive(state):
    assert not verdict(row=row(state=state)).state.final
    # accounting alone may be out of date, but is no reason to believe in an end
    assert not verdict(account=replace(ACCOUNT, state=state), heard=NOW).state.final


@pytest.mark.parametrize(("state", "expected"), FINAL.items())
def test_every_final_state_has_its_cause_wherever_it_is_read(state, expected):
    for known in (
        {"row": row(state=state, ended=NOW - 400)},
        {"account": replace(ACCOUNT, state=state)},
        {"account": replace(ACCOUNT, state=f"{state} by 1000" if state == "CANCELLED" else f"{state}+")},
    ):
        status = verdict(**known)
        assert (status.state.value, status.cause) == expected
        assert (status.worker, status.host) == ("70_3", "n2")


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_nothing_that_squeue_prints_is_an_error_and_only_listed_states_are_final(state, reason):
    status = verdict(row=row(state=state, reason=reason))
    assert status.state.final <= (state.split()[:1] != [] and state.split()[0].rstrip("+") in FINAL)
    assert status.cause in CAUSES


def test_the_queue_comes_before_an_old_note_and_the_note_before_accounting():
    old = note("stopped", cause="preempted", requeued=True)
    assert verdict(row=ROW, note=old).state is JobState.running
    assert verdict(row=row(state="PENDING", reason="BeginTime"), note=old).state is JobState.pending
    status = verdict(note=note("failed", cause="diverged", message="loss is nan"), account=ACCOUNT)
    assert (status.state, status.cause, status.reason) == (JobState.failed, "diverged", "loss is nan")
    assert verdict(note=note("done"), account=replace(ACCOUNT, state="FAILED", exit_code="1:0")).state is JobState.done


def test_a_note_of_an_earlier_start_says_nothing_of_the_last():
    later = row(state="TIMEOUT", started=NOW - 200, ended=NOW)
    assert verdict(row=later, note=note("failed", cause="code")).cause == "time limit"
    requeued = note("stopped", cause="preempted", requeued=True)
    assert verdict(note=requeued, account=replace(ACCOUNT, state="NODE_FAIL")).cause == "node"
    assert verdict(note=requeued, account=replace(ACCOUNT, state="CANCELLED by 7")).state is JobState.cancelled


def test_a_preempted_job_is_not_over_before_it_had_time_to_be_requeued():
    for state in ("PREEMPTED", "NODE_FAIL"):
        just_now = row(state=state, ended=NOW - 5)
        assert verdict(row=just_now).state is JobState.running
        assert verdict(row=just_now, now=NOW + LOST_SECONDS).state is JobState.failed
        assert not verdict(account=replace(ACCOUNT, state=state, ended=NOW - 5), heard=NOW).state.final


def test_absence_is_waited_out_and_then_means_lost():
    assert verdict(heard=NOW - LOST_SECONDS + 1, log=Path("log")).state is JobState.running
    assert verdict(heard=NOW - LOST_SECONDS + 1).state is JobState.pending
    status = verdict(heard=NOW - LOST_SECONDS - 1, silence="accounting is off on this cluster")
    assert (status.state, status.cause) == (JobState.failed, "lost")
    assert "accounting is off" in status.reason
    assert verdict(heard=NOW - LOST_SECONDS - 1, cancelled=True).state is JobState.cancelled


def test_what_was_last_heard_of_before_slurmctld_began_again_is_forgotten():
    status = verdict(heard=NOW - 20, booted=NOW - 10)
    assert (status.state, status.cause) == (JobState.failed, "lost")
    assert verdict(heard=NOW - 5, booted=NOW - 10).state is JobState.pending
    for known in ({"log": Path("log")}, {"siblings": True}):  # it ran and may run on; the array was kept
        assert not verdict(heard=NOW - 20, booted=NOW - 10, **known).state.final


def test_a_controller_that_does_not_answer_decides_nothing():
    assert verdict(asked=False, heard=0.0) is None
    assert verdict(asked=False, heard=0.0, cancelled=True) is None
    assert verdict(asked=False, note=note("done")).state is JobState.done


def test_accounting_is_asked_only_where_nothing_else_knows():
    assert needs_account(Evidence(heard=NOW))
    assert needs_account(Evidence(heard=NOW, note=note("stopped", requeued=True)))
    for known in ({"row": ROW}, {"row": row(state="TIMEOUT")}, {"note": note("done")}, {"asked": False}):
        assert not needs_account(Evidence(heard=NOW, **known))


def test_cancelled_by_a_person_and_cancelled_for_a_parent_are_two_things():
    never = replace(ACCOUNT, nodes="", started=None)
    assert verdict(account=replace(never, state="CANCELLED")).state is JobState.blocked
    assert verdict(account=replace(never, state="CANCELLED by 1000")).state is JobState.cancelled
    assert verdict(account=replace(never, state="CANCELLED"), cancelled=True).state is JobState.cancelled
    for state in ("CANCELLED", "PENDING"):
        status = verdict(row=row(state=state, reason="DependencyNeverSatisfied", nodes="", started=None))
        assert (status.state, status.cause) == (JobState.blocked, "blocked")
    assert verdict(note=note("failed", message="SIGTERM"), cancelled=True).state is JobState.cancelled


def test_a_job_that_slurm_holds_after_a_failed_launch_says_so():
    for reason in ("launch failed requeued held", "launch_failed_requeued_held"):
        status = verdict(row=row(state="PENDING", reason=reason))
        assert (status.state, status.cause) == (JobState.pending, "launch")
        assert "launch failed" in status.reason
    assert verdict(row=row(state="PENDING"), given_up=True).cause == "launch"


def test_an_end_without_a_note_names_the_launchers_log():
    status = verdict(account=replace(ACCOUNT, state="FAILED", exit_code="127:0"), log=Path("/runs/70_3_0_log.out"))
    assert (status.cause, status.exit_code) == ("launch", 127)
    assert "status 127" in status.reason
    assert "/runs/70_3_0_log.out" in status.reason
    assert verdict(account=replace(ACCOUNT, state="FAILED", exit_code="0:9")).cause == "killed"


@pytest.mark.parametrize(("text", "code"), [("0:0", 0), ("3:0", 3), ("0:9", -9), ("", None), ("?:?", None), ("2", 2)])
def test_exit_codes_are_those_of_a_process(text, code):
    assert exit_status(text) == code


def test_reasons_become_words_and_unknown_ones_stay():
    assert why_it_waits("None", None) == ""
    assert why_it_waits("JobArrayTaskLimit", None) == "as many of its array run as may at a time"
    assert why_it_waits("BeginTime", NOW).startswith("requeued, may start Jan 1")
    assert why_it_waits("BadConstraints", None) == "BadConstraints"


def test_an_element_that_vanished_from_a_living_array_before_it_began_was_taken_out():
    long_ago = NOW - TAKEN_SECONDS - 1
    status = verdict(heard=long_ago, siblings=True)
    assert (status.state, status.cause) == (JobState.cancelled, "cancelled")
    assert verdict(heard=NOW - TAKEN_SECONDS + 1, siblings=True).state is JobState.pending  # its log may show up yet
    assert verdict(heard=long_ago, siblings=True, log=Path("log")).state is JobState.running  # it began
    assert verdict(heard=long_ago, siblings=False).state is JobState.pending  # slurmctld may have lost the whole array


def test_a_failure_without_a_word_is_asked_of_accounting_and_no_launch_failure_once_python_began():
    failed = row(state="FAILED")
    assert needs_account(Evidence(heard=NOW, row=failed))
    killed = verdict(row=failed, account=replace(ACCOUNT, state="FAILED", exit_code="0:9"), began=True)
    assert (killed.state, killed.cause) == (JobState.failed, "killed")
    assert verdict(row=failed, began=True).cause == "killed"
    assert verdict(row=failed, account=replace(ACCOUNT, state="FAILED", exit_code="1:0")).cause == "launch"


def test_a_sigterm_that_no_scancel_sent_is_no_cancellation():
    noted = note("cancelled", cause="cancelled")
    assert needs_account(Evidence(heard=NOW, note=noted))
    assert verdict(note=noted, account=replace(ACCOUNT, state="FAILED", exit_code="0:9")).cause == "killed"
    assert verdict(note=noted, account=replace(ACCOUNT, state="CANCELLED by 0")).state is JobState.cancelled
    assert verdict(note=noted).state is JobState.cancelled  # nobody else can tell
    assert verdict(note=noted, cancelled=True, account=replace(ACCOUNT, state="FAILED")).state is JobState.cancelled


def test_a_stop_that_could_not_be_requeued_is_an_interruption():
    status = verdict(note=note("failed", again=True))
    assert (status.state, status.cause) == (JobState.failed, "interrupted")
    assert verdict(note=note("failed")).cause == ""

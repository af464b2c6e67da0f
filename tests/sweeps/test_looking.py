"""Looking at a sweep: never waiting for a cluster that hangs, asking seldom, and believing what is sure."""

import pytest

from slurm.executor import JobState, JobStatus
from sweeps import watching
from sweeps.planning import make_plan
from sweeps.store import StageState
from sweeps.watching import Observer, Queue
from tests.sweeps.scripted import Hanging, Scripted, finish
from tokscale.record import Record, write_record


def test_a_queue_that_hangs_does_not_hold_up_a_look(small_spec, store):
    executor = Hanging()
    observer = Observer(make_plan(small_spec, store), store, Queue(executor))
    look = observer.look(patience=0.01)
    assert (look.queue_when, look.trouble, executor.asked) == (None, (), 0)
    observer.queue._asked -= watching.FIRST_PATIENCE + 1
    (words,) = observer.look().trouble
    assert words == "the cluster does not answer; jobs are not known yet"
    executor.released.set()
    look = observer.look(patience=60.0)
    assert look.queue_when is not None
    assert (look.trouble, executor.asked) == ((), 1)


def test_a_silent_controller_leaves_the_states_of_the_last_answer_and_says_of_when_they_are(small_spec, store):
    plan = make_plan(small_spec, store)
    key = next(iter(plan.stages))
    waits = {key: JobStatus(key, JobState.pending, "waits for free resources", worker="7_0")}
    executor = Scripted((waits, ()), (waits, ("slurmctld does not answer: Unable to contact slurm controller",)))
    observer = Observer(plan, store, Queue(executor))
    first = observer.look(60.0)
    assert first.statuses[key].state is StageState.queued
    for _ in range(2):
        observer.queue._due = 0.0
        second = observer.look(60.0)
        minute_ago = {subject: since - 60.0 for subject, since in observer.queue._since.items()}
        observer.queue._since = minute_ago
    second = observer.look()
    assert second.statuses[key].state is StageState.queued
    assert second.queue_when == first.queue_when
    (words,) = second.trouble
    assert "slurmctld does not answer: Unable to contact" in words
    assert "since" in words
    assert "queue states are as of" in words


def test_accounting_that_is_silent_makes_no_queue_stale(small_spec, store):
    executor = Scripted(({}, ("accounting does not answer: Connection refused",)))
    observer = Observer(make_plan(small_spec, store), store, Queue(executor))
    look = observer.look(60.0)
    assert look.queue_when is not None
    assert look.trouble == ("accounting does not answer: Connection refused",)


def test_a_queue_is_asked_less_and_less_while_nothing_changes_and_soon_again_when_it_does(clock):
    still = {"probe/a": JobStatus("probe/a", JobState.pending)}
    moved = {"probe/a": JobStatus("probe/a", JobState.running)}
    executor = Scripted(*[(still, ())] * 20, (moved, ()))
    queue, pauses = Queue(executor), []
    for _ in range(20):
        before = clock[0]
        clock[0] = max(clock[0], queue._due)
        pauses.append(clock[0] - before)
        queue.ask(60.0)
    assert executor.asked == 20
    assert all(1.5 <= pause <= 2.5 for pause in pauses[1:2])
    assert all(0.8 * 30 <= pause <= 1.2 * 30 for pause in pauses[-5:])
    clock[0] = queue._due
    queue.ask(60.0)
    assert queue._due - clock[0] <= 2.5
    asked = executor.asked
    queue.ask(60.0)  # not yet due
    assert executor.asked == asked


def test_a_slow_answer_is_a_plea_for_fewer_questions(clock):
    executor = Scripted(({}, ()))
    answer = executor.poll

    def slowly():
        clock[0] += 12.0
        return answer()

    executor.poll = slowly
    queue = Queue(executor)
    queue.ask(60.0)
    assert queue._due - clock[0] >= 60.0


def test_a_stage_that_was_done_is_looked_at_again_after_a_while(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    (first, *_) = plan.stages.values()
    finish(store, first)
    observer = Observer(plan, store)
    assert observer.look().statuses[first.key].state is StageState.done
    store.folder(first).record.unlink()
    clock[0] += 120.0
    assert observer.look().statuses[first.key].state is StageState.new


def test_a_waiting_job_is_believed_only_while_the_queue_answers(small_spec, store, clock):
    plan = make_plan(small_spec, store)
    (first, *_) = plan.stages.values()
    waits = {first.key: JobStatus(first.key, JobState.pending, worker="7_0")}
    observer = Observer(plan, store, Queue(Scripted((waits, ()), (waits, ("slurmctld does not answer: down",)))))
    assert observer.look(60.0).statuses[first.key].state is StageState.queued
    finish(store, first)
    clock[0] = observer.queue._due
    assert observer.look(60.0).statuses[first.key].state is StageState.done


def test_gpu_hours_are_those_of_the_records_and_what_is_left_follows_from_them(small_spec, store):
    plan = make_plan(small_spec, store)
    tokenizers = [stage for stage in plan.stages.values() if stage.kind == "tokenizer"]
    for stage in plan.stages.values():
        if stage not in tokenizers[1:]:
            store.prepare(stage)
            measures = {"wall_seconds": 1800.0, "gpu_seconds": 7200.0}
            write_record(store.folder(stage).path, Record(stage.kind, stage.id, {}, {}, measures))
    effort = Observer(plan, store).look().effort
    assert effort.on_gpus
    assert effort.spent == pytest.approx(2.0 * (len(plan.stages) - 2))
    work = [plan.costs[stage.key].flops for stage in tokenizers]
    assert effort.left == pytest.approx(2.0 * (work[1] + work[2]) / work[0])

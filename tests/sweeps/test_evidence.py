"""What is kept of records: never a value that is not in the record now, whatever became of record or file."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from sweeps import evidence as module
from sweeps.evidence import KEPT_NAME, evidence
from sweeps.planning import make_plan
from sweeps.results import collect, write_results
from sweeps.store import Store
from tokscale.errors import StoreError
from tokscale.record import Record, write_record

LONG_AGO = -(10**15)  # as if every record were old enough to be kept


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def stages(small_spec, store):
    """The first three stages of a sweep that has begun, finished with a PSNR of 10, 11 and 12."""
    plan = make_plan(small_spec, store)
    store.write_sweep("small", plan.file.text, [])
    found = list(plan.stages.values())[:3]
    for number, stage in enumerate(found):
        finish(store, stage, 10.0 + number)
    return found


@pytest.fixture
def opened(monkeypatch):
    """The stages whose records are opened from now on."""
    keys = []
    real = module._read
    monkeypatch.setattr(module, "_read", lambda path, stage: (keys.append(stage.key), real(path, stage))[1])
    return keys


@pytest.fixture
def old(monkeypatch):
    monkeypatch.setattr(module, "_GRAIN", LONG_AGO)


def finish(store, stage, psnr, **more):
    artifacts = {"originals.png": {"bytes": 1, "sha256": "0"}}
    record = Record(stage.kind, stage.id, {}, {}, {"psnr": psnr, "wall_seconds": 0.1}, artifacts,
                    {"host": "node", "versions": {"torch": "2"}}, ["a note"], **more)  # fmt: skip
    return write_record(store.folder(stage).path, record)


def psnrs(store, stages):
    return [one.measures["psnr"] for one in evidence(store, "small", stages).values()]


def test_what_is_kept_is_what_the_records_say_and_is_not_read_again(store, stages, old, opened):
    first = evidence(store, "small", stages)
    assert list(first) == opened == [stage.key for stage in stages]
    for stage in stages:
        record, found = store.record(stage), first[stage.key]
        assert (found.kind, found.measures, found.notes) == (record.kind, record.measures, record.notes)
        assert (found.artifacts, found.provenance) == (["originals.png"], record.provenance)
    assert evidence(store, "small", stages) == first
    assert len(opened) == 3
    finish(store, stages[1], 99.0)
    assert psnrs(store, stages) == [10.0, 99.0, 12.0]
    assert opened[3:] == [stages[1].key]


def test_a_record_that_is_hardly_older_than_its_reading_is_read_again(store, stages, opened):
    for _ in range(2):
        assert psnrs(store, stages) == [10.0, 11.0, 12.0]
    assert len(opened) == 6
    assert not (store.sweep("small") / KEPT_NAME).exists()


@pytest.mark.parametrize("in_place", [False, True])
def test_a_record_of_the_same_size_and_time_is_another_one(store, stages, old, in_place):
    path = store.folder(stages[0]).record
    before = path.stat()
    assert psnrs(store, stages)[0] == 10.0
    if in_place:
        path.write_text(path.read_text().replace("10.0", "77.0"))
    else:
        finish(store, stages[0], 77.0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert psnrs(store, stages) == [77.0, 11.0, 12.0]


def test_a_record_that_is_gone_counts_no_more(store, stages, old):
    assert psnrs(store, stages) == [10.0, 11.0, 12.0]
    store.folder(stages[1]).record.unlink()
    assert psnrs(store, stages) == [10.0, 12.0]


def test_a_record_of_a_newer_version_or_of_another_stage_is_refused_as_ever(store, stages, old):
    assert psnrs(store, stages) == [10.0, 11.0, 12.0]
    finish(store, stages[0], 10.0, schema=2)
    with pytest.raises(StoreError, match="newer tokscale"):
        psnrs(store, stages)
    shutil.copy(store.folder(stages[1]).record, store.folder(stages[0]).record)
    with pytest.raises(StoreError, match="another stage"):
        psnrs(store, stages)
    store.folder(stages[0]).record.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        psnrs(store, stages)


def test_a_file_that_is_damaged_or_of_another_version_is_made_anew(store, stages, old, opened):
    psnrs(store, stages)
    path = store.sweep("small") / KEPT_NAME
    whole = path.read_bytes()
    changed = whole.replace(b'"psnr": 10.0', b'"psnr": 19.0')
    assert changed != whole
    others = [whole[: len(whole) * part // 7] for part in range(7)]
    for content in [*others, changed, b"\xff\n", b"0" + whole, whole.replace(b" ", b"  ", 1)]:
        opened.clear()
        path.write_bytes(content)
        assert psnrs(store, stages) == [10.0, 11.0, 12.0]
        assert len(opened) == 3
        assert path.read_bytes() == whole


def test_what_was_kept_elsewhere_says_nothing_here(small_spec, store, stages, old, tmp_path):
    psnrs(store, stages)
    copy = Store(tmp_path / "copy")
    shutil.copytree(store.root, copy.root)
    path = copy.folder(stages[0]).record
    before = path.stat()
    path.write_text(path.read_text().replace("10.0", "50.0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert psnrs(copy, stages) == [50.0, 11.0, 12.0]
    assert psnrs(store, stages) == [10.0, 11.0, 12.0]


def test_a_sweep_that_never_began_keeps_nothing(store, stages, old):
    assert len(evidence(store, "other", stages)) == 3
    assert not store.sweep("other").exists()


def test_readers_at_once_all_read_the_truth(store, stages, old):
    def read(number):
        return psnrs(store, stages[: 1 + number % 3])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(48)))
    assert found == [[10.0, 11.0, 12.0][: 1 + number % 3] for number in range(48)]
    assert [path.name for path in store.sweep("small").iterdir() if path.name.startswith(".")] == []


def test_table_and_summary_are_the_same_with_what_was_kept(small_spec, store, stages, old, opened):
    made = []
    for _ in range(2):
        plan = make_plan(small_spec, store)
        folder = write_results(plan, store, command="run", started=0.0)
        made.append((collect(plan, store), json.loads((folder / "summary.json").read_text())))
    assert opened == [stage.key for stage in stages]  # for table and summary together
    (table, summary), (again, summary_again) = made
    assert table.equals(again)
    assert (summary["stages"], summary["notes"]) == (summary_again["stages"], summary_again["notes"])
    assert summary["environment"] == summary_again["environment"] == {"torch": "2", "host": "node"}
    assert sum(row["seconds"] for row in summary["stages"]) == pytest.approx(0.3)

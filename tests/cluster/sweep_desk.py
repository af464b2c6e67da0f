"""A person's desk: a spec, a clusters.yaml and a runs folder, ``tokscale`` typed for real, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.planning import make_plan
from sweeps.store import Store
from tests.cluster.lab import Lab

# Tokenizers that train for some six seconds, long enough to be disturbed, and nothing else but their measurement.
SPEC = """\
name: two
trial:
  data: {kind: procedural, resolution: 16, validation_images: 16}
  tokenizer: {encoder: pico, decoder: pico, patch: 4}
  training: {images: 16000, batch_size: 16, lr: 2e-3}
  probe: null
  evaluation: {pictures: 2}
grid:
  tokenizer.bottleneck: [{kind: kl, channels: 4}, {kind: fsq, levels: [4, 4]}]
"""
SHORT = SPEC.replace("images: 16000", "images: 320")
# One core, so one thread: sums are rounded alike wherever a stage runs.
CLUSTER = """\
lab:
  partition: main
  gpus_per_node: 2
  gpu_memory_gb: 80
  cpus_per_gpu: 1
  memory_per_gpu_gb: 2
  max_minutes: 30
  max_running: 4
  setup: [export OMP_NUM_THREADS=1]
"""
UNDISTURBED = """\
import sys
from pathlib import Path
from sweeps.planning import make_plan
from sweeps.store import Store
from tokscale.stages import run
store = Store(Path(sys.argv[2]))
for stage in make_plan(Path(sys.argv[1]), store).stages.values():
    run(str(store.prepare(stage).path))
"""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Desk:
    """One folder to type ``tokscale`` in."""

    folder: Path
    environment: Mapping[str, str]
    name: str = "two"

    @classmethod
    def make(cls, folder: Path, lab: Lab, spec: str = SPEC, cluster: str = CLUSTER) -> Desk:
        """A desk with its two files."""
        folder.mkdir(parents=True, exist_ok=True)
        desk = cls(folder, {**lab.environment, "OMP_NUM_THREADS": "1", "COLUMNS": "200"})
        desk.spec.write_text(spec)
        (folder / "clusters.yaml").write_text(cluster)
        return desk

    @property
    def spec(self) -> Path:
        return self.folder / "spec.yaml"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def store(self) -> Store:
        return Store(self.runs)

    def start(self, *words: object) -> subprocess.Popen[str]:
        """``tokscale WORDS --runs ...`` as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "tokscale.front", *map(str, words), "--runs", str(self.runs)], cwd=self.folder,
            env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def tokscale(self, *words: object, expected: int = 0, seconds: float = 480) -> str:
        """What ``tokscale WORDS`` says, with the exit status that it should have."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            print(process.communicate()[0])
            raise
        assert process.returncode == expected, output
        return output

    def run_undisturbed(self) -> None:
        """All stages one after another in one process of this machine."""
        command = [sys.executable, "-c", UNDISTURBED, str(self.spec), str(self.runs)]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True)

    def stages(self) -> list[str]:
        """Keys of all stages that the spec wants, parents first."""
        return list(make_plan(self.spec, self.store).stages)

    def status(self) -> Any:
        """``tokscale status --json``."""
        return json.loads(self.tokscale("status", self.name, "--json"))

    def progress(self, kind: str = "tokenizer") -> dict[str, int]:
        """Images that each training stage has seen, by its folder's name."""
        seen = {}
        for path in self.runs.glob(f"stages/{kind}/*/progress.jsonl"):
            lines = path.read_text().splitlines()
            with contextlib.suppress(ValueError, IndexError):
                seen[path.parent.name] = int(json.loads(lines[-1])["done"])
        return seen

    def records(self) -> dict[str, dict[str, Any]]:
        """All records by their stage's key."""
        return {
            f"{path.parent.parent.name}/{path.parent.name}": json.loads(path.read_text())
            for path in self.runs.glob("stages/*/*/record.json")
        }

    def queued(self, lab: Lab) -> Counter[str]:
        """How often each stage is queued or running, by the files of the arrays that the queue names."""
        found: Counter[str] = Counter()
        for line in lab.ask("squeue", "--noheader", "--array", "-o", "%i %o").splitlines():
            job, script = line.split()
            if Path(script).is_relative_to(self.runs):
                elements = json.loads(Path(script).with_name("elements.json").read_text())["elements"]
                found[elements[job.partition("_")[2] or "0"]["key"]] += 1
        return found

    def check_whole(self, reference: Desk) -> None:
        """Every stage that is wanted has one whole record, equal to the reference's but for time and place."""
        records, expected, wanted = self.records(), reference.records(), self.stages()
        assert sorted(records) == sorted(wanted)
        assert self.store.faults(make_plan(self.spec, self.store).stages.values()) == {}
        for key in wanted:
            assert records[key]["artifacts"] == expected[key]["artifacts"], key
            assert lasting(records[key]) == lasting(expected[key]), key
        assert list(self.runs.glob("stages/*/*/record.json.*")) == []


def lasting(record: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of a record that do not depend on when and where it ran."""
    return {name: value for name, value in record["measures"].items() if not name.endswith("_seconds")}

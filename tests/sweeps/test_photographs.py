"""Real photographs through the whole path: nested folders of odd files go in, a report comes out, nothing is silent."""

import json
import os
import subprocess
import sys

import pandas as pd
from PIL import Image

SPEC = """\
name: real
trial:
  data: {{kind: image_folder, root: {root}, resolution: 32}}
  tokenizer: {{encoder: pico, decoder: pico, patch: 8}}
  training: {{images: 320, batch_size: 16, lr: 2e-3}}
  latents: {{images: 100}}
  probe: {{size: pico, training: {{images: 160, batch_size: 16}}}}
  generation: {{images: 40, batch_size: 20}}
grid:
  tokenizer.bottleneck.channels: [2, 8]
"""


def python(*words, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, env=environment, text=True, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def add_odd_files(folder):
    """One file each of the kinds that a collection of photographs holds, and one that is cut short."""
    photo = Image.open(next(folder.glob("*.png"))).convert("RGB").resize((50, 37))
    photo.convert("CMYK").save(folder / "print.JPG")
    photo.convert("L").save(folder / "grey.webp")
    photo.convert("RGBA").save(folder / "see-through.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.save(folder / "turned.jpeg", exif=turned)
    (folder / "notes.txt").write_text("no image")
    photo.save(folder / "broken.jpg")
    content = (folder / "broken.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(content[: len(content) // 3])


def test_photographs_give_a_report(tmp_path):
    python("-m", "tokscale.data.photographs", "photographs", "--size", 32, "--per-photo", 30, cwd=tmp_path)
    classes = sorted(folder.name for folder in (tmp_path / "photographs" / "train").iterdir())
    assert len(classes) >= 5
    add_odd_files(tmp_path / "photographs" / "val" / classes[0])
    (tmp_path / "real.yaml").write_text(SPEC.format(root="photographs"))
    output = python("-m", "tokscale.front", "run", "real.yaml", "--workers", 2, cwd=tmp_path)
    assert "2 of 2 trials done" in output
    sweep = tmp_path / "runs" / "sweeps" / "real"
    table = pd.read_parquet(sweep / "results.parquet")
    images = len(
        [path for path in (tmp_path / "photographs" / "val").rglob("*") if path.is_file() and path.suffix != ".txt"]
    )
    assert table["reference"].str.contains(f"-{images - 1}-").all()  # each good image once, the broken one left out
    assert table["psnr"].is_monotonic_increasing
    notes = json.loads((sweep / "summary.json").read_text())["notes"]
    assert sum("broken.jpg was skipped" in note for note in notes) == 1
    assert "broken.jpg" in (sweep / "report" / "report.html").read_text()

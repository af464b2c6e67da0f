"""What tests of several folders share: a sweep that takes seconds, and the means to run it for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

SMALL_SPEC = """\
name: small
trial:
  data: {kind: procedural, resolution: 16, validation_images: 80}
  tokenizer: {encoder: pico, decoder: pico, patch: 4}
  training: {images: 640, batch_size: 16, lr: 2e-3}
  latents: {images: 128}
  probe: {size: pico, training: {images: 320, batch_size: 16, lr: 2e-3}}
  generation: {images: 80, batch_size: 40}
  evaluation: {pictures: 4}
grid:
  tokenizer.bottleneck:
    - {kind: kl, channels: 4}
    - {kind: fsq, levels: [4, 4]}
    - {kind: vq, codebook_size: 32, code_dim: 4, revive_after: 10}
"""


@pytest.fixture(scope="session")
def small_spec_text() -> str:
    """A sweep of three trials, one for each kind of bottleneck."""
    return SMALL_SPEC


@pytest.fixture
def small_spec(tmp_path: Path) -> Path:
    """The small sweep as a file of one test's own."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_SPEC)
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes in one thread, as the ranks and workers that a test compares with do."""
    import torch  # most tests need none

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""Images of a trained probe at any scale of guidance: its tokens, decoded, and what a feature network sees of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tokscale.config import GenerationConfig
from tokscale.data import frames_of, to_uint8
from tokscale.metrics.panel import Panel, SeenByAll
from tokscale.models.tokenizer import Tokenizer
from tokscale.probes import AutoregressiveProbe, DiffusionProbe, Probe, sample, sample_diffusion, sampling_noise
from tokscale.probes.recorded import RecordedSteps
from tokscale.record import write_atomically
from tokscale.stages.attempts import SAMPLES
from tokscale.stages.clips import ClipDistance
from tokscale.stages.context import Context
from tokscale.training.compiling import compiler

_LATENTS = "latents"


@dataclass(frozen=True)
class Sampler:
    """Images of one probe at any scale of guidance.

    Every scale has the same labels and the same random numbers, so that scales differ by guidance and by nothing else.
    The batch is part of the config, as an autoregressive probe's random numbers go through it; only what follows,
    decoding and measuring, may be done in smaller passes of ``at_once`` images. A diffusion probe's numbers belong to
    images. It may take hours: its batches are kept with the checkpoints, for an attempt after one that was cut short.
    """

    context: Context
    config: GenerationConfig
    tokenizer: Tokenizer
    probe: Probe
    panel: Panel
    labels: Tensor
    at_once: int
    seed: int
    half_precision: bool
    """whether a diffusion probe computes in bfloat16, as it was trained to"""
    _recordings: dict[int, RecordedSteps] = field(default_factory=dict)
    """by the number of contexts"""

    def samples(
        self, scale: float, count: int, pictures: int = 0, clips: ClipDistance | None = None, *,
        rows_of_all: bool = False,
    ) -> tuple[SeenByAll, Tensor]:  # fmt: skip
        """What is seen of ``count`` images, and the first ``pictures`` of them, at most a batch.

        Of clips, their frames are seen, and ``clips`` sees them whole. Rows of features are kept of the first network,
        or ``rows_of_all``, for extrapolations.
        """
        device = self.context.device
        found = SeenByAll(self.panel, keep_others=None if rows_of_all else 0, scored=True)
        wanted = self.labels.repeat(-(-count // len(self.labels)))[:count]
        generator = torch.Generator(device).manual_seed(self.seed)
        shown = torch.empty(0, dtype=torch.uint8)
        for number, part in enumerate(torch.split(wanted, self.config.batch_size)):
            self.context.stop_if_asked()
            tokens = self._tokens(scale, number, part.to(device), generator)
            decoded = [self._decoded(some) for some in torch.split(tokens, self.at_once)]
            for some in decoded:
                found.update(frames_of(some))
                if clips is not None:
                    clips.see_made(some)
            if number == 0:
                shown = torch.cat(decoded)[:pictures].cpu()
        return found, shown

    def _tokens(self, scale: float, number: int, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Codes (b, n) or latents (b, n, d) of a batch of labels (b,)."""
        if isinstance(self.probe, AutoregressiveProbe):
            recorded = self._recorded(self.probe, scale, labels)
            tokens = sample(self.probe, labels, cfg_scale=scale, cfg_start=self.config.cfg_start,
                            temperature=self.config.temperature, generator=generator, recorded=recorded)  # fmt: skip
            if recorded is not None and (words := recorded.words()) not in self.context.notes:
                self.context.notes.append(words)
            return tokens
        path = self.context.folder.checkpoints / SAMPLES / f"cfg{scale:.10g}" / f"{number:06d}.safetensors"
        shape = (len(labels), self.probe.spec.tokens, self.probe.spec.dim)
        kept = _kept(path, shape)
        if kept is None:
            kept = self._diffused(self.probe, scale, number, labels).cpu()
            write_atomically(path, save({_LATENTS: kept}))
        return kept.to(labels.device)

    def _recorded(self, probe: AutoregressiveProbe, scale: float, labels: Tensor) -> RecordedSteps | None:
        """Recorded passes for whole batches on a GPU, where a run is compiled; a last, smaller one does without."""
        if not (self.context.runtime.compile and labels.is_cuda and len(labels) == self.config.batch_size):
            return None
        contexts = len(labels) * (1 if scale == 1 else 2)
        if contexts not in self._recordings:
            self._recordings[contexts] = RecordedSteps(probe, contexts, compiler(labels.device))
        return self._recordings[contexts]

    def _diffused(self, probe: DiffusionProbe, scale: float, number: int, labels: Tensor) -> Tensor:
        noise = sampling_noise(probe, len(labels), self.seed, number * self.config.batch_size)
        size = self.context.runtime.micro_batch or len(labels)
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=self.half_precision):
            parts = [
                sample_diffusion(probe, some, drawn, steps=self.config.sampler_steps, solver=self.config.solver,
                                 cfg_scale=scale, check=self.context.stop_if_asked)
                for some, drawn in zip(torch.split(labels, size), torch.split(noise, size), strict=True)
            ]  # fmt: skip
        return torch.cat(parts)

    def _decoded(self, tokens: Tensor) -> Tensor:
        """Codes (b, n) or latents (b, n, d) to uint8 images (b, 3, h, w) or clips (b, 3, t, h, w)."""
        codes = self.probe.spec.kind == "discrete"
        latents = self.tokenizer.bottleneck.latents_of(tokens) if codes else tokens
        pictures: Tensor = to_uint8(self.tokenizer.decode(latents).float())
        return pictures


def _kept(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """What an earlier attempt kept of a batch; None where it is not there, or not whole."""
    try:
        found = load_file(path)[_LATENTS]
    except (OSError, SafetensorError, KeyError):
        return None
    return found if found.shape == shape else None

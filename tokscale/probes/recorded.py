"""Sampling's passes as one recorded graph: on a GPU, a small model's kernels take longer to launch than to run.

A pass of ``AutoregressiveProbe.next_state`` over tensors of one size and one place in memory, whatever the position: it
looks at all positions and masks those to come. So CUDA can record its kernels once and launch them together (a CUDA
graph), and torch can compile it once. It gives what the plain pass does, up to rounding, which is seen to first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from tokscale.probes.autoregressive import AutoregressiveProbe
from tokscale.probes.layers import FixedCache

Compiler = Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]

_WARM_UP = 3  # passes before one is recorded, in which libraries make their choices
_ROUNDING = 1e-3  # of the largest state: TF32, where it is allowed, rounds to a thousandth


class RecordedSteps:
    """States (b, e) after prefixes of growing length, for one probe and one number of contexts.

    On a processor nothing is recorded, and the same passes run as they are. ``compiled`` has torch compile them first.
    ``refused`` says why a graph is not used, if it is not.
    """

    def __init__(self, probe: AutoregressiveProbe, contexts: int, compiled: Compiler | None = None) -> None:
        self.probe = probe
        self.refused: str | None = None
        device, spec = probe.device, probe.spec
        kind, codes = probe.class_embedding.weight.dtype, spec.kind == "discrete"
        shape = (len(probe.blocks), contexts, probe.heads, spec.tokens, probe.width // probe.heads)
        self._keys, self._values = (torch.zeros(shape, dtype=kind, device=device) for _ in range(2))
        self._positions = torch.arange(spec.tokens, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._last = torch.zeros((contexts, 1) if codes else (contexts, 1, spec.dim),
                                 dtype=torch.int64 if codes else torch.float32, device=device)  # fmt: skip
        self._pass = self._plain_pass if compiled is None else compiled(self._plain_pass)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._state = torch.zeros(contexts, probe.width, dtype=kind, device=device)

    def next_state(self, prefix: Tensor, labels: Tensor) -> Tensor:
        """Final state (b, e) after a prefix (b, t, ...), of which all but the last token were given before, in order.

        It is overwritten by the next one.
        """
        place = prefix.shape[1]
        self._place.fill_(place)
        if not place:
            return self._plain_pass(self.probe.class_embedding(labels)[:, None])
        self._last.copy_(prefix[:, -1:])
        if self._graph is not None:
            self._graph.replay()
            return self._state
        if self._place.is_cuda and self.refused is None:
            return self._record()
        return self._pass(self.probe.tokens.embed(self._last))

    def words(self) -> str:
        """What a record says of how its tokens were sampled."""
        if self.refused is None:
            return "tokens were sampled by recorded passes, whose states equal those of plain ones up to rounding"
        return f"tokens were sampled by plain passes, as recording them failed: {self.refused}"

    def _plain_pass(self, x: Tensor) -> Tensor:
        probe, seen = self.probe, (self._positions <= self._place)[None, None, None]
        rotations = None
        if probe.positions is not None:
            x = x + probe.positions.weight.index_select(0, self._place)
        else:
            assert probe.rotations is not None
            rotations = probe.rotations.index_select(1, self._place)
        for number, block in enumerate(probe.blocks):
            x = block(x, rotations, FixedCache(self._keys[number], self._values[number], self._place, seen))
        return cast(Tensor, probe.norm(x))[:, 0]

    def _record(self) -> Tensor:
        """Record a pass, and hold it against the plain one; the state after the last token, by whichever is used."""
        expected = self._plain_pass(self.probe.tokens.embed(self._last))
        try:
            aside, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._pass(self.probe.tokens.embed(self._last))
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._state = self._pass(self.probe.tokens.embed(self._last))
            graph.replay()
        except RuntimeError as error:
            self.refused = str(error).partition("\n")[0]
            return expected
        # Where states are not finite, the caller says so.
        apart, bound = (self._state - expected).abs().max(), _ROUNDING * expected.abs().max()
        if apart > bound:
            self.refused = f"states of a recorded pass are {float(apart):.2g} off, and {float(bound):.2g} is allowed"
            return expected
        self._graph = graph
        return self._state

"""Early help for GigaTok's tokenizers, past their transformers (arXiv 2504.08736, appendix C)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tokscale.config import ShortcutLoss
from tokscale.models.gigatok import GigaTokDecoder, GigaTokEncoder
from tokscale.models.tokenizer import Tokenizer


class Shortcut:
    """What the convolutions of a tokenizer learn from one another while its transformers learn to pass a map on.

    The map that the encoder's convolutions make is seen in the tokenizer's own forward pass, and so is the one that
    the decoder's convolutions get: they are made once.
    """

    def __init__(
        self, tokenizer: Tokenizer, config: ShortcutLoss, pixel_loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        encoder, decoder = tokenizer.encoder, tokenizer.decoder
        assert isinstance(encoder, GigaTokEncoder), "only convolutions have a map of their own"
        assert isinstance(decoder, GigaTokDecoder), "only convolutions have a map of their own"
        self.config = config
        self.is_open = True
        self._pixel_loss, self._convolutions = pixel_loss, decoder.convolutions
        self._made: list[Tensor] = []
        self._passed_on: list[Tensor] = []
        encoder.convolutions.register_forward_hook(self._see_made)
        decoder.transformer.register_forward_hook(self._see_passed_on)

    def close_after(self, images_seen: int) -> None:
        """Decide whether it still helps a tokenizer that has seen so many images."""
        self.is_open = images_seen < self.config.until

    def losses(self, images: Tensor) -> dict[str, Tensor]:
        """Of the images (b, 3, h, w) that have just passed through the tokenizer, weighted.

        ``direct``: the pixel loss of what the decoder's convolutions make straight of the encoder's map.
        ``feature_map``: the mean square between the decoder's map and the encoder's, which gets no gradient from it.
        """
        made, passed_on = self._made.pop(), self._passed_on.pop()
        direct = self._pixel_loss(self._convolutions(made).float(), images)
        distance = F.mse_loss(passed_on.float(), made.detach().float())
        return {"direct": self.config.weight * direct, "feature_map": self.config.weight * distance}

    def _see_made(self, _: nn.Module, __: object, feature_map: Tensor) -> None:
        self._made[:] = [feature_map] if self.is_open else []

    def _see_passed_on(self, _: nn.Module, __: object, found: tuple[Tensor, Tensor | None]) -> None:
        self._passed_on[:] = [found[0]] if self.is_open else []

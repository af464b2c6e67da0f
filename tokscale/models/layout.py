"""On which grid the tokens of an image or a clip lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from tokscale.errors import ConfigError
from tokscale.models.positions import Grid


@dataclass(frozen=True)
class PatchGrid:
    """One token for each tubelet of frames and each patch of pixels; ``grid`` at the size built for.

    The grid is (rows, columns) where that size is one tubelet long, as an image is of tubelets of one frame, and
    (times, rows, columns) where it is longer. A tokenizer takes any size that patch and tubelet divide; without places
    in time, one tubelet alone, and only the size built for where it is ``fixed`` by learned positions.
    """

    grid: Grid
    patch: int
    tubelet: int = 1
    fixed: bool = False

    def of_images(self, images: Tensor) -> Grid:
        """The grid of images (b, 3, h, w), which are clips of one frame, or clips (b, 3, t, h, w)."""
        frames = 1 if images.ndim == 4 else images.shape[2]
        height, width = images.shape[-2:]
        rows, columns = patches(height, width, self.patch)
        if frames % self.tubelet:
            raise ConfigError(
                "the tubelet does not divide the clip", given="an image" if images.ndim == 4 else f"{frames} frames",
                allowed=f"clips of multiples of {self.tubelet} frames",
            )  # fmt: skip
        times = frames // self.tubelet
        if len(self.grid) == 2 and times > 1:
            raise ConfigError(
                "a tokenizer built for one tubelet knows no places in time", given=f"{frames} frames",
                allowed="an image" if self.tubelet == 1 else f"clips of {self.tubelet} frames",
            )  # fmt: skip
        grid = (rows, columns) if len(self.grid) == 2 else (times, rows, columns)
        if self.fixed and grid != self.grid:
            raise ConfigError("a tokenizer with learned positions takes one size", given=_words(grid),
                              allowed=f"{_words(self.grid)}, for which it was built")  # fmt: skip
        return grid

    def of_tokens(self, tokens: int) -> Grid:
        """The grid built for, or the square one of an image that holds as many tokens."""
        if tokens == math.prod(self.grid):
            return self.grid
        side = math.isqrt(tokens)
        if side * side != tokens or len(self.grid) == 3 or self.fixed:
            clips = len(self.grid) == 3
            names, shape = ("(times, rows, columns)", "clip") if clips else ("(rows, columns)", "square")
            square = "" if clips or self.fixed else ", a square number of them"
            raise ConfigError(
                f"these latent tokens fill no {shape}: decode needs their grid", given=f"{tokens} tokens",
                allowed=f"{math.prod(self.grid)} tokens{square}, or grid={names}",
            )  # fmt: skip
        return side, side


@dataclass(frozen=True)
class Sequence:
    """So many latent tokens of an image, whatever its size; ``patches`` is the layout of its patches."""

    tokens: int
    patches: PatchGrid

    @property
    def grid(self) -> Grid:
        """One row of latent tokens."""
        return 1, self.tokens

    def of_images(self, images: Tensor) -> Grid:
        """The grid of the patches of images (b, 3, h, w), on which the decoder lays them out."""
        return self.patches.of_images(images)

    def of_tokens(self, tokens: int) -> Grid:
        """The patches' grid of the size built for."""
        if tokens != self.tokens:
            raise ConfigError("a tokenizer with latent_tokens takes one number of them", given=f"{tokens} tokens",
                              allowed=str(self.tokens))  # fmt: skip
        return self.patches.grid


@dataclass(frozen=True)
class FixedGrid:
    """So many tokens at one resolution and no other, since positions are learned."""

    grid: Grid
    resolution: int

    def of_images(self, images: Tensor) -> Grid:
        """The one grid, for images (b, 3, h, w) of the one resolution."""
        if images.ndim != 4:
            raise ConfigError("this tokenizer takes images", given=f"clips of {images.shape[2]} frames",
                              allowed="tokenizer.kind vit")  # fmt: skip
        height, width = images.shape[2:]
        if (height, width) != (self.resolution, self.resolution):
            raise ConfigError(
                "a tokenizer with learned positions takes one resolution", given=f"{height} x {width} pixels",
                allowed=f"{self.resolution} x {self.resolution}, for which it was built",
            )  # fmt: skip
        return self.grid

    def of_tokens(self, tokens: int) -> Grid:
        """The one grid, for as many tokens as it holds."""
        if tokens != math.prod(self.grid):
            raise ConfigError("a tokenizer with learned positions takes one number of latent tokens",
                              given=f"{tokens} tokens", allowed=str(math.prod(self.grid)))  # fmt: skip
        return self.grid


def patches(height: int, width: int, patch: int) -> Grid:
    """Rows and columns of an image's patches; raises ``ConfigError`` where they do not fit."""
    if height % patch or width % patch:
        raise ConfigError(
            "the patch does not divide the image", given=f"{height} x {width} pixels", allowed=f"multiples of {patch}"
        )
    return height // patch, width // patch


def _words(grid: Grid) -> str:
    return " x ".join(map(str, grid)) + " tokens"

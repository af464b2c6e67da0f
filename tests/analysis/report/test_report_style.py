"""The style sheet can be read by everyone: contrast in both colour schemes, and in print."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from analysis.style import contrast

CSS = (resources.files("analysis") / "templates" / "page.css").read_text(encoding="utf-8")
TEXT = ("ink", "soft", "accent", "warn")


def schemes() -> dict[str, dict[str, str]]:
    """The colours of the light scheme, of the dark one, and on paper, in the order of the file."""
    blocks = re.findall(r":root\s*\{([^}]*)\}", CSS)
    found = [dict(re.findall(r"--(\w+):\s*(#[0-9a-f]{3,6})\b", block)) for block in blocks]
    assert len(found) == 3
    return dict(zip(("light", "dark", "print"), found, strict=True))


@pytest.mark.parametrize("name", ["light", "dark", "print"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
@pytest.mark.parametrize("text", TEXT)
def test_text_has_contrast(name: str, ground: str, text: str) -> None:
    colors = schemes()[name]
    assert contrast(colors[text], colors[ground]) >= 4.5


def test_every_colour_that_is_used_is_defined_in_every_scheme() -> None:
    used = set(re.findall(r"var\(--(\w+)\)", CSS))
    for name, colors in schemes().items():
        assert used <= set(colors), name


def test_braces_are_closed() -> None:
    assert CSS.count("{") == CSS.count("}")

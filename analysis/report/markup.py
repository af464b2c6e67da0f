"""A page as a tree: elements with text in them, which one writer turns into HTML, others into Markdown and PDF.

Text is escaped by whoever writes it, so no spec and no log can break a page.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

VOID = frozenset({"img", "meta", "br", "hr"})


class Raw(str):
    """Text that is HTML already: a style sheet, a script."""

    __slots__ = ()


@dataclass(frozen=True)
class Embedded:
    """A file's content inside the page: as text, an address that needs no network; ``kind`` is its media type."""

    content: bytes = field(repr=False)
    kind: str

    def __str__(self) -> str:
        return f"data:{self.kind};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class Html:
    """One element; without a name, its children one after the other. As text it is HTML."""

    name: str
    attributes: Mapping[str, object]
    children: tuple[Html | str, ...]

    def __str__(self) -> str:
        return "".join(_written(self))

    def text(self) -> str:
        """What a reader sees of it, without any element."""
        return "".join(child.text() if isinstance(child, Html) else child for child in self.children)


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element. Children that are neither ``Html`` nor ``Raw`` are text; None is left out; lists are opened.

    ``class_`` stands for ``class``, and other underscores for hyphens: ``data_value`` is ``data-value``. An attribute
    that is True is written without a value, one that is None or False is left out.
    """
    kept = {
        key.rstrip("_").replace("_", "-"): value
        for key, value in attributes.items()
        if value is not None and value is not False
    }
    return Html(name, kept, tuple(_opened(children)))


def join(*parts: object) -> Html:
    """Parts one after the other."""
    return Html("", {}, tuple(_opened(parts)))


def _opened(parts: Iterable[object]) -> Iterator[Html | str]:
    for part in parts:
        if isinstance(part, (list, tuple)):
            yield from _opened(part)
        elif isinstance(part, (Html, Raw)):
            yield part
        elif part is not None:
            yield str(part)


def _written(part: Html | str) -> Iterator[str]:
    if isinstance(part, str):
        yield str(part) if isinstance(part, Raw) else html.escape(part, quote=False)
        return
    if part.name:
        yield f"<{part.name}{''.join(_attribute(*pair) for pair in part.attributes.items())}>"
    for child in part.children:
        yield from _written(child)
    if part.name and part.name not in VOID:
        yield f"</{part.name}>"


def _attribute(name: str, value: object) -> str:
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'

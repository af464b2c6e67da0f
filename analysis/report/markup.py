"""HTML from Python calls: text is escaped unless it is HTML already, so no spec and no log can break the page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

VOID = frozenset({"img", "meta", "br", "hr"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element. Children that are not ``Html`` are escaped; None is left out; lists are opened.

    ``class_`` stands for ``class``, and other underscores for hyphens: ``data_value`` is ``data-value``. An attribute
    that is True is written without a value, one that is None or False is left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after the other, escaped where they are not HTML."""
    return Html("".join(_text(part) for part in parts))


def data_uri(content: bytes, kind: str) -> str:
    """A file's content as an address that needs no network; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'


def _text(part: object) -> str:
    if part is None:
        return ""
    if isinstance(part, Html):
        return str(part)
    if isinstance(part, (list, tuple)):
        return str(join(part))
    return html.escape(str(part), quote=False)

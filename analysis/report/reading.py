"""What the writers of a page have to know of its elements: which are blocks, and what a table's rows hold."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.report.markup import Html

_BLOCKS = frozenset({
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "ul", "ol", "li", "dl", "dt", "dd", "table", "figure", "figcaption",
    "div", "section", "header", "main", "footer", "article", "details", "summary", "body", "html", "hr",
})  # fmt: skip


def is_block(part: Html | str) -> bool:
    """Whether it stands apart from what is around it; a list of parts does if one of them does."""
    if isinstance(part, str):
        return False
    return part.name in _BLOCKS or (not part.name and any(is_block(child) for child in part.children))


def is_inline(part: Html | str) -> bool:
    """Whether it stands within a line of text."""
    return not is_block(part)


def rows(table: Html) -> Iterator[Html]:
    """The rows of a table, those of its head first, whatever they are grouped in."""
    for child in table.children:
        if isinstance(child, Html):
            if child.name == "tr":
                yield child
            else:
                yield from rows(child)


def head_rows(table: Html) -> int:
    """How many of the first rows are the table's head."""
    heads = [child for child in table.children if isinstance(child, Html) and child.name == "thead"]
    return sum(1 for head in heads for _ in rows(head))


def cells(row: Html) -> Iterator[Html | None]:
    """The cells of a row, None for each further column that a wide cell covers."""
    for child in row.children:
        if isinstance(child, Html):
            if child.name in ("td", "th"):
                yield child
                yield from [None] * (span(child) - 1)
            else:
                yield from cells(child)


def span(cell: Html) -> int:
    """How many columns a cell covers."""
    return int(str(cell.attributes.get("colspan", 1)))

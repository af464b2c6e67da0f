"""The page as GitHub-flavoured Markdown, with its pictures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from analysis.report.markup import Embedded, Html
from analysis.report.reading import cells, is_block, is_inline, rows

_ENDINGS = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
_MARKS = re.compile(r"([\\`*_\[\]<>|#~])")
_STYLES = {"strong": "**", "b": "**", "em": "*", "i": "*"}
_LEFT_OUT = frozenset({"head", "nav", "script", "style", "button"})


@dataclass
class Files:
    """The pictures of a page by their names in ``folder``."""

    folder: str
    contents: dict[str, bytes] = field(default_factory=dict)

    def keep(self, picture: Embedded, name: object) -> str:
        """Take a picture in; the path to it from the page."""
        stem = str(name or f"picture-{len(self.contents) + 1:03}")
        path = f"{self.folder}/{stem}.{_ENDINGS[picture.kind]}"
        self.contents[path] = picture.content
        return path


def markdown(page: Html, files: Files) -> str:
    """The page as text; its pictures are put into ``files``."""
    return "\n\n".join(block for block in _blocks(page, files) if block.strip()) + "\n"


def _blocks(part: Html | str, files: Files) -> Iterator[str]:
    """Blocks of text that stand apart."""
    if isinstance(part, str):
        yield _escaped(part)
    elif part.name in _LEFT_OUT:
        return
    elif re.fullmatch(r"h[1-6]", part.name):
        yield f"{'#' * int(part.name[1])} {_inline(part, files)}"
    elif part.name == "pre":
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", part.text())), default=0))
        yield f"{fence}\n{part.text().rstrip()}\n{fence}"
    elif part.name in ("ul", "ol"):
        yield "\n".join(f"- {_inline(item, files)}" for item in part.children)
    elif part.name == "dl":
        yield "\n".join(_definitions(part, files))
    elif part.name == "table":
        yield _table(part, files)
    elif part.name == "p" or not any(is_block(child) for child in part.children):
        yield _inline(part, files)
    else:
        yield from _mixed(part, files)


def _mixed(part: Html, files: Files) -> Iterator[str]:
    """Blocks, with what stands between them as paragraphs."""
    loose: list[Html | str] = []
    for child in (*part.children, None):
        if child is not None and is_inline(child):
            loose.append(child)
            continue
        yield "".join(_inline(one, files) for one in loose).strip()
        loose = []
        if child is not None:
            yield from _blocks(child, files)


def _definitions(part: Html, files: Files) -> Iterator[str]:
    for child in part.children:
        if isinstance(child, Html):
            if child.name == "dt":
                yield f"- **{_inline(child, files)}**"
            elif child.name == "dd":
                yield f"  {_inline(child, files)}"
            else:
                yield from _definitions(child, files)


def _table(part: Html, files: Files) -> str:
    lines = [[_cell(cell, files) for cell in cells(row)] for row in rows(part)]
    width = max((len(line) for line in lines), default=0)
    if not width:
        return ""
    padded = [[*line, *[""] * (width - len(line))] for line in lines]
    if not any(child.name == "thead" for child in part.children if isinstance(child, Html)):
        padded.insert(0, [""] * width)  # Markdown knows no table without a head
    padded.insert(1, ["---"] * width)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _cell(cell: Html | None, files: Files) -> str:
    return "" if cell is None else " ".join(_inline(cell, files).split())


def _inline(part: Html | str, files: Files) -> str:
    if isinstance(part, str):
        return _escaped(part)
    if part.name in _LEFT_OUT:
        return ""
    if part.name == "br":
        return "  \n"
    if part.name == "img":
        source = part.attributes["src"]
        assert isinstance(source, Embedded), "a page needs no other file"
        path = files.keep(source, part.attributes.get("data-name"))
        return f"![{_escaped(str(part.attributes.get('alt', '')))}]({path})"
    if part.name == "code":
        return f"`{part.text()}`"
    separator = " " if any(is_block(child) for child in part.children) else ""
    inside = separator.join(_inline(child, files) for child in part.children)
    address = str(part.attributes.get("href", ""))
    if part.name == "a" and address and not address.startswith("#"):
        return f"[{inside}]({address})"
    mark, bare = _STYLES.get(part.name, ""), inside.strip()
    # marks count only when they touch a word
    return inside.replace(bare, f"{mark}{bare}{mark}", 1) if bare else inside


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", text)

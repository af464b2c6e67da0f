"""The small form of a spec: the same study at a size that a laptop finishes in minutes.

A spec says under ``small:`` what differs from it. Sections of the trial are merged key by key, down to where a section
is of another kind, which is then taken whole; the grid, its zips and its conditions are replaced. The sweep is called
NAME-small, and what is kept with its results is the merged spec, which needs no switch to be run again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from sweeps.spec import SpecFile
from tokscale.errors import ConfigError

SECTION = "small"


def small_form(file: SpecFile) -> SpecFile:
    """The spec file that a spec with a ``small:`` section stands for; raises ``ConfigError`` without one."""
    small = file.values.get(SECTION)
    if not isinstance(small, Mapping) or not small:
        raise ConfigError("this spec has no small form", where=file.place(""),
                          allowed=f"a section `{SECTION}:` with what differs from the spec")  # fmt: skip
    return _SmallForm(file, small)


class _SmallForm(SpecFile):
    """The merged spec; its places are the lines of the author's file."""

    def __init__(self, file: SpecFile, small: Mapping[str, Any]) -> None:
        self._author = file
        values = {key: value for key, value in file.values.items() if key != SECTION}
        for key, value in small.items():
            values[key] = _merged(values.get(key), value) if key == "trial" else value
        values["name"] = f"{file.values.get('name', '')}-small"
        super().__init__(file.path, f"# The small form of {file.path.name}.\n{_written(values)}")

    def place(self, path: str) -> str:
        """``file:line (dotted path)`` where the author wrote the key: in the small section, or else above it."""
        small = self._author.find(f"{SECTION}.{path}")
        plain = self._author.find(path)
        line = (small if small.keys > plain.keys else plain).line
        return f"{self.path}:{line} ({path})" if path else f"{self.path}:{line}"


def _merged(base: object, small: object) -> object:
    """A section with what differs in its small form."""
    if not isinstance(base, Mapping) or not isinstance(small, Mapping):
        return small
    if "kind" in small and small["kind"] != base.get("kind"):
        return small
    return {**base, **{key: _merged(base.get(key), value) for key, value in small.items()}}


def _written(values: Mapping[str, Any]) -> str:
    yaml = YAML(pure=True)  # which keeps the order of keys
    yaml.width = 110
    text = io.StringIO()
    yaml.dump(dict(values), text)
    return text.getvalue()

"""The sweep spec: one YAML file with a base trial and a grid over it; every problem is named with file and line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from sweeps.search_config import SearchConfig
from tokscale.config import Config
from tokscale.errors import ConfigError, UsageError, one_of
from tokscale.parsing import parse

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _values(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError("a grid entry is a list of values")
    if not value:
        raise ValueError("an empty list: the grid would hold no trial")
    return value


class SweepSpec(Config):
    """A sweep as its author wrote it."""

    name: Annotated[str, Field(pattern=_NAME, max_length=100)]
    """folder name of the sweep: letters, digits, dot, dash and underscore"""
    title: str | None = None
    """one line for people: what the sweep asks"""
    trial: dict[str, Any] = {}
    """the base trial; anything not said takes its documented default"""
    grid: dict[str, Annotated[list[Any], BeforeValidator(_values)]] = {}
    """dotted path of the trial -> values; the product of all, unless zipped"""
    zip: list[list[str]] = []
    """groups of grid paths that advance together instead of being multiplied"""
    where: list[str] = []
    """expressions over sizes and settings; a trial is kept when all are true"""
    search: SearchConfig | None = None
    """a sampler that chooses trials by what earlier ones measured, at every point of the grid"""
    cluster: str | None = None
    """the cluster profile that its jobs go to; ``--cluster`` on the command line comes first"""
    small: dict[str, Any] = {}
    """what differs when ``--small`` asks for a form of the study that a laptop finishes in minutes"""

    @field_validator("small")
    @classmethod
    def _says_what_differs(cls, small: dict[str, Any]) -> dict[str, Any]:
        allowed = [name for name in cls.model_fields if name not in ("name", "small", "cluster")]
        if unknown := [name for name in small if name not in allowed]:
            raise ValueError(f"small names {unknown[0]!r}; {one_of(allowed, unknown[0])}")
        return small

    @field_validator("zip")
    @classmethod
    def _zipped(cls, groups: list[list[str]], info: ValidationInfo) -> list[list[str]]:
        grid = info.data.get("grid", {})
        seen: set[str] = set()
        for group in groups:
            missing = [path for path in group if path not in grid]
            if missing:
                raise ValueError(f"zip names {missing[0]!r}, which is not in the grid")
            lengths = {path: len(grid[path]) for path in group}
            if len(set(lengths.values())) > 1:
                shown = ", ".join(f"{path} has {length}" for path, length in lengths.items())
                raise ValueError(f"zipped lists must be equally long: {shown}")
            if len(set(group)) < 2 or len(set(group)) < len(group) or seen & set(group):
                raise ValueError("a zip group names at least two paths, and a path is in one group only")
            seen |= set(group)
        return groups


class Found(NamedTuple):
    """Where a file has a key: its line, and how many keys of the path that was asked for lead to it."""

    line: int
    keys: int


class SpecFile:
    """A spec's text with the place of every key, so that a message can point at the line."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        try:
            self._root: Node | None = YAML(typ="safe", pure=True).compose(text)
            self.values = YAML(typ="safe", pure=True).load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark
            line = f":{mark.line + 1}" if mark is not None else ""
            raise ConfigError(f"not valid YAML: {error.problem}", where=f"{path}{line}") from None
        except YAMLError as error:  # such as a character that no YAML file may hold
            raise ConfigError(f"not valid YAML: {error}", where=str(path)) from None
        if self.values is None:
            raise ConfigError("an empty file: a sweep spec is a mapping of keys", where=str(path))
        if not isinstance(self.values, Mapping):
            raise ConfigError("a sweep spec is a mapping of keys", where=str(path), given=type(self.values).__name__)

    def place(self, path: str) -> str:
        """``file:line (dotted path)`` of the deepest key on the path that the file has."""
        line = self.find(path).line
        return f"{self.path}:{line} ({path})" if path else f"{self.path}:{line}"

    def find(self, path: str) -> Found:
        """The deepest key on a dotted path that the file has."""
        line, node, keys = 1, self._root, _split(path)
        wanted = len(keys)
        while keys and isinstance(node, MappingNode | SequenceNode):
            found = _child(node, keys)
            if found is None:
                break
            line, node, used = found
            keys = keys[used:]
        return Found(line, wanted - len(keys))


def load_spec(path: Path, *, small: bool = False) -> tuple[SweepSpec, SpecFile]:
    """Read and validate a spec file, or its small form; raises ``ConfigError`` or ``UsageError`` with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError("no such spec file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the spec file cannot be read: {error}", where=str(path)) from None
    if not small:
        return parse_spec(text, path)
    from sweeps.small_form import small_form  # which is a kind of spec file itself

    parse_spec(text, path)  # what is wrong above the small section is said as ever
    return _parsed(small_form(SpecFile(path, text)))


def parse_spec(text: str, path: Path) -> tuple[SweepSpec, SpecFile]:
    """Validate a spec's text; ``path`` is where it came from, for messages."""
    return _parsed(SpecFile(path, text))


def _parsed(file: SpecFile) -> tuple[SweepSpec, SpecFile]:
    try:
        return parse(SweepSpec, file.values), file
    except ConfigError as error:
        raise located(error, file) from None


def located(error: ConfigError, file: SpecFile) -> ConfigError:
    """The same message with the dotted path turned into file and line."""
    return ConfigError(error.what, where=file.place(error.where or ""), given=error.given, allowed=error.allowed)


def _split(path: str) -> list[str]:
    return path.split(".") if path else []


def _child(node: Node, keys: list[str]) -> tuple[int, Node, int] | None:
    """The child that the next keys lead to (a grid's key holds dots itself): its line, itself, and how many keys."""
    if isinstance(node, SequenceNode):
        if keys[0].isdigit() and int(keys[0]) < len(node.value):
            item = node.value[int(keys[0])]
            return item.start_mark.line + 1, item, 1
        return None
    for used in range(len(keys), 0, -1):
        for key, value in node.value:
            if key.value == ".".join(keys[:used]):
                return key.start_mark.line + 1, value, used
    return None

"""Cluster profiles: what a cluster gives and what it costs, read from ``clusters.yaml``.

    a100:
      partition: gpu
      gpus_per_node: 8
      gpu_memory_gb: 80
      setup: [module load cuda, source ~/env/bin/activate]

The file of the project's folder comes before the one in ``$XDG_CONFIG_HOME/tokscale`` (``~/.config/tokscale``): of two
profiles of one name, the project's is used, whole. ``local``, this machine, needs no file.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

FILE_NAME = "clusters.yaml"


class ProfileError(ValueError):
    """A cluster profile is not there or cannot be used: what, where, given, allowed."""

    def __init__(self, what: str, *, where: str, given: object = None, allowed: str):
        self.what, self.where, self.given, self.allowed = what, where, given, allowed
        lines = [what, f"  where:   {where}"]
        if given is not None:
            lines.append(f"  given:   {given if isinstance(given, str) else repr(given)}")
        super().__init__("\n".join([*lines, f"  allowed: {allowed}"]))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between processes by themselves.
        return _rebuild, (self.what, self.where, self.given, self.allowed)


@dataclass(frozen=True)
class ClusterProfile:
    """One cluster; what is None is left to the cluster's own default."""

    name: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_per_node: int | None = None
    max_gpus: int | None = None  # of one job; None: those of one node
    gpu_memory_gb: float | None = None
    cpus_per_gpu: int | None = None
    memory_per_gpu_gb: float | None = None
    max_minutes: int | None = None  # of one job
    max_array: int | None = None  # elements of one array
    max_running: int | None = None  # jobs of ours at a time
    setup: tuple[str, ...] = ()  # shell lines before a job's Python
    python: str | None = None  # the shell command that starts it; None: the interpreter that submits
    requeue: bool = True  # may a preempted job come back by itself
    cost_per_gpu_hour: float | None = None  # in whatever currency the reader thinks in
    tflops: float | None = None  # per GPU, as training reaches them


LOCAL = ClusterProfile("local", requeue=False)

_TEXT = ("partition", "account", "qos", "constraint", "python")
_COUNTS = ("gpus_per_node", "max_gpus", "cpus_per_gpu", "max_minutes", "max_array", "max_running")
_NUMBERS = ("gpu_memory_gb", "memory_per_gpu_gb", "cost_per_gpu_hour", "tflops")
_MAY_BE_ZERO = ("gpus_per_node", "cost_per_gpu_hour")
KEYS = tuple(field.name for field in fields(ClusterProfile) if field.name != "name")


def load_profile(name: str, folder: Path | None = None) -> ClusterProfile:
    """The profile of a name; ``ProfileError`` lists those that there are."""
    profiles = load_profiles(folder)
    if name not in profiles:
        places = " and ".join(str(path) for path in profile_files(folder))
        raise ProfileError("no such cluster", where=places, given=name, allowed=_one_of(profiles, name))
    return profiles[name]


def load_profiles(folder: Path | None = None) -> dict[str, ClusterProfile]:
    """All profiles by name: ``local``, the user's, and those of a project's ``folder`` (default: the current one)."""
    profiles = {LOCAL.name: LOCAL}
    for path in reversed(profile_files(folder)):
        profiles.update(read_profiles(path))
    return profiles


def profile_files(folder: Path | None = None) -> list[Path]:
    """Where profiles are looked for, the first to win first."""
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [(folder or Path.cwd()) / FILE_NAME, user / "tokscale" / FILE_NAME]


def read_profiles(path: Path) -> dict[str, ClusterProfile]:
    """The profiles of one file (YAML 1.2); none when there is no file."""
    # Slow to import, and a sweep on this machine often has no file to read.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ProfileError(
            f"cannot read cluster profiles: {error.strerror}", where=str(path), allowed="a file that can be read"
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        what = (error.problem if isinstance(error, MarkedYAMLError) else None) or "not YAML"
        allowed = "each name and each key once" if "duplicate key" in what else "YAML 1.2"
        raise ProfileError(f"cannot read cluster profiles: {what}", where=where, allowed=allowed) from error
    if tree is None:
        return {}
    _require_mapping(tree, "cluster profiles", str(path), "names with a profile each")
    if LOCAL.name in tree:
        raise ProfileError("a cluster's name is taken", where=f"{path}, line {_line(tree, LOCAL.name)}",
                           given=LOCAL.name, allowed="another name: this one is this machine's")  # fmt: skip
    return {str(name): _profile(path, str(name), tree[name], _line(tree, name)) for name in tree}


def _profile(path: Path, name: str, given: Any, line: int) -> ClusterProfile:
    if given is None:
        given = {}
    _require_mapping(given, f"cluster profile {name!r}", f"{path}, line {line}", f"any of: {', '.join(KEYS)}")
    values = {}
    for key in given:
        where = f"{path}, line {_line(given, key) if hasattr(given, 'lc') else line}"
        if key not in KEYS:
            raise ProfileError(
                f"unknown key in cluster profile {name!r}", where=where, given=str(key), allowed=_one_of(KEYS, str(key))
            )
        if given[key] is not None:
            values[key] = _checked(name, key, given[key], where)
    return ClusterProfile(name, **values)


def _checked(profile: str, key: str, value: Any, where: str) -> Any:
    """A value of the right type and range."""

    def refuse(allowed: str) -> NoReturn:
        raise ProfileError(
            f"impossible {key} in cluster profile {profile!r}",
            where=where,
            allowed=allowed,
            given=f"the text {str(value)!r}" if isinstance(value, str) else value,
        )

    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _TEXT:
        # An account that is a number is common, and YAML reads it as one.
        return str(value) if isinstance(value, str) or number else refuse("text")
    if key == "requeue":
        return value if isinstance(value, bool) else refuse("true or false")
    if key == "setup":
        lines = [value] if isinstance(value, str) else value
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            refuse("a shell line, or a list of them")
        return tuple(str(line) for line in lines)
    kind = "a whole number" if key in _COUNTS else "a number"
    bound = "0 or more" if key in _MAY_BE_ZERO else "more than 0"
    in_range = number and (value > 0 or (value == 0 and key in _MAY_BE_ZERO)) and value < float("inf")
    if not in_range or (key in _COUNTS and not isinstance(value, int)):
        refuse(f"{kind}, {bound}")
    return int(value) if key in _COUNTS else float(value)


def _require_mapping(given: Any, what: str, where: str, allowed: str) -> None:
    if not isinstance(given, Mapping):
        raise ProfileError(f"{what} must be a mapping", where=where, given=given, allowed=allowed)


def _line(tree: Any, key: Any) -> int:
    return int(tree.lc.key(key)[0]) + 1


def _one_of(allowed: Any, given: str) -> str:
    near = difflib.get_close_matches(given, list(allowed), n=1)
    listed = "one of: " + ", ".join(allowed)
    return f"did you mean {near[0]!r}? {listed}" if near else listed


def _rebuild(what: str, where: str, given: object, allowed: str) -> ProfileError:
    return ProfileError(what, where=where, given=given, allowed=allowed)


assert set(KEYS) == {*_TEXT, *_COUNTS, *_NUMBERS, "setup", "requeue"}, "every key of a profile has a rule"

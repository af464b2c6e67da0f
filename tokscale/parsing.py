"""From plain values to a config, or to one message that says what is wrong, where, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from tokscale.config import Config
from tokscale.errors import ConfigError, one_of

Parsed = TypeVar("Parsed", bound=Config)


def parse(kind: type[Parsed], values: object, *, where: str = "") -> Parsed:
    """Validate plain values into a config; the first thing wrong is raised as ``ConfigError`` with its dotted path."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise explain(kind, error, where) from None


def explain(kind: type[Config], error: ValidationError, where: str = "") -> ConfigError:
    """One message for the first problem of a failed validation: what, where, what was given, what is allowed."""
    problem = error.errors(include_url=False)[0]
    keys = _without_tags(problem["loc"], error)
    path = ".".join([*([where] if where else []), *keys])
    given = problem["input"]
    if problem["type"] == "extra_forbidden":
        allowed = one_of(_fields_at(kind, problem["loc"][:-1]), keys[-1])
        return ConfigError(f"unknown key {keys[-1]!r}", where=path, allowed=allowed)
    if problem["type"] == "missing":
        return ConfigError(f"{keys[-1]!r} is needed", where=path)
    if problem["type"] == "union_tag_invalid":
        tags = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        return ConfigError("no such kind", where=f"{path}.kind", given=str(problem["ctx"]["tag"]),
                           allowed=one_of(tags, problem["ctx"]["tag"]))  # fmt: skip
    if problem["type"] == "union_tag_not_found":
        return ConfigError("a mapping with a kind is needed here", where=path or kind.__name__, given=repr(given))
    message = problem["msg"].removeprefix("Value error, ")
    shown = None if isinstance(given, Mapping | Config) else given
    return ConfigError(message, where=path or kind.__name__, given=shown)


def _without_tags(location: tuple[int | str, ...], error: ValidationError) -> list[str]:
    """The path as the YAML has it: pydantic also names the chosen member of each union."""
    tags = {"procedural", "image_folder", "shards", "kl", "vq", "fsq", "vit", "gigatok", "autoregressive", "diffusion",
            "lpips", "random-vgg", "dinov2", "classifier", "hub"}  # fmt: skip
    # a tag stands directly behind the key of its union, and no key of the tree is called like one
    return [str(key) for key in location if key not in tags]


def _fields_at(kind: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the config that stands at a pydantic location."""
    schema = kind.model_json_schema()
    node: dict[str, Any] = schema
    for key in location:
        node = _resolve(node, schema)
        if key in node.get("properties", {}):
            node = node["properties"][key]
        else:  # the tag of a union's member
            members = [_resolve(member, schema) for member in node.get("oneOf", node.get("anyOf", []))]
            members = [_resolve(inner, schema) for member in members for inner in member.get("oneOf", [member])]
            node = next((m for m in members if m.get("properties", {}).get("kind", {}).get("const") == key), {})
    return list(_resolve(node, schema).get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in node and "properties" not in node:  # an optional section
        inner = [member for member in node["anyOf"] if member.get("type") != "null"]
        return _resolve(inner[0], schema) if len(inner) == 1 else node
    return node

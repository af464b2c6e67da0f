"""The JSON Schema of a sweep spec, as editors read it."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import ModelSchema

from sweeps.spec import SweepSpec
from tokscale.config import TrialSections

# Sections that may also be written in a shorter way.
_SHORT_FORMS = {
    "TransformerSize": {"type": "string", "description": "a preset's name"},
    "Parameter": {"type": "array", "description": "choices"},
    "Objective": {"type": "string", "description": "a measure, in its own direction"},
}


class _Described(GenerateJsonSchema):
    """Schemas with what stands below the fields in the source as descriptions.

    Pydantic does the same by itself if asked to, and then reads the source of every config whenever one is imported: a
    third of the time that importing them takes.
    """

    def model_schema(self, schema: ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        for owner in schema["cls"].__mro__:  # a field's own words before those of the class it comes from
            for name, words in _words_of(owner).items():
                if name in made.get("properties", {}):
                    made["properties"][name].setdefault("description", words)
        return made


def _words_of(owner: type) -> dict[str, str]:
    """What stands below the fields of a class."""
    return _words_in(owner.__module__).get(owner.__qualname__, {}) if issubclass(owner, BaseModel) else {}


@cache
def _words_in(module: str) -> dict[str, dict[str, str]]:
    """What stands below the fields of a module's classes, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {owner.name: dict(_below_fields(owner)) for owner in tree.body if isinstance(owner, ast.ClassDef)}


def _below_fields(owner: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in pairwise(owner.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            yield field.target.id, inspect.cleandoc(below.value.value)


def spec_schema() -> dict[str, Any]:
    """Schema of a spec file, with the sections of a trial spelled out and sizes allowed by name."""

    class Spec(SweepSpec):
        model_config = ConfigDict(title="tokscale sweep")
        trial: TrialSections = Field(default=TrialSections(), description="the base trial")  # type: ignore[assignment]

    schema = Spec.model_json_schema(schema_generator=_Described)
    assert issubclass(Spec, BaseModel)
    for name, short in _SHORT_FORMS.items():
        whole = schema["$defs"][name]
        description = whole.get("description", "")
        schema["$defs"][name] = {"description": description, "anyOf": [short, {"type": "object", **whole}]}
    return schema

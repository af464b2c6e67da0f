"""The JSON Schema of a sweep spec, as editors read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sweeps.spec import SweepSpec
from tokscale.config import TrialSections

# Sections that may also be written in a shorter way.
_SHORT_FORMS = {
    "TransformerSize": {"type": "string", "description": "a preset's name"},
    "Parameter": {"type": "array", "description": "choices"},
    "Objective": {"type": "string", "description": "a measure, in its own direction"},
}


def spec_schema() -> dict[str, Any]:
    """Schema of a spec file, with the sections of a trial spelled out and sizes allowed by name."""

    class Spec(SweepSpec):
        model_config = ConfigDict(title="tokscale sweep")
        trial: TrialSections = Field(default=TrialSections(), description="the base trial")  # type: ignore[assignment]

    schema = Spec.model_json_schema()
    assert issubclass(Spec, BaseModel)
    for name, short in _SHORT_FORMS.items():
        whole = schema["$defs"][name]
        description = whole.get("description", "")
        schema["$defs"][name] = {"description": description, "anyOf": [short, {"type": "object", **whole}]}
    return schema

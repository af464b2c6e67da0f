"""The JSON Schema of a sweep spec, as editors read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sweeps.spec import SweepSpec
from tokscale.config import TrialSections


def spec_schema() -> dict[str, Any]:
    """Schema of a spec file, with the sections of a trial spelled out and sizes allowed by name."""

    class Spec(SweepSpec):
        model_config = ConfigDict(title="tokscale sweep")
        trial: TrialSections = Field(default=TrialSections(), description="the base trial")  # type: ignore[assignment]

    schema = Spec.model_json_schema()
    assert issubclass(Spec, BaseModel)
    size = schema["$defs"]["TransformerSize"]
    schema["$defs"]["TransformerSize"] = {
        "description": size.get("description", ""),
        "anyOf": [{"type": "string", "description": "a preset's name"}, {"type": "object", **size}],
    }
    return schema

"""Pretrained weights that a sweep will ask for, looked for before anything is spent.

On a cluster the nodes may see other folders than the machine that submits: there it is a word, not a refusal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sweeps.planning import Plan
from tokscale import weights
from tokscale.errors import WeightsError
from tokscale.feature_names import named
from tokscale.stage import Stage


def refuse_absent_weights(plan: Plan) -> None:
    """Raise ``WeightsError`` when a stage that is still to run needs weights that are not on this machine."""
    if absent := _absent(plan):
        raise WeightsError(
            "this sweep needs weights that are not here", where=str(weights.default_folder()), given=_listed(absent),
            allowed=f"{_to_fetch(absent)}; `tokscale weights list` says where files that were brought otherwise go",
        )  # fmt: skip


def words_on_absent_weights(plan: Plan) -> list[str]:
    """What a person is told who submits such a sweep; nothing where all is here."""
    absent = _absent(plan)
    if not absent:
        return []
    return [f"weights that are not on this machine, and must be on the nodes: {_listed(absent)} "
            f"(here: {_to_fetch(absent)})"]  # fmt: skip


def _absent(plan: Plan) -> Counter[str]:
    """Weights that are not here, and how many of the stages that are still to run need them."""
    needed = Counter(name for stage in plan.missing() for name in _needed(stage))
    return Counter({name: count for name, count in needed.items() if not _is_here(name)})


def _is_here(name: str) -> bool:
    """Whether there is a file of these registered weights, or at this path."""
    return Path(name).expanduser().is_file() if name not in weights.REGISTRY else weights.present(name) is not None


def _needed(stage: Stage) -> Iterable[str]:
    trained = stage.config.get("decoder_finetune", stage.config)
    if "losses" in trained:
        perceptual, semantic = (_used(trained["losses"].get(name)) for name in ("perceptual", "semantic"))
        if perceptual.get("kind") == "lpips":
            yield "vgg16"
        features = semantic.get("features")
        if isinstance(features, str):
            yield features
        elif features is not None and features["kind"] == "hub":
            yield from (features["weights"], str(Path(features["repository"]) / "hubconf.py"))
    evaluation = stage.config.get("evaluation", {})
    yield from (name for name in named(evaluation.get("features", ())) if name in weights.REGISTRY)
    if evaluation.get("clip_features") in weights.REGISTRY and stage.config["data"].get("frames", 1) > 1:
        yield evaluation["clip_features"]


def _used(section: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return section if section is not None and section["weight"] > 0 else {}


def _to_fetch(absent: Iterable[str]) -> str:
    """The command for those that have a name, the paths of the others."""
    named = [name for name in absent if name in weights.REGISTRY]
    paths = [name for name in absent if name not in weights.REGISTRY]
    return "; ".join(
        [f"`tokscale weights fetch {' '.join(named)}`"] * bool(named) + [f"a file {path}" for path in paths]
    )


def _listed(absent: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count} {'stage' if count == 1 else 'stages'})" for name, count in absent.items())

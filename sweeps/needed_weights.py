"""Pretrained weights, and code of theirs, that a sweep will ask for: looked for before anything is spent.

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
from tokscale.feature_names import DINOV2S, named
from tokscale.stage import Stage

DINOV2_CODE = "DINOv2's code"


def refuse_absent_weights(plan: Plan) -> None:
    """Raise ``WeightsError`` when a stage that is still to run needs weights that are not on this machine."""
    if absent := _absent(plan):
        where = weights.dinov2_folder() if set(absent) == {DINOV2_CODE} else weights.default_folder()
        raise WeightsError(
            "this sweep needs pretrained networks that are not here", where=str(where), given=_listed(absent),
            allowed=f"{_to_fetch(absent)}; `tokscale weights list` says where files that were brought otherwise go",
        )  # fmt: skip


def words_on_absent_weights(plan: Plan) -> list[str]:
    """What a person is told who plans or submits such a sweep; nothing where all is here."""
    absent = _absent(plan)
    if not absent:
        return []
    return [f"not on this machine, and needed where the stages run: {_listed(absent)} "
            f"(here: {_to_fetch(absent)})"]  # fmt: skip


def _absent(plan: Plan) -> Counter[str]:
    """Weights that are not here, and how many of the stages that are still to run need them."""
    needed = Counter(name for stage in plan.missing() for name in _needed(stage))
    return Counter({name: count for name, count in needed.items() if not _is_here(name)})


def _is_here(name: str) -> bool:
    """Whether there is a file of these registered weights, or at this path; or the code of DINOv2."""
    if name == DINOV2_CODE:
        return weights.dinov2_is_here()
    return Path(name).expanduser().is_file() if name not in weights.REGISTRY else weights.present(name) is not None


def _needed(stage: Stage) -> Iterable[str]:
    networks = list(_networks(stage))
    yield from networks
    if any(name in DINOV2S for name in networks):
        yield DINOV2_CODE


def _networks(stage: Stage) -> Iterable[str]:
    trained = stage.config.get("decoder_finetune", stage.config)
    if "losses" in trained:
        perceptual, semantic = (_used(trained["losses"].get(name)) for name in ("perceptual", "semantic"))
        if perceptual.get("kind") == "lpips":
            yield "vgg16"
        features = semantic.get("features")
        if isinstance(features, str):
            yield features
        elif features is not None and features["kind"] == "hub":
            yield from (features["weights"], str(Path(features["repository"]) / weights.HUB_FILE))
    evaluation = stage.config.get("evaluation", {})
    yield from (name for name in named(evaluation.get("features", ())) if name in weights.REGISTRY)
    if evaluation.get("clip_features") in weights.REGISTRY and stage.config["data"].get("frames", 1) > 1:
        yield evaluation["clip_features"]


def _used(section: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return section if section is not None and section["weight"] > 0 else {}


def _to_fetch(absent: Mapping[str, int]) -> str:
    """The command for those that have a name, the way to the code, the paths of the others."""
    named = [name for name in absent if name in weights.REGISTRY]
    paths = [f"a file {name}" for name in absent if name not in weights.REGISTRY and name != DINOV2_CODE]
    ways = [f"`tokscale weights fetch {' '.join(named)}`"] * bool(named) + paths
    return "; ".join(ways + [f"{DINOV2_CODE}: {weights.how_to_bring_dinov2()}"] * (DINOV2_CODE in absent))


def _listed(absent: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count} {'stage' if count == 1 else 'stages'})" for name, count in absent.items())

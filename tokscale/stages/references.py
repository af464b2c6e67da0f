"""What a stage measures images against, where that is a file and not the validation set."""

from __future__ import annotations

from pathlib import Path

from tokscale.metrics.features import FeatureNetwork
from tokscale.metrics.references import open_reference
from tokscale.metrics.seen import Reference
from tokscale.stages.context import Context

_FOLDER = "references"
_AT_ONCE = 64


def reference_file(named: str, features: FeatureNetwork, context: Context) -> Reference | None:
    """The reference of a config, None for the validation set; raises ``DataError`` for a file that is none.

    What was seen of a file's images is kept below the runs folder, for all stages.
    """
    if named == "validation":
        return None
    runs = context.folder.path.parents[2]
    return open_reference(Path(named), features, context.device, runs / _FOLDER,
                          at_once=min(_AT_ONCE, context.runtime.micro_batch or _AT_ONCE),
                          between=context.stop_if_asked)  # fmt: skip

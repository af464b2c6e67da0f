"""Which rows may stand in one fit: different measures are kept apart, seeds of one configuration are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.table import Array, Points
from tokscale.columns import GUIDED, without_scale
from tokscale.errors import TableError
from tokscale.feature_names import JOINT, behind
from tokscale.record import COLUMNS

# Fréchet distances in different features, or to different reference sets, are different quantities.
_GENERATED = ("gfid", "gfdd", "gfd", "gfid_inf", "gfdd_inf", "gfd_inf")
_FRECHET = ("rfid", "rfdd", "rfd", *_GENERATED)
_OWN = "generation_reference"
# Other measures stay comparable in kind, but one curve through such a mixture may describe none of its parts.
_DOUBTFUL = {
    "ris": ("features",),
    "gis": ("features",),
    **dict.fromkeys(("rfvd", "gfvd", "rfcd", "gfcd"), ("clip_features",)),
    "ar_loss": ("codebook_size", "bottleneck_tokens"),
    "diffusion_loss": ("bottleneck_tokens", "bottleneck_channels", "probe.objective"),
}
_PROBE = "probe.kind"  # of generated images: those of another kind of probe say something else of a tokenizer
_PER_RUN = ("sweep", "trial", "status", "seed", "pictures", "originals", "samples")
_MAX_NAMED = 5

Places = npt.NDArray[np.int64]


def check_mixture(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Warnings about the mixture of rows behind some columns.

    Raises ``TableError`` for Fréchet distances that were measured with different features or reference sets.
    """
    warnings = []
    for name in columns:
        measure = without_scale(str(name).lower())
        if measure in _FRECHET:
            seen, against = measured_against(table, name)
            for apart in ("features", against):
                if values := _mixed(seen, apart):
                    raise TableError(
                        f"{name} was measured with different {apart}, which one fit may not mix",
                        given=values,
                        allowed=f"--by {apart}, or --where \"{apart} == '...'\"",
                    )
            warnings += _not_given(seen, ("features", against))
        generated = (_PROBE,) if measure in GUIDED else ()
        for doubtful in (*_DOUBTFUL.get(measure, ()), *generated):
            if doubtful not in columns and (values := _mixed(measured_in(table, name), doubtful)):
                warnings.append(f"{name} is compared across different {doubtful}: {values}")
    if values := _mixed(table, "dataset"):
        warnings.append(f"rows of different data sets together: {values}")
    return warnings


def measured_against(table: pd.DataFrame, measure: str) -> tuple[pd.DataFrame, str]:
    """The table and its column that says what a Fréchet distance was measured against, row by row.

    Its ``features`` are those behind this very measure, where several networks measured a row. Samples have a column of
    their own where some were measured against another set than reconstructions; where it is empty, both had one.
    """
    table = measured_in(table, measure)
    if _OWN not in table.columns or without_scale(str(measure).lower()) not in _GENERATED:
        return table, "reference"
    same = table["reference"] if "reference" in table.columns else None
    return (table if same is None else table.assign(**{_OWN: table[_OWN].fillna(same)})), _OWN


def measured_in(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The table with the one network in ``features`` that is behind a measure, where several measured a row."""
    if "features" not in table.columns or not table["features"].astype(str).str.contains(JOINT, regex=False).any():
        return table
    names = [behind(str(measure), name) if isinstance(name, str) else name for name in table["features"]]
    return table.assign(features=pd.Series(names, index=table.index, dtype=object))


def _mixed(table: pd.DataFrame, name: str) -> str:
    """The values of a column in one line if there is more than one, else an empty text."""
    if name not in table.columns:
        return ""
    values = list(dict.fromkeys(str(value) for value in table[name].dropna()))
    if len(values) < 2:
        return ""
    return ", ".join(values[:_MAX_NAMED]) + (", ..." if len(values) > _MAX_NAMED else "")


def _not_given(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Warnings about columns that are empty in some rows and named in others, which may then be different measures."""
    found = []
    for name in names:
        missing = int(table[name].isna().sum()) if name in table.columns else 0
        if 0 < missing < len(table):
            found.append(f"{name} is not given for {missing} {'row' if missing == 1 else 'rows'}")
    return found


def without_repeats(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows that do not repeat an earlier one in every column, and a warning about those that do.

    A row copied into a table twice is one measurement; counted as two it makes every interval too narrow.
    """
    try:
        repeated = table.duplicated().to_numpy()
    except TypeError:  # cells of lists and the like have no hash
        repeated = table.astype(str).duplicated().to_numpy()
    if not (count := int(repeated.sum())):
        return table, []
    said = (
        "1 row repeats another row exactly and is" if count == 1 else f"{count} rows repeat another row exactly and are"
    )
    return table[~repeated], [f"{said} left out"]


def average_seeds(
    table: pd.DataFrame, points: Points, x: Sequence[str], y: str, *, log_residuals: bool = False,
    weights: str | None = None,
) -> Points:  # fmt: skip
    """One point per configuration: the mean of x and y over the rows that differ in nothing but their seed.

    Rows of one configuration are repeated measures: they share its distance from the law, which is usually larger than
    the spread of seeds, and counting each of them as a point of its own makes intervals too narrow by up to the square
    root of the number of seeds. With few configurations the means, equally weighted, are safer than cluster-robust
    standard errors. A configuration is told by the x columns and by the columns of ``_configuration`` (the column of
    ``weights`` is none). Without a ``seed`` column every row is a configuration, and so is a row whose seed is
    empty. The variance of seeds is that of y, or with ``log_residuals`` that of ln y (None where a y is not positive).
    """
    used = table.loc[points.rows]
    points = _runs(used, points)
    if "seed" not in table.columns or used["seed"].astype("string").nunique() < 2:
        return points
    told: dict[str, Any] = {f"x{number}": values for number, values in enumerate(points.x)}
    for number, name in enumerate(_configuration(used, (*x, y, weights))):
        told[f"c{number}"] = pd.factorize(used[name].astype("string"))[0]
    told["alone"] = np.where(used["seed"].isna(), np.arange(len(used)), -1)
    keys = pd.DataFrame(told)  # at once: columns that are added one by one make a wide table slow
    place, notes = _places(keys, used, (*x, y, weights))
    points = replace(points, warnings=(*points.warnings, *notes))
    count = np.bincount(place)
    if len(count) == len(place):
        return points
    first = np.unique(place, return_index=True)[1]
    weight = np.ones(len(place)) if points.weight is None else points.weight
    total = np.bincount(place, weights=weight)
    variance, freedom = _seed_variance(points.y, place, weight, log_residuals)
    warnings = [*points.warnings, f"{len(place)} rows averaged over seeds to {len(count)} configurations"]
    if count.min() < count.max():
        warnings.append(f"configurations have from {count.min()} to {count.max()} seeds and count alike")
    return Points(
        points.x[:, first], np.bincount(place, weights=weight * points.y) / total, points.rows[first], tuple(warnings),
        seeds=count, seed_variance=variance, seed_freedom=freedom,
        weight=None if points.weight is None else total / count,
        runs=None if points.runs is None else points.runs[first],
    )  # fmt: skip


def _places(
    keys: pd.DataFrame, used: pd.DataFrame, taken: Sequence[str | None]
) -> tuple[npt.NDArray[np.int64], list[str]]:  # fmt: skip
    """The number of each row's configuration, and warnings about what seeds do not explain.

    A seed that occurs twice in one configuration proves that something else was changed: columns of fractions, which a
    foreign table may have measured or chosen, then tell configurations apart too, if they have few values.
    """
    place = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy()
    seeds = used["seed"].astype("string").to_numpy(dtype=object, na_value="")
    if len(np.unique(place)) == len(place):
        others = [name for name in used.columns if name not in (*taken, "seed")]
        alone = [str(name) for name in others if used[name].nunique() == len(used) and not _fractions(used[name])]
        known = f": {', '.join(alone)} differs in every one" if alone else ""
        repeated = used["seed"].duplicated().any() and keys.filter(regex="^x").duplicated().any()
        return place, [f"seeds vary, but no two rows are equal in everything else{known}"] if repeated else []
    if not pd.DataFrame({"place": place, "seed": seeds}).duplicated().any():
        return place, []
    chosen = [name for name in used.columns if name not in (*taken, "seed") and _fractions(used[name])
              and 1 < used[name].nunique() <= len(used) / 2]  # fmt: skip
    if not chosen:
        return place, ["a seed occurs twice in one configuration: rows that differ in something else are averaged"]
    for name in chosen:
        keys[f"more {name}"] = pd.factorize(used[name])[0]
    place = keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy()
    return place, [f"a seed occurs twice at equal sizes: {', '.join(map(str, chosen))} tell configurations apart too"]


def _seed_variance(y: Array, place: Places, weight: Array, log_residuals: bool) -> tuple[float | None, int]:
    """The variance of rows about their configuration's mean, pooled, and its degrees of freedom.

    With weights it is that of a row of mean weight.
    """
    if log_residuals and not (y > 0).all():
        return None, 0
    values, weight = np.log(y) if log_residuals else y, weight / weight.mean()
    means = np.bincount(place, weights=weight * values) / np.bincount(place, weights=weight)
    freedom = len(y) - len(means)
    return float((weight * (values - means[place]) ** 2).sum() / freedom), freedom


def _runs(table: pd.DataFrame, points: Points) -> Points:
    """The points with the number of the run that each belongs to, where rows of one run stand at several sizes.

    The checkpoints of one run err together: their rows tell less than as many runs would.
    """
    if "trial" not in table.columns or table["trial"].isna().any():
        return points
    runs, names = pd.factorize(table["trial"])
    if len(names) == len(runs):
        return points
    note = f"{len(runs)} rows are of {len(names)} trials: rows of one trial are no independent evidence"
    return replace(points, runs=runs, warnings=(*points.warnings, note))


def _configuration(table: pd.DataFrame, taken: Sequence[str | None]) -> list[str]:
    """The columns that tell one configuration from another.

    In the results table these are its identity and size columns and the dotted config columns. In any other table they
    are all columns but the seed and plain outcomes: measures, budgets, and floats that are not all whole numbers.
    """
    if "trial" not in table.columns:
        return [name for name in table.columns if name not in (*taken, "seed") and not _outcome(name, table[name])]
    known = [name for name, entry in COLUMNS.items() if entry.kind in ("identity", "size") and name not in _PER_RUN]
    dotted = [name for name in map(str, table.columns) if all(part.isidentifier() for part in name.split("."))]
    names = [*known, *(name for name in dotted if "." in name)]
    if any(name.startswith("generation.") for name in names):
        names.remove("cfg_scale")  # of several scales it is the one that turned out best, and the config has them all
    return [name for name in names if name in table.columns and name not in taken]


def _outcome(name: str, values: pd.Series[Any]) -> bool:
    """Whether a column of a foreign table plainly was measured rather than chosen."""
    if name in COLUMNS and COLUMNS[name].kind in ("measure", "budget"):
        return True
    return _fractions(values)


def _fractions(values: pd.Series[Any]) -> bool:
    return pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 != 0).any())

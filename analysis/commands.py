"""The commands ``tokscale fit`` and ``tokscale compare``.

Only typer is imported at the top: the front door reads this module for ``--help``, which must stay quick.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokscale.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitted import Fit

Table = Annotated[str, typer.Argument(metavar="TABLE", help="A csv, parquet or json file, or published:NAME.")]
Where = Annotated[
    str | None, typer.Option(metavar="EXPR", help="Rows to use, as \"dataset == 'coco' and patch >= 16\".")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Level = Annotated[float, typer.Option(metavar="SHARE", help="Level of the intervals.")]
Sizes = Annotated[list[str], typer.Option(metavar="COL", help="A column of sizes; several for the additive law.")]
Measure = Annotated[str, typer.Option(metavar="COL", help="The column of a measure.")]
LawName = Annotated[
    str | None, typer.Option(metavar="NAME", help="A law; all that apply, best first, if left out.")
]  # fmt: skip
By = Annotated[str | None, typer.Option(metavar="COL", help="Fit each value of this column apart.")]
Shared = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="A parameter of the law that all groups have in common.")
]
Weights = Annotated[str | None, typer.Option(metavar="COL", help="A column of inverse variances.")]
Huber = Annotated[
    float | None, typer.Option(metavar="DELTA", help="Residuals beyond this count by size, not by square.")
]
At = Annotated[
    list[str] | None,
    typer.Option(metavar="SIZE", help="Predict at this size (86M), or at one size a column (86M,4096)."),
]

_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}


def fit_command(
    table: Table, x: Sizes, y: Measure, law: LawName = None, by: By = None, shared: Shared = None, where: Where = None,
    weights: Weights = None, huber: Huber = None, interval: Level = 0.95, at: At = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Fit a law to columns of a table, or choose among all laws.

    Repeated seeds of one configuration are averaged before the fit. Rows that cannot be used are counted in the
    warnings. With --at and no --law, predictions are averaged over laws by the evidence for each.
    """
    from analysis.fitted import Fit
    from analysis.fitting import fit
    from analysis.table import load_table

    places = [_sizes(word, len(x)) for word in at or ()]
    rows = load_table(table)
    if places and law is None:
        if weights is not None or huber is not None or shared:
            raise UsageError("laws are averaged by plain least squares", given="--weights, --huber or --shared",
                             allowed="with --at, a law named by --law")  # fmt: skip
        fits, told = _averaged(rows, x, y, by, where, interval, places)
        content: Any = told + [one.to_json() for one in fits]
    else:
        found = fit(rows, law=law, x=x, y=y, by=by, shared=shared or (), where=where, weights=weights, huber=huber,
                    interval=interval)  # fmt: skip
        fits = [found] if isinstance(found, Fit) else found
        told = [_told(one.to_json(), one.predict(_columns(places), interval), places) for one in fits if places]
        content = told or [one.to_json() for one in fits]
        content = content[0] if isinstance(found, Fit) else content
    if as_json:
        _print_json(content)
        return
    from analysis.printing import print_fits, print_predictions

    print_fits(fits)
    if told:
        # What a named law's fit says stands above; an average is printed nowhere else.
        said = [one["warnings"] if law is None else one["warnings"][len(fits[place].warnings) :]
                for place, one in enumerate(told)]  # fmt: skip
        print_predictions(told, said, interval)


def compare_command(
    table: Table,
    by: Annotated[str, typer.Option(metavar="COL", help="The column whose values stand side by side.")],
    y: Annotated[list[str] | None, typer.Option(metavar="COL", help="A measure; all of the table if left out.")] = None,
    where: Where = None,
    interval: Level = 0.95,
    as_json: Json = False,
) -> None:
    """Put groups of trials side by side, with intervals over their seeds and rows."""
    from analysis.comparison import compare
    from analysis.table import load_table, select

    result = compare(select(load_table(table), where), by=by, y=y, interval=interval)
    if as_json:
        _print_json(result.to_dict("records"))
        for warning in result.attrs["warnings"]:
            typer.echo(f"warning: {warning}", err=True)
        return
    from analysis.printing import print_comparison

    print_comparison(result, by, interval)


def _sizes(word: str, columns: int) -> list[float]:
    """The sizes of one ``--at``: a number for each x column, apart by commas; k, M, G, B and T are known."""
    sizes = []
    for part in word.split(","):
        text = part.strip()
        unit = _UNITS.get(text[-1:], 1.0)
        try:
            sizes.append(float(text[:-1] if text[-1:] in _UNITS else text) * unit)
        except ValueError:
            raise UsageError("--at names a size that is no number", given=word, allowed="as 4096, 86M or 1e9") from None
    if len(sizes) != columns:
        raise UsageError("--at names one size for each --x", given=f"{word}: {len(sizes)} for {columns} columns",
                         allowed="sizes apart by commas, and --at again for the next place")  # fmt: skip
    return sizes


def _averaged(
    table: pd.DataFrame, x: list[str], y: str, by: str | None, where: str | None, interval: float,
    places: list[list[float]],
) -> tuple[list[Fit], list[dict[str, Any]]]:  # fmt: skip
    """The fits of all laws that apply, and their average of each group with what it predicts at some places."""
    from analysis.choosing import choose

    choices = choose(table, x=x, y=y, by=by, where=where, interval=interval)
    fits: list[Fit] = []
    told = []
    for choice in choices if isinstance(choices, list) else [choices]:
        fits += choice.fits
        said = {name: part for name, part in choice.to_json().items() if name != "fits"}
        told.append(_told({"law": "average", **said}, choice.predict(_columns(places), interval=interval), places))
    return fits, told


def _columns(places: list[list[float]]) -> list[list[float]]:
    return [list(sizes) for sizes in zip(*places, strict=True)]


def _told(fit: dict[str, Any], predicted: pd.DataFrame, places: list[list[float]]) -> dict[str, Any]:
    """A fit as JSON says it, with a prediction a place and what to know of these."""
    rows = [{"x": dict(zip(fit["x"], sizes, strict=True)), **row}
            for sizes, row in zip(places, predicted.to_dict("records"), strict=True)]  # fmt: skip
    return {**fit, "warnings": [*fit["warnings"], *predicted.attrs["warnings"]], "predictions": rows}


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(_plain(content), indent=2, allow_nan=False, default=str))


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know: NaN as None, infinities as text."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value

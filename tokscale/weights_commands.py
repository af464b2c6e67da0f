"""``tokscale weights list|fetch|verify``: files of pretrained weights, for nodes with and without internet."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tokscale.weights import Weights


class Action(str, Enum):
    """What can be done with weights."""

    list = "list"
    fetch = "fetch"
    verify = "verify"


def weights(
    action: Annotated[Action, typer.Argument(help="What to do: list, fetch or verify.", show_default=False)],
    names: Annotated[list[str] | None, typer.Argument(help="Names of weights, as `list` shows them.",
                                                      show_default=False)] = None,
    to: Annotated[Path | None, typer.Option("--to", help="A folder other than torch's own, to carry elsewhere.",
                                            show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """List, fetch or verify pretrained weights (VGG for LPIPS, Inception, DINOv2, I3D)."""
    from tokscale import weights as known
    from tokscale.errors import UsageError
    from tokscale.feature_names import DINOV2S

    folder = to if to is not None else known.default_folder()
    entries = [known.entry_of(name) for name in names or known.REGISTRY]
    if action is Action.fetch and not names:
        raise UsageError("which weights?", given="no name", allowed=f"some of: {', '.join(known.REGISTRY)}")
    code = any(entry.name in DINOV2S for entry in entries)
    if action is Action.list:
        _show([_row(entry, folder) for entry in entries], folder, as_json, code=code)
    elif action is Action.fetch:
        for entry in entries:
            _fetch(entry, folder, quiet=as_json)
        _show([_row(entry, folder) for entry in entries], folder, as_json, code=code)
    else:
        here = [entry for entry in entries if names or (folder / entry.file).is_file()]
        rows = [_verified(entry, folder) for entry in here]
        _show(rows, folder, as_json)
        if any(row["state"] in ("damaged", "absent") for row in rows):
            raise typer.Exit(1)


def _row(entry: Weights, folder: Path) -> dict[str, Any]:
    state = "present" if (folder / entry.file).is_file() else "absent"
    return {
        "name": entry.name, "state": state, "megabytes": entry.megabytes, "file": entry.file,
        "sha256": entry.published, "used_for": entry.used_for, "licence": entry.licence, "url": entry.url,
    }  # fmt: skip


def _verified(entry: Weights, folder: Path) -> dict[str, Any]:
    """A row whose file was read again; ``unverified`` is one of which no hash is known."""
    from tokscale.record import digest
    from tokscale.weights import expected_hash

    row, path = _row(entry, folder), folder / entry.file
    if row["state"] == "absent":
        return row
    expected, row["sha256"] = expected_hash(entry, path), digest(path)["sha256"]
    right = expected is not None and str(row["sha256"]).startswith(expected)
    row["state"] = "unverified" if expected is None else "right" if right else "damaged"
    return row


def _fetch(entry: Weights, folder: Path, *, quiet: bool) -> None:
    from tokscale.weights_fetch import fetch

    told = {"tenth": -1}

    def tell(done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else 0
        if tenth > told["tenth"] and not quiet:
            told["tenth"] = tenth
            typer.echo(
                f"{entry.name}: {done / 1e6:,.0f} of {total / 1e6 if total else entry.megabytes:,.0f} MB", err=True
            )

    fetch(entry, folder, tell)


def _show(rows: list[dict[str, Any]], folder: Path, as_json: bool, *, code: bool = False) -> None:
    """The rows, and where asked for whether the ``code`` of DINOv2 is here, which is no file to fetch."""
    import json

    from tokscale import weights as known

    if as_json:
        found: dict[str, Any] = {"folder": str(folder), "weights": rows}
        if code:
            state = "present" if known.dinov2_is_here() else "absent"
            found["dinov2_code"] = {"folder": str(known.dinov2_folder()), "state": state}
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{folder}:")
    for row in rows:
        typer.echo(f"  {row['name']:<18}{row['state']:<11}{row['megabytes']:>6} MB  {row['file']}")
        typer.echo(f"  {'':<18}{row['used_for']}; {row['licence']}")
    if code and known.dinov2_is_here():
        typer.echo(f"DINOv2's code, which its weights need: present in {known.dinov2_folder()}")
    elif code:
        typer.echo(f"DINOv2's code, which its weights need, is absent: {known.how_to_bring_dinov2()}")

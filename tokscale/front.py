"""The ``tokscale`` command: finds subcommands under the entry point group ``tokscale.commands``, loads those called.

Each package brings its own subcommands as plain functions with Typer annotations; the first line of a function's
docstring is its help. The front door imports nobody, so ``--help`` and planning stay instant. What packages need of one
another without importing one another stands under ``tokscale.services``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tokscale
from tokscale.errors import TokscaleError, UsageError, one_of

GROUP = "tokscale.commands"
SERVICES = "tokscale.services"
# In the order of a study; a command that is not listed comes last.
_ORDER = (
    "quickstart", "run", "plan", "status", "logs", "retry", "results", "fit", "next", "compare", "plot", "report",
    "presets", "weights", "schema",
)  # fmt: skip


def commands() -> dict[str, EntryPoint]:
    """All subcommands by name, in the order of the help page."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    rank = {name: place for place, name in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def command(name: str) -> Callable[..., Any]:
    """The function behind a subcommand, for callers that want its work and not its words."""
    function: Callable[..., Any] = commands()[name].load()
    return function


def service(name: str) -> Any:
    """What a package offers to others that may not import it, by name; raises ``UsageError`` where none offers it."""
    found = {point.name: point for point in entry_points(group=SERVICES)}
    if name not in found:
        raise UsageError("no installed package offers this", given=name,
                         allowed=f"{one_of(found, name)}; after an update, install the package again")  # fmt: skip
    return found[name].load()


class LazyGroup(TyperGroup):
    """A group whose subcommands are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(commands())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        points = commands()
        if cmd_name not in points:
            raise UsageError("no such command", given=cmd_name, allowed=one_of(points, cmd_name))
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name=cmd_name)(points[cmd_name].load())
        loaded = typer.main.get_command(single)
        loaded.name = cmd_name
        return loaded


# Plain help: rich's would take three times as long to import as all the rest.
app = typer.Typer(cls=LazyGroup, name="tokscale", no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tokscale {tokscale.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.", callback=_version,
                                          is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:  # fmt: skip
    """Scaling laws of visual tokenizers: plan a sweep, run it, measure it, fit its curves."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one message on standard error and the exit status that they carry."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words or bool(os.environ.get("TOKSCALE_DEBUG"))
    if debug:  # allowed anywhere on the line
        words = ["--debug", *(word for word in words if word != "--debug")]
    try:
        typer.main.get_command(app).main(args=words, prog_name="tokscale")
    except TokscaleError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
    except Exception as error:  # a fault of ours: still one message, and the way to its traceback
        if debug:
            raise
        typer.echo(f"error: {type(error).__name__}: {error}\n  --debug shows where; please report it", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""`hustings`: one subcommand per stage, in the order in which the data flow.

Nothing heavy is imported before a subcommand needs it, so that --help is quick.
"""

import os
import sys
from typing import Annotated

import typer

import hustings
from hustings.experiments.cli import (
    answers,
    backups,
    ballots,
    check,
    daily,
    export,
    init,
    live,
    measure,
    models,
    pages,
    persons,
    plans,
    reactions,
    rules,
    stages,
    standing,
)
from hustings.experiments.cli.common import BAD_INPUT, FAILED, MISSING, OK

__all__ = ["BAD_INPUT", "FAILED", "MISSING", "OK", "app", "main"]

app = typer.Typer(
    name="hustings",
    help="From randomised message tests to a budgeted plan: who gets which message.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(asked_for: bool) -> None:
    if asked_for:
        typer.echo(f"hustings {hustings.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it."
        ),
    ] = False,
) -> None:
    """From randomised message tests to a budgeted plan: who gets which message."""


# in the order in which --help lists them
for _part in (
    init,
    check,
    stages,
    daily,
    standing,
    models,
    plans,
    export,
    answers,
    ballots,
    measure,
    pages,
    persons,
    backups,
    rules,
    reactions,
    live,
):
    app.add_typer(_part.app)


def main() -> None:
    """Entry point of the script `hustings`."""
    sys.argv[0] = "hustings"
    # whatever a command writes is about people: other users of the machine read none
    os.umask(0o077)
    # processes side by side do more than threads that wait for each other by spinning
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()

"""`check` and `schema`: what a run would find, and what may be declared."""

import json
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    BAD_INPUT,
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    NVoters,
    errors_reported,
    make_run,
    print_error,
    progress,
)

app = typer.Typer()


@app.command()
def schema(
    written: Annotated[
        str, typer.Option("--format", help="json (a JSON Schema) or markdown.")
    ] = "json",
    debug: Debug = False,
) -> None:
    """Every section and key of a campaign.toml, for an editor or for a person."""
    with errors_reported(debug=debug):
        from hustings.experiments.declaration.schema import campaign_schema, schema_page

        if written not in {"json", "markdown"}:
            raise ValueError(f"expected --format json or markdown, got {written!r}")
        declared = campaign_schema()
        if written == "json":
            typer.echo(json.dumps(declared, indent=1, ensure_ascii=False))
        else:
            typer.echo(schema_page(declared), nl=False)


@app.command()
def check(
    campaign: CampaignName,
    data: DataFolder = DEFAULT_DATA,
    voters: NVoters = 0,
    debug: Debug = False,
) -> None:
    """Every check of a run on the whole files: nothing is trained, and none written.

    Says what is accepted and what is set aside, what the model will see, who can be
    reached, and what the test can detect. Exit code 2 where a run would stop.
    """
    with errors_reported(debug=debug):
        from dataclasses import replace

        from hustings.experiments.check import check_campaign, page_of

        run = make_run(campaign, data, DEFAULT_STORE, "", voters=voters)
        with progress() as tell:
            checked = check_campaign(replace(run, tell=tell))
        typer.echo(page_of(checked))
        if not checked.stops:
            typer.echo(
                f"`hustings {checked.command}` would go through. Nothing was written."
            )
            return
        for stop in checked.stops:
            print_error(stop)
        typer.echo(
            f"`hustings {checked.command}` would stop, faults: {len(checked.stops)}. "
            "Nothing was written."
        )
        raise typer.Exit(BAD_INPUT)

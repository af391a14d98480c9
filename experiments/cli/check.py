"""`hustings check`: what a run would find, before it, with nothing written."""

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

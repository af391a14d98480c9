"""`status`: where a campaign stands, on one screen."""

import json
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    AsJson,
    CampaignName,
    DataFolder,
    Debug,
    address_of,
    day_of,
    errors_reported,
    make_run,
    settle,
)

app = typer.Typer()


@app.command()
def status(
    campaign: CampaignName,
    as_of: Annotated[
        str,
        typer.Option("--as-of", help="End of a day (YYYY-MM-DD); now without."),
    ] = "",
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """What is due and who is waited for; money, days, holdout and alarms."""
    with errors_reported(debug=debug):
        import pandas as pd

        from hustings.experiments.status import status_of, status_text

        run = make_run(campaign, data, DEFAULT_STORE, "")
        settle(run.home)
        at = run.at
        if as_of:
            ends = day_of(as_of, "--as-of") + pd.Timedelta(days=1, seconds=-1)
            at = ends.tz_localize("UTC")
        stands = status_of(run, at, address=address_of(campaign, data))
        typer.echo(
            json.dumps(stands.to_json(), indent=1) if as_json else status_text(stands)
        )

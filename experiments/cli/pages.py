"""`week`: the page of a campaign's week."""

from pathlib import Path
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    changing,
    day_of,
    errors_reported,
    known_run,
    make_run,
)

app = typer.Typer()


@app.command()
def week(
    campaign: CampaignName,
    date: Annotated[
        str, typer.Option("--date", help="Last day of the week, as 2026-09-14.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="File; week-<date>.html without.")
    ] = None,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """The week's page: what changed and why, spend, lift, votes still needed."""
    with errors_reported(debug=debug), changing(campaign, data, "week"):
        from hustings.experiments.present_pages import lift_now, week_of
        from hustings.experiments.report import write_week
        from hustings.experiments.week_facts import last_planned_on
        from hustings.features.atomic import whole_file

        run = make_run(campaign, data, DEFAULT_STORE, "")
        last_on = day_of(date, "--date") if date else last_planned_on(run.home)
        try:
            lift = lift_now(known_run(run, campaign))
        except FileNotFoundError as failure:
            lift = str(failure)
        facts = week_of(run, last_on, lift)
        path = out or run.home / f"week-{last_on:%Y-%m-%d}.html"
        with whole_file(path) as aside:
            write_week(aside, facts)
        typer.echo(path)

"""Pages for people: the week."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    errors_told,
    make_run,
)

app = typer.Typer()
_MONEY = {
    "usd_planned": "planned_usd",
    "usd_committed": "committed_usd",
    "usd_spent": "spent_usd",
}


@app.command()
def week(
    campaign: CampaignName = "sample",
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
    with errors_told(debug=debug):
        import pandas as pd

        from experiments.life import plans, spent
        from experiments.report import write_week
        from experiments.run.watched import paused_messages
        from experiments.week import last_planned_on, week_facts

        run = make_run(campaign, data, DEFAULT_STORE, "")
        last_on = pd.Timestamp(date) if date else last_planned_on(run.home)
        money = spent(run.home).rename(columns=_MONEY)
        facts = week_facts(
            run.home, run.campaign, last_on=last_on, paused=paused_messages(run),
            spend=money[money["send_on"] != ""] if len(money) else None,
            states={name: plan.state for name, plan in plans(run.home).items()},
        )  # fmt: skip
        path = out or run.home / f"week-{last_on:%Y-%m-%d}.html"
        aside = path.with_suffix(".partial")
        write_week(aside, facts)
        aside.replace(path)
        typer.echo(path)

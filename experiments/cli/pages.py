"""`week`: the page of a campaign's week."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    import pandas as pd

    from hustings.experiments.results import LiftSummary
    from hustings.experiments.stages.context import Run

app = typer.Typer()
_MONEY = {
    "usd_planned": "planned_usd",
    "usd_committed": "committed_usd",
    "usd_spent": "spent_usd",
}


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
        from dataclasses import replace

        import pandas as pd

        from hustings.experiments.lift.files import sent_online
        from hustings.experiments.plans import plans, spent
        from hustings.experiments.report import write_week
        from hustings.experiments.stages.monitor_config import paused_messages
        from hustings.experiments.week_facts import last_planned_on, week_facts
        from hustings.features.atomic import whole_file

        run = make_run(campaign, data, DEFAULT_STORE, "")
        last_on = day_of(date, "--date") if date else last_planned_on(run.home)
        states = {name: plan.state for name, plan in plans(run.home).items()}
        money = spent(run.home, run.at).rename(columns=_MONEY)
        facts = week_facts(
            run.home, run.campaign, last_on=last_on, paused=paused_messages(run),
            spend=_spend(money, states), states=states, lift=_lift(run, campaign),
        )  # fmt: skip
        online = sent_online(run.home, last_on + pd.Timedelta(days=1))
        facts = replace(facts, missing=[*facts.missing, *online.sentences()])
        path = out or run.home / f"week-{last_on:%Y-%m-%d}.html"
        with whole_file(path) as aside:
            write_week(aside, facts)
        typer.echo(path)


def _lift(run: "Run", campaign: str) -> "LiftSummary | str":
    """The lift as it is known now, or why there is none."""
    from hustings.experiments.lift.files import lift_so_far

    try:
        latest_run = known_run(run, campaign)
        return lift_so_far(latest_run, run.at.tz_localize(None))[1]
    except FileNotFoundError as failure:
        return str(failure)


def _spend(money: "pd.DataFrame", states: dict[str, str]) -> "pd.DataFrame | None":
    """Money of the plans that a week tells of, by day."""
    from hustings.experiments.plans.online import is_online
    from hustings.experiments.week_facts import counted

    counted_plans = counted([Path(name) for name in states], states)
    counts = money["plan_id"].isin(counted_plans) | money["plan_id"].map(is_online)
    spend_of_week = money[counts.astype(bool) & (money["send_on"] != "")]
    return spend_of_week if len(spend_of_week) else None

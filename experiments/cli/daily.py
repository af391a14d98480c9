"""`month` and `day`: the daily loop, simulated for a month or run for one day."""

from pathlib import Path
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    MlflowServer,
    StoreFolder,
    changing,
    console,
    errors_told,
    known_run,
    make_run,
    new_run_id,
)

app = typer.Typer()


@app.command()
def month(
    campaign: CampaignName,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Worlds.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File of the evaluation; printed without."),
    ] = None,
    voters: Annotated[int, typer.Option("--voters", help="Voters of a world.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    debug: Debug = False,
) -> None:
    """The loop and its rivals through a simulated month whose truth is known."""
    with errors_told(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.simulation.month import judged_months, told_text
        from hustings.features.atomic import write_json

        evaluation = judged_months(
            load_campaign(campaign), n_seeds=seeds, n_voters=voters, n_workers=workers,
            tell=lambda text: console.print(text),
        )  # fmt: skip
        typer.echo(told_text(evaluation))
        if out is not None:
            write_json(out, evaluation)


@app.command()
def day(
    campaign: CampaignName,
    date: Annotated[str, typer.Option("--date", help="The day, as 2026-09-08.")],
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Run every stage first, on what came in since."),
    ] = False,
    approve_by: Annotated[
        str,
        typer.Option("--approve-by", help="Who answers for the plan; locks it."),
    ] = "",
    export: Annotated[
        bool, typer.Option("--export", help="Write the lists of its channels.")
    ] = False,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Plan and randomise a day: a draft in plans/, made once however often asked."""
    with errors_told(debug=debug), changing(campaign, data, "day"):
        from dataclasses import replace

        import pandas as pd

        from hustings.experiments.loop.run_day import run_day
        from hustings.experiments.run import run_campaign

        planned_day = pd.Timestamp(date)
        run = make_run(campaign, data, store, mlflow)
        if retrain:
            name = new_run_id()
            run_campaign(replace(run, run_id=name, folder=run.home / name))
        run = known_run(run, campaign)
        summary = run_day(run, date=planned_day, at=run.at, approve_by=approve_by)
        typer.echo(
            f"{summary['plan_id']} ({summary['state']}): {summary['n_sent']:,} "
            f"contacts for ${summary['spent_usd']:,.2f}, "
            f"{summary['n_explored']:,} voters explore "
            f"(predicted cost {summary['explore_cost']:,.1f}), "
            f"{summary['n_assigned']:,} assignments with the holdout's "
            f"shadows; model {summary['model']}"
        )
        if export:
            from hustings.experiments.handover.lists import export as export_plan
            from hustings.experiments.handover.lists import stated

            plan = stated(run.home, summary["plan_id"], summary["state"])
            exported = export_plan(run, plan, at=run.at)
            typer.echo(exported.folder or "Nothing has changed since the lists left.")

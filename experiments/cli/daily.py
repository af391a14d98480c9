"""`month` and `day`: the daily loop, simulated for a month or run for one day."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    NOTHING_TO_HAND_OVER,
    CampaignName,
    DataFolder,
    Debug,
    MlflowServer,
    StoreFolder,
    changing,
    console,
    day_of,
    errors_reported,
    known_run,
    make_run,
    new_run_id,
    say_next,
)

if TYPE_CHECKING:
    from hustings.experiments.loop.run_day import DaySummary

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
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.simulation.month import evaluation_text, judged_months
        from hustings.features.atomic import write_json

        evaluation = judged_months(
            load_campaign(campaign), n_seeds=seeds, n_voters=voters, n_workers=workers,
            tell=lambda text: console.print(text),
        )  # fmt: skip
        typer.echo(evaluation_text(evaluation))
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
    with errors_reported(debug=debug), changing(campaign, data, "day"):
        from dataclasses import replace

        from hustings.experiments.loop.run_day import NO_PLAN, run_day
        from hustings.experiments.run import run_campaign

        planned_day = day_of(date, "--date")
        run = make_run(campaign, data, store, mlflow)
        if retrain:
            name = new_run_id()
            run_campaign(replace(run, run_id=name, folder=run.home / name))
        run = known_run(run, campaign)
        summary = run_day(run, date=planned_day, at=run.at, approve_by=approve_by)
        typer.echo(_sentence(summary))
        if export and summary.state != NO_PLAN:
            from hustings.experiments.handover.lists import export as export_plan
            from hustings.experiments.handover.lists import stated
            from hustings.experiments.plans.recorded_files import recording

            plan = stated(run.home, summary.plan_id, summary.state)
            with recording(run.home, at=run.at):
                written = export_plan(run, plan, at=run.at)
            typer.echo(written.folder or NOTHING_TO_HAND_OVER)
        say_next(campaign, data, run.at, summary.plan_id)


def _sentence(day: "DaySummary") -> str:
    """What a day came to, in a sentence or two."""
    trained = f"Trained {day.retrained} first. " if day.retrained else ""
    online = _online_sentence(day)
    if day.why_no_plan:
        return f"{trained}{day.date}: nothing is sent: {day.why_no_plan}{online}"
    gate = ""
    if day.gate is not None:
        verdict = "is shown to pay" if day.gate.personalises else "is not shown to pay"
        gate = (
            f"; personalising {verdict} (evidence {day.gate.evidence:.1f} of 20 after "
            f"{len(day.gate.looks)} looks)"
        )
    # a champion says itself what it was trained on
    taught = (
        f", {day.n_taught:,} outcomes of the loop and its test learned"
        if day.n_taught else ""
    )  # fmt: skip
    from hustings.experiments.plans import CANCELLED, REJECTED

    if day.state in {REJECTED, CANCELLED}:
        return (
            f"{day.plan_id} ({day.state}): nothing is sent. A day is planned once; its "
            "voters may be decided on the next."
        )
    return (
        f"{trained}{day.plan_id} ({day.state}): {day.n_sent:,} contacts for "
        f"${day.spent_usd:,.2f}, {day.n_explored:,} voters explore (predicted cost "
        f"{day.explore_cost:,.1f}), {day.n_assigned:,} assignments with the holdout's "
        f"shadows; model {day.model}{taught}{gate}{online}"
    )


def _online_sentence(day: "DaySummary") -> str:
    """What was sent and is offered online; empty for nothing."""
    parts = []
    if day.n_online:
        parts.append(
            f"{day.n_online:,} contacts were sent online for ${day.online_usd:,.2f}"
        )
    if day.n_open_offers:
        parts.append(
            f"{day.n_open_offers:,} offers are open there, with "
            f"${day.reserved_usd:,.2f} reserved"
        )
    counted = " and ".join(parts)
    return f"; {counted}: off the budget and the pool" if counted else ""

"""Measured lift, and power before anything is spent."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    FAILED,
    AsJson,
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
    say_next,
)

app = typer.Typer()
PageFile = Annotated[
    Path | None, typer.Option("--out", help="Writes the page of it into this file.")
]


@app.command("lift")
def lift(
    campaign: CampaignName,
    as_of: Annotated[
        str, typer.Option("--as-of", help="Day (YYYY-MM-DD); today without.")
    ] = "",
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    as_json: AsJson = False,
    out: PageFile = None,
    debug: Debug = False,
) -> None:
    """What the campaign's plans brought so far, against the held out, at any look."""
    with errors_reported(debug=debug), changing(campaign, data, "lift"):
        from hustings.experiments.lift import measure
        from hustings.experiments.lift.files import LIFT_FILE, lift_measured
        from hustings.experiments.lift.summary import table
        from hustings.experiments.present_pages import lift_facts
        from hustings.experiments.report.lift_page import write_lift
        from hustings.features.atomic import whole_file

        run = known_run(make_run(campaign, data, store, mlflow), campaign)
        day = day_of(as_of, "--as-of") if as_of else run.at.tz_localize(None)
        measured, summary = measure(run, day)
        if out is not None:
            with whole_file(out) as aside:
                write_lift(aside, lift_facts(run, summary))
        if as_json:
            typer.echo(json.dumps(summary.to_json(), indent=1))
        else:
            for sentence in summary.sentences:
                console.print(sentence, highlight=False, markup=False)
            rows = table(measured)
            columns = ["estimand", "message_id", "channel", "segment", "n_sent",
                     "n_compared", "lift", "always_low", "always_high", "claimed",
                     "shrunken", "predicted"]  # fmt: skip
            if len(rows):
                typer.echo(rows[columns].to_string(index=False, float_format="%.3f"))
            on_record = lift_measured(run.home) or summary
            is_later = on_record.as_of != summary.as_of
            later = f"the later look of {on_record.as_of}, and stays"
            what = later if is_later else "all of it"
            console.print(f"{run.home / LIFT_FILE} holds {what}", highlight=False)
            if out is not None:
                console.print(f"Page: {out}", highlight=False)
        if not as_json:
            say_next(campaign, data, run.at)
    if not measured.trusted:
        raise typer.Exit(FAILED)


@app.command("power")
def power_command(
    campaign: CampaignName,
    days: Annotated[
        int, typer.Option("--days", min=0, help="Days that remain; the plan's without.")
    ] = 0,
    holdout: Annotated[
        list[float] | None,
        typer.Option("--holdout", help="Holdout share to look at; repeat for more."),
    ] = None,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    as_json: AsJson = False,
    out: PageFile = None,
    debug: Debug = False,
) -> None:
    """Before spending: what can be detected, what it costs, how much to explore."""
    with errors_reported(debug=debug):
        from hustings.experiments.power import as_json as plain
        from hustings.experiments.power import power_page, sentences
        from hustings.experiments.present_pages import power_of_run
        from hustings.experiments.report.power_page import write_power
        from hustings.features.atomic import whole_file

        run = known_run(make_run(campaign, data, store, mlflow), campaign)
        detectable = power_of_run(run, days=days, holdouts=tuple(holdout or ()))
        if out is not None:
            with whole_file(out) as aside:
                write_power(aside, power_page(detectable, run.campaign))
        if as_json:
            typer.echo(json.dumps(plain(detectable), indent=1))
        else:
            unit = run.campaign.outcome.unit_per_point
            for sentence in sentences(detectable, per_point=unit):
                console.print(sentence, highlight=False, markup=False)

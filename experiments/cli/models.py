"""Commands on runs and models: list, compare, roll back, remove a provider."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    AsJson,
    CampaignName,
    DataFolder,
    Debug,
    MlflowServer,
    StoreFolder,
    address_of,
    changing,
    errors_reported,
    make_run,
    settle,
)

app = typer.Typer()
runs = typer.Typer(
    help="The runs of a campaign, and the card of a model: list, card.",
    no_args_is_help=True,
)
app.add_typer(runs, name="runs")


@runs.command("list")
def list_runs(
    campaign: CampaignName,
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Runs with date, verdict and model, the champion's own marked."""
    with errors_reported(debug=debug):
        from hustings.experiments.run_list import listed_runs
        from hustings.training.registry.register import champion_version, open_store

        run = make_run(campaign, data, store, mlflow)
        settle(run.home)
        open_store(mlflow or None, store)
        rows = listed_runs(run.home, champion_version(run.campaign.campaign.name))
        if as_json:
            typer.echo(json.dumps([row.to_json() for row in rows], indent=1))
        else:
            typer.echo("\n".join(row.line() for row in rows))


@runs.command("card")
def card(
    campaign: CampaignName,
    version: Annotated[
        str,
        typer.Option("--version", help="Number of a version; the champion without."),
    ] = "",
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """The model card: data, verdict, intended use, limits and guardrails."""
    with errors_reported(debug=debug):
        from hustings.experiments.stages.champion import registered
        from hustings.training.registry.register import model_card_of, open_store

        run = make_run(campaign, data, store, mlflow)
        open_store(mlflow or None, store)
        chosen = registered(run.campaign.campaign.name, version)
        text = model_card_of(chosen)
        typer.echo(f"{chosen.name}/{chosen.version}, as MLflow has it:\n\n{text}")


@app.command()
def compare(
    campaign: CampaignName,
    last: Annotated[int, typer.Option("--last", min=1, help="Runs shown.")] = 10,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """The last runs of a campaign side by side, from MLflow."""
    with errors_reported(debug=debug):
        from hustings.training.registry.register import open_store
        from hustings.training.registry.track import recent_runs

        run = make_run(campaign, data, store, mlflow)
        open_store(mlflow or None, store)
        runs = recent_runs(run.campaign.campaign.name, last)
        if runs.empty:
            raise FileNotFoundError(
                f"{run.campaign.campaign.name}: expected runs in MLflow, found none; "
                f"`hustings run {address_of(campaign, data).with_store(run.home)}` "
                "makes one"
            )
        _show_runs([{str(k): v for k, v in r.items()} for r in runs.to_dict("records")])


def _show_runs(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("run", "model", "verdict", "gain from personalising", "slope", "code")
    for row in rows:
        gain, slope = "–", "–"
        if row["gain"] == row["gain"]:
            low, high = row["gain_low"], row["gain_high"]
            gain = f"{row['gain']:+.4g} ({low:+.4g} to {high:+.4g})"
            slope = f"{row['slope']:.2f}"
        verdict = row["verdict"] or row["status"].lower()
        table.add_row(row["run"], row["model"], verdict, gain, slope, row["commit"])
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command("remove-provider")
def remove_provider(
    campaign: CampaignName,
    provider: Annotated[
        str, typer.Argument(help="Its name, as in [providers.<name>].")
    ],
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    debug: Debug = False,
) -> None:
    """Take a provider's columns out of every run, and keep them out of later ones."""
    with errors_reported(debug=debug), changing(campaign, data, "remove-provider"):
        from hustings.features.persons.provider import remove_provider as take_out

        home = make_run(campaign, data, store, "").home
        home.mkdir(parents=True, exist_ok=True)
        removal = take_out(home, provider)
        typer.echo(f"Taken out of {len(removal.cleaned)} files; no later run reads it.")
        for path in removal.deleted:
            typer.echo(f"Deleted, a stage makes it anew: {path}")
        for path in removal.mentions:
            typer.echo(f"Still names it: {path}")
        for run_id in removal.trained_on:
            typer.echo(f"Learnt from it, to be trained again: {run_id}")


@app.command()
def rollback(
    campaign: CampaignName,
    to: Annotated[
        str, typer.Option("--to", help="Version; the champion before without.")
    ] = "",
    why: Annotated[str, typer.Option("--why", help="Kept with the version.")] = "",
    by: Annotated[
        str, typer.Option("--by", help="Who says so; your account without.")
    ] = "",
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Make an earlier version the champion again, and serve its plan."""
    with errors_reported(debug=debug), changing(campaign, data, "rollback"):
        from hustings.experiments.stages.rollback import roll_back_campaign
        from hustings.training.registry.register import operator

        run = make_run(campaign, data, store, mlflow)
        at = run.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        version, planned = roll_back_campaign(
            run, to=to, by=by or operator(), at=at, why=why
        )
        address = address_of(campaign, data)
        typer.echo(f"Champion: {version.name} version {version.version}.")
        if planned is None:
            typer.echo(
                "No run has a plan of this version: the endpoint still serves what it "
                f"served. `hustings run {address.with_store(run.home)}` makes a plan."
            )
        else:
            typer.echo(
                f"Served from now on: the plan of {planned}. Restart `hustings serve "
                f"{address.options}` if it runs."
            )

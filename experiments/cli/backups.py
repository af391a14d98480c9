"""`backup` and `restore`: a campaign's folder and MLflow store in one file."""

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
    alone,
    errors_reported,
    make_run,
    settle,
)

app = typer.Typer()


@app.command()
def backup(
    to: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE.tar",
            help="Where to; a folder gets a file by the time.",
        ),
    ],
    campaign: CampaignName,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Write all that the campaign keeps, and the MLflow store, into one file.

    Refused while another command is at work; an endpoint may go on. What lies on a
    server (events or ledger in PostgreSQL, MLflow) is not in it, and is said.
    """
    with errors_reported(debug=debug):
        from hustings.experiments.backup.campaign_backup import back_up
        from hustings.experiments.privacy.personal_data import CampaignStores

        run = make_run(campaign, data, store, mlflow)
        settle(run.home)
        where = CampaignStores(run.campaign, run.home, store, mlflow)
        with alone(run.home, "backup", at=run.at):
            typer.echo(back_up(where, to, at=run.at).text())


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `hustings backup` wrote.")],
    campaign: CampaignName,
    tombstones: Annotated[
        Path | None,
        typer.Option(
            "--tombstones",
            help="A later tombstones.json, where none lies beside the backup.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Put it in the place of a folder that is there."
        ),
    ] = False,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Put the campaign back from a backup, checked before anything is replaced.

    Whoever was forgotten since the backup was made is taken out of it again. An MLflow
    store that is there stays as it is.
    """
    with errors_reported(debug=debug):
        from hustings.experiments.backup.restoration import restore as restored
        from hustings.experiments.privacy.personal_data import CampaignStores

        run = make_run(campaign, data, store, mlflow)
        where = CampaignStores(run.campaign, run.home, store, mlflow)
        report = restored(
            where, file, tombstones=tombstones, replaces=replace, at=run.at
        )
        typer.echo(report.text())

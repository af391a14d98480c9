"""Commands on persons: voter-file snapshots, access, erasure, ledger verification."""

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
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
    alone,
    as_to_type,
    errors_reported,
    home_of,
    make_run,
    utc_now,
)

app = typer.Typer()
snapshots = typer.Typer(
    help="Deliveries of the voter file, and what changed between two.",
    no_args_is_help=True,
)
app.add_typer(snapshots, name="snapshots")
keys = typer.Typer(
    help="Keys of persons and tombstones of the forgotten.", no_args_is_help=True
)
app.add_typer(keys, name="keys")


@keys.command("voters")
def keys_voters(
    campaign: CampaignName,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Print the key of voters' digests: a Bento served elsewhere needs it as a secret.

    It goes into the environment's HUSTINGS_VOTER_KEY. With it and the bundle anybody
    can find out who is held out or on a list: it never goes with the bundle.
    """
    with errors_reported(debug=debug):
        from hustings.features.persons.keys import KEYS, voter_key

        home = home_of(campaign, data)
        if not (home / KEYS).exists():
            raise FileNotFoundError(
                f"{home / KEYS}: expected the campaign's keys, found none; "
                "`hustings ingest` makes them"
            )
        typer.echo(voter_key(home).hex())


@keys.command("restore")
def keys_restore(
    campaign: CampaignName,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Make lost or damaged keys anew, from the copy of the tombstones beside them.

    Persons get new keys: what the ledger wrote under the old ones names nobody.
    """
    with errors_reported(debug=debug):
        from hustings.experiments.stages.persons import restore_persons

        home = home_of(campaign, data)
        with alone(home, "keys restore", at=utc_now()):
            n_tombstones, n_persons = restore_persons(home)
        typer.echo(
            f"{n_tombstones:,} tombstones hold again; {n_persons:,} persons have new "
            "keys: what the ledger wrote under the old ones names nobody any more."
        )


@snapshots.command("diff")
def snapshots_diff(
    campaign: CampaignName,
    between: Annotated[
        list[str] | None,
        typer.Argument(help="Two snapshots by number, name or day; the last without."),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="List every voter.")] = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Who is new, gone, moved, merged or changed from one voter file to the next."""
    with errors_reported(debug=debug):
        from hustings.experiments.record import present_id_of
        from hustings.experiments.stages.persons import SNAPSHOTS
        from hustings.features.persons.snapshot import (
            diff,
            diff_text,
            find,
            rows_text,
        )

        if between is not None and len(between) not in {0, 2}:
            raise ValueError(f"expected two snapshots or none, got {len(between)}")
        home = home_of(campaign, data)
        old, new = find(home / SNAPSHOTS, between or [])
        with TemporaryDirectory() as aside:
            rows = Path(aside) / "changes.parquet"
            changes = diff(
                old.path, new.path, present_id_of(home), folder=Path(aside),
                rows=rows if ids else None,
            )  # fmt: skip
            typer.echo(diff_text(changes, old.name, new.name))
            if ids:
                typer.echo()
                for line in rows_text(rows):
                    typer.echo(line)


@app.command()
def show(
    campaign: CampaignName,
    voter: Annotated[str, typer.Argument(help="Any id that the person has had.")],
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Everything held on a person: answers an access request."""
    with errors_reported(debug=debug):
        import json

        from hustings.experiments.privacy.personal_data import CampaignStores
        from hustings.experiments.privacy.show import held, held_text

        run = make_run(campaign, data, store, mlflow)
        personal_data = held(
            CampaignStores(run.campaign, run.home, store, mlflow), voter
        )
        typer.echo(
            json.dumps(personal_data, indent=1) if as_json else held_text(personal_data)
        )


@app.command()
def forget(
    campaign: CampaignName,
    voter: Annotated[
        str, typer.Argument(help="Any id of the person; none: finish what was begun.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """Remove a person from everything that the campaign keeps, for good.

    A later voter file does not bring the person back. What others were given of the
    person is said first. What was cut off goes on with the next call.
    """
    with errors_reported(debug=debug):
        from hustings.experiments.privacy.forget import (
            ErasureReport,
            before_erasure,
            erasure_text,
            handed_out_text,
            resume,
        )
        from hustings.experiments.privacy.forget import as_json as json_of
        from hustings.experiments.privacy.forget import forget as forget_person
        from hustings.experiments.privacy.personal_data import CampaignStores
        from hustings.features.persons.keys import KEYS

        run = make_run(campaign, data, store, mlflow)
        where = CampaignStores(run.campaign, run.home, store, mlflow)

        def say_handed_out(report: ErasureReport) -> None:
            typer.echo("\n".join(handed_out_text(report)), err=True)

        if voter and not yes:
            if (where.home / KEYS).exists():  # who asks makes no keys
                say_handed_out(before_erasure(where, voter))
            typer.confirm(
                "This cannot be undone: every trace of the person goes. Go on?",
                abort=True, err=True,
            )  # fmt: skip
        with alone(run.home, "forget", at=run.at):
            if not voter:
                reports = resume(where, at=run.at)
            else:
                batch = secrets.token_hex(8)
                reports = [
                    forget_person(
                        where, voter, at=run.at, batch=batch,
                        tell=say_handed_out,
                    )
                ]  # fmt: skip
        for report in reports:
            text = json_of(report) if as_json else as_to_type(erasure_text(report))
            typer.echo(text)
        if any(report.left for report in reports):
            raise typer.Exit(FAILED)


@app.command()
def verify(
    campaign: CampaignName,
    since: Annotated[
        str,
        typer.Option(
            metavar="'ENTRY DIGEST'",
            help="An end that an earlier verification told, and that was kept "
            "elsewhere: entries up to it are not read again.",
        ),
    ] = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Whether the ledger, and the files that it names, are what was written.

    Names the first altered entry, every altered file of plans, exports, answers, runs
    and the bundle, and what could not be checked.
    """
    with errors_reported(debug=debug):
        from hustings.experiments.backup.verification import verified
        from hustings.experiments.declaration import load_campaign
        from hustings.features.ingest import DataMissing

        home = home_of(campaign, data)
        if not home.is_dir():
            raise DataMissing(
                f"expected the campaign's folder {home}, which is not there: there is "
                "nothing to verify; `hustings restore` puts a backup in its place"
            )
        typer.echo(verified(load_campaign(campaign), home, since).text())

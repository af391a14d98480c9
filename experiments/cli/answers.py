"""Commands on answers: contact results of channels, and other outcomes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    RunId,
    changing,
    errors_reported,
    known_run,
    make_run,
    say_next,
)

app = typer.Typer()


@app.command()
def results(
    campaign: CampaignName,
    file: Annotated[Path, typer.Argument(help="Contact results of a channel.")],
    plan: Annotated[str, typer.Option("--plan", help="The plan they are of.")],
    run_id: RunId = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Read contact results back: deliveries, answers, who is not to be asked again."""
    with errors_reported(debug=debug), changing(campaign, data, "results"):
        from hustings.experiments.handover.answers import read_back
        from hustings.experiments.plans.recorded_files import recording

        run = known_run(
            make_run(campaign, data, DEFAULT_STORE, "", run_id=run_id), campaign
        )
        _require_file(file)
        with recording(run.home, at=run.at):
            result = read_back(run, plan, file, at=run.at)
        _print_counts(file, result.account, result.report)
        if result.report["unread_withdrawals"]:
            typer.echo(
                f"{result.report['unread_withdrawals']:,} rows that ask for no contact "
                "could not be read: see quarantine.parquet, and act on them by hand",
                err=True,
            )
        say_next(campaign, data, run.at)


@app.command()
def responses(
    campaign: CampaignName,
    file: Annotated[Path, typer.Argument(help="Outcomes: turnout, a survey.")],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="Name of its section under answers; not needed where there is one.",
        ),
    ] = "",
    run_id: RunId = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Read outcomes that came through no channel: turnout, a survey."""
    with errors_reported(debug=debug), changing(campaign, data, "responses"):
        from hustings.experiments.handover.answers import read_outcomes
        from hustings.experiments.plans.recorded_files import recording

        run = known_run(
            make_run(campaign, data, DEFAULT_STORE, "", run_id=run_id), campaign
        )
        _require_file(file)
        with recording(run.home, at=run.at):
            result = read_outcomes(run, file, source_name=source, at=run.at)
        _print_counts(file, result.account, result.report)
        say_next(campaign, data, run.at)


def _require_file(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a file of answers, found none")


def _print_counts(
    file: Path, account: Mapping[str, Any], report: Mapping[str, int]
) -> None:
    """Rows in = accepted + set aside, why those were, and what came of the others."""
    from hustings.features.ingest import account_of

    typer.echo("\n".join(account_of(file.name, account)))
    for name, n in report.items():
        if name not in {"rows_in", "accepted", "set_aside"}:
            typer.echo(f"  {name.replace('_', ' ')}: {n:,}")

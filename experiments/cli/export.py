"""`export`, `export-scores`, `results`: channels' lists, scores, contact results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    NOTHING_TO_HAND_OVER,
    AsJson,
    CampaignName,
    DataFolder,
    Debug,
    RunId,
    address_of,
    changing,
    errors_reported,
    known_run,
    make_run,
    of_past_days,
    say_next,
)

if TYPE_CHECKING:
    from hustings.experiments.handover.lists import StatedPlan
    from hustings.experiments.stages.context import Run

app = typer.Typer()
PlanId = Annotated[str, typer.Argument(help="The plan.")]


@app.command()
def export(
    campaign: CampaignName,
    plan: PlanId,
    list_format: Annotated[
        str, typer.Option("--format", help="Of contact and place lists: csv, parquet.")
    ] = "csv",
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="Only this; all without.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; the campaign's own without.")
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Database that gets the contacts too, ids alone: postgresql://..., "
            "bigquery://..., snowflake://..., redshift://...",
        ),
    ] = "",
    table: Annotated[
        str, typer.Option("--table", help="Its table, with its schema if it has one.")
    ] = "hustings_contacts",
    run_id: RunId = "",
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Write the lists of a locked plan: planned = exported + refused with reason.

    Once lists have left, only who has to be taken out of them follows.
    """
    with errors_reported(debug=debug), changing(campaign, data, "export"):
        from hustings.experiments.handover.lists import contacts_to_database
        from hustings.experiments.handover.lists import export as export_plan
        from hustings.experiments.plans.recorded_files import (
            record_outside,
            record_outside_table,
            recording,
        )
        from hustings.features.ingest.reading import content_sha256
        from hustings.serving.export.warehouse import require_database

        if list_format not in {"csv", "parquet"}:
            raise ValueError(f"--format: expected csv or parquet, got {list_format!r}")
        if to:
            # before any list leaves
            require_database(to)
        run, stated_plan = _plan_of(plan, campaign, data, run_id)
        with recording(run.home, at=run.at):
            exported = export_plan(
                run, stated_plan, at=run.at, out=out, channels=channel or [],
                file_format="parquet" if list_format == "parquet" else "csv",
            )  # fmt: skip
        if out is not None and exported.folder is not None:
            record_outside(run.home, exported.folder, plan_id=plan, at=run.at)
        typer.echo(_export_text(exported.folder, exported.n_removed, as_json=as_json))
        if exported.n_of_past_days:
            address = address_of(campaign, data)
            left = of_past_days(plan, exported.n_of_past_days, address.options)
            typer.echo(left, err=as_json)
        if to:
            rows = contacts_to_database(run, plan, to, table, out=out)
            record_outside_table(
                run.home,
                f"{to} {table}",
                content_sha256(rows),
                plan_id=plan,
                at=run.at,
            )
            typer.echo(f"{to} {table}: {len(rows):,} contacts of the plan", err=as_json)
        if not as_json:
            say_next(campaign, data, run.at, plan)


@app.command("export-scores")
def export_scores(
    campaign: CampaignName,
    plan: PlanId,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    run_id: RunId = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Write scores and universes for a voter-contact system, without the holdout."""
    with errors_reported(debug=debug), changing(campaign, data, "export-scores"):
        from hustings.experiments.handover.lists import export_system
        from hustings.experiments.plans.recorded_files import record_outside

        run, stated_plan = _plan_of(plan, campaign, data, run_id)
        folder = export_system(run, stated_plan, out, at=run.at)
        record_outside(run.home, folder, plan_id="", at=run.at)
        typer.echo(_export_text(folder, 0))


def _plan_of(
    plan: str, campaign: str, data: Path, run_id: str
) -> tuple["Run", "StatedPlan"]:
    from hustings.experiments.handover.lists import stated
    from hustings.experiments.plans import state

    run = make_run(campaign, data, DEFAULT_STORE, "", run_id=run_id)
    run = known_run(run, campaign)
    return run, stated(run.home, plan, state(run.home, plan))


def _export_text(folder: Path | None, n_removed: int, *, as_json: bool = False) -> str:
    import json

    from hustings.serving.export.folder import read_manifest

    if folder is None:
        return "{}" if as_json else NOTHING_TO_HAND_OVER
    manifest = read_manifest(folder)
    if as_json:
        return json.dumps(manifest | {"folder": str(folder)}, indent=1)
    refused = [
        f"  refused, {why}: {n:,}{_in_words(why)}"
        for why, n in manifest["refused"].items()
    ]
    refused += [
        f"    of them by {channel} with a value that is no address: {n:,}; "
        "mend the file of [export.contacts]"
        for channel, n in manifest.get("values_that_are_no_address", {}).items()
    ]
    removed = [f"  taken out now: {n_removed:,}"] if n_removed else []
    n_all = manifest.get("planned", manifest.get("scored"))
    lines = [
        f"{folder}: {n_all:,} planned, {manifest['exported']:,} exported", *refused,
        *_places_text(manifest.get("places")),
        *removed,
        *(f"  {f['file']}: {f['rows']:,} rows" for f in manifest["files"]),
    ]  # fmt: skip
    return "\n".join(lines)


def _in_words(code: str) -> str:
    from hustings.serving.export import WORDS

    return f" ({WORDS[code]})" if code in WORDS else ""


def _places_text(of_places: dict[str, Any] | None) -> list[str]:
    """Whole places of an export, where its plan offers something to them."""
    if of_places is None:
        return []
    planned, exported = of_places["planned"], of_places["exported"]
    refused = [f"  places refused, {c}: {n:,}" for c, n in of_places["refused"].items()]
    return [f"  whole places: {planned:,} planned, {exported:,} exported", *refused]

"""`already-voted`: ballots that are back, and those that are still out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hustings.experiments.cli.common import (
    BAD_INPUT,
    DEFAULT_DATA,
    DEFAULT_STORE,
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
    print_error,
    say_next,
)

if TYPE_CHECKING:
    from hustings.experiments.handover.ballots import BallotsRead, MendedLists
    from hustings.experiments.stages.context import Run

app = typer.Typer()


@app.command("already-voted")
def already_voted(
    campaign: CampaignName,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Ballots of a county or state; without, only lists follow."
        ),
    ] = None,
    chase: Annotated[
        list[str] | None,
        typer.Option(
            "--chase",
            metavar="CHANNEL",
            help="Write the voters whose ballot is out and not back, and who may be "
            "contacted by this channel; repeat for more.",
        ),
    ] = None,
    run_id: RunId = "",
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Who has voted is out of every plan, list and offer from now on.

    Lists that have left get a file of the contacts to take out. Run without FILE after
    ballots came over HTTP.
    """
    with errors_reported(debug=debug), changing(campaign, data, "already-voted"):
        from hustings.experiments.handover.ballots import chase as to_chase
        from hustings.experiments.handover.ballots import (
            ended_offers,
            mended_lists,
            standing_counts,
            write_chase,
        )
        from hustings.experiments.plans.recorded_files import recording

        run = known_run(
            make_run(campaign, data, DEFAULT_STORE, "", run_id=run_id), campaign
        )
        with recording(run.home, at=run.at):
            lines, read = _taken_in(run, file)
            n_ended = ended_offers(run, at=run.at)
            mended = mended_lists(run, at=run.at)
            lists = {name: to_chase(run, name, at=run.at) for name in chase or []}
            folder = write_chase(run, lists, at=run.at) if lists else None
        stands = standing_counts(run)
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        "new": None if read is None else read.n_new,
                        "repeated": None if read is None else read.n_repeated,
                        "account": None if read is None else read.account,
                        "stands": stands,
                        "offers_ended": n_ended,
                        "taken_out": {m.plan_id: m.n_removed for m in mended},
                        "left_of_past_days": {
                            m.plan_id: m.n_of_past_days for m in mended
                        },
                        "chase": {name: len(rows) for name, rows in lists.items()},
                        "folder": None if folder is None else str(folder),
                    },
                    indent=1,
                )
            )
        else:
            lines += _standing_text(stands)
            if n_ended:
                lines.append(f"{n_ended:,} open offers to them have ended.")
            lines += _mended_text(mended)
            options = address_of(campaign, data).options
            lines += [
                of_past_days(one.plan_id, one.n_of_past_days, options)
                for one in mended
                if one.n_of_past_days
            ]
            lines += [
                f"{folder}/chase-{name}.csv: {len(rows):,} voters whose ballot is out"
                for name, rows in lists.items()
            ]
            typer.echo("\n".join(lines))
            say_next(campaign, data, run.at)
        failed = [m for m in mended if m.failure]
        for one in failed:
            print_error(f"lists of plan {one.plan_id}: {one.failure}")
        if failed:
            raise typer.Exit(BAD_INPUT)


def _taken_in(run: "Run", file: Path | None) -> tuple[list[str], "BallotsRead | None"]:
    """What became of the file, in words and in figures."""
    from hustings.experiments.handover.ballots import read_ballots, read_before
    from hustings.features.ingest import account_of

    if file is None:
        return [], None
    if not file.is_file():
        raise FileNotFoundError(f"{file}: expected a file of ballots, found none")
    before = read_before(run.home, file)
    if before is not None:
        when = f"{before.received_at:%Y-%m-%d %H:%M} UTC"
        return [f"{file.name}: read before, on {when}; it changes nothing."], None
    read = read_ballots(run, file, at=run.at)
    lines = account_of(file.name, read.account)
    lines.append(
        f"  of those accepted, {read.n_new:,} say something new and "
        f"{read.n_repeated:,} what is known or another ballot of the day settles"
    )
    return lines, read


def _standing_text(stands: dict[str, int]) -> list[str]:
    by_status = ", ".join(
        f"{n:,} {name}" for name, n in stands.items() if name != "have_voted"
    )
    last = f" (ballots by where they stand: {by_status})" if by_status else ""
    return [f"{stands['have_voted']:,} voters have voted{last}."]


def _mended_text(mended: "Sequence[MendedLists]") -> list[str]:
    return [
        f"plan {one.plan_id}: {one.n_removed:,} contacts to take out of its lists: "
        f"{one.folder}"
        for one in mended
        if one.folder is not None
    ]

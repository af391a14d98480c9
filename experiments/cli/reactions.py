"""Reactions: import of platforms' exports, and wishes that a person has to read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    CampaignName,
    DataFolder,
    Debug,
    errors_reported,
)

if TYPE_CHECKING:
    from hustings.experiments.stages.reactions import ImportedCounts
    from hustings.features.insights import Insights

app = typer.Typer()
reactions_app = typer.Typer(help="Reactions that platforms export, and wishes to stop.")
app.add_typer(reactions_app, name="reactions")


@reactions_app.callback()
def _reactions() -> None:
    """Reactions that platforms export, and wishes to stop."""


@reactions_app.command("import")
def import_reactions(
    campaign: CampaignName,
    file: Annotated[
        Path, typer.Argument(help="A page's export: CSV, .xlsx, Parquet or JSON.")
    ],
    platform: Annotated[
        str,
        typer.Option("--platform", help="Of all posts; read off the export without."),
    ] = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Counts by post, kind and time into the campaign's store, each once."""
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.stages.reactions import (
            export_format,
            import_insights,
            open_intake,
        )
        from hustings.features.insights import read_insights
        from hustings.serving.reactions.http import utc_now

        declared = load_campaign(campaign)
        insights = read_insights(file, export_format(declared.reactions, platform))
        typer.echo(f"{file.name}: {'; '.join(insights.remarks)}.")
        for name, why in insights.left_out.items():
            typer.echo(f"  left out: {name}: {why}")
        imported = import_insights(
            open_intake(declared, data / declared.campaign.name),
            insights,
            most_quarantined=declared.reactions.most_quarantined,
            now=utc_now(),
        )
        for line in _lines(insights, imported):
            typer.echo(line)


def _lines(insights: "Insights", imported: "ImportedCounts") -> list[str]:
    from hustings.experiments.stages.reactions import N_REASONS

    lines = [f"  counted: {name}: {n:,}" for name, n in imported.people.items()]
    unread = insights.unread
    if unread:
        lines.append(f"  no counts of reactions: {', '.join(unread)}")
    if insights.n_rounded:
        lines.append(
            f"  rounded by the platform: {insights.n_rounded:,} counts such as 1.2K"
        )
    if imported.n_fallen:
        lines.append(
            f"  fallen: {imported.n_fallen:,} totals are smaller than before; they add "
            "nothing"
        )
    lines += [
        f"  kind {kind}: {n:,} counts, neutral without a [reactions.kinds] of theirs"
        for kind, n in imported.unknown_kinds.items()
    ]
    lines += [
        f"Kept {imported.n_kept:,}, known already {imported.n_known:,}, "
        f"quarantined {imported.n_set_aside:,}.",
        f"  {insights.n_rows:,} rows; {imported.n_counts:,} counts in = "
        f"{imported.n_kept:,} kept + {imported.n_known:,} known already + "
        f"{imported.n_set_aside:,} set aside",
    ]
    return lines + [
        f"  set aside: {reason}: {n:,}, such as {example}"
        for reason, n, example in imported.reasons[:N_REASONS]
    ]


@reactions_app.command()
def review(
    campaign: CampaignName,
    event: Annotated[
        str, typer.Option("--event", help="Wish to answer; all are listed without.")
    ] = "",
    withdraw: Annotated[
        bool | None,
        typer.Option(
            "--withdraw/--not",
            help="It is a wish to be left alone, or it is none.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Who answers.")] = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Replies that may ask to be left alone; until answered they stop a channel."""
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.stages.reactions import open_intake
        from hustings.serving.reactions.http import utc_now
        from hustings.serving.reactions.store import NO_WISH, WITHDRAWN

        if bool(event) != (withdraw is not None):
            raise ValueError(
                "expected --event ID with --withdraw or --not, or neither for the list"
            )
        declared = load_campaign(campaign)
        events = open_intake(declared, data / declared.campaign.name).events
        try:
            if event:
                answer = WITHDRAWN if withdraw else NO_WISH
                n = events.answer_wish(event, answer, by=by, at=utc_now())
                if n == 0:
                    raise ValueError(
                        f"expected the event of an open wish, got {event!r}"
                    )
                ends = "ends its permissions" if withdraw else "stops nothing any more"
                typer.echo(f"{event}: answered, {ends}; its text is erased.")
            wishes = events.open_wishes()
        finally:
            events.close()
        typer.echo(
            f"{len(wishes):,} open: nothing more is sent to them by the channel."
        )
        if event:
            return
        for wish in wishes.to_dict("records"):
            of_whom = wish["voter_id"] or "a person without a voter id"
            typer.echo(
                f"{wish['event_id']}  {wish['at']:%Y-%m-%d %H:%M}  {of_whom}  "
                f"{', '.join(wish['channels'])}  {wish['kind']}: "
                f"{wish['text'] or '(no text)'}"
            )

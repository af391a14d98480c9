"""`hustings init`: the files of a new campaign → a draft of its campaign.toml."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hustings.experiments.cli.common import Debug, console, errors_reported

if TYPE_CHECKING:
    from hustings.features.draft import CampaignDraft

app = typer.Typer()


@app.command()
def init(
    files: Annotated[
        list[Path], typer.Argument(help="A folder, or the files of a campaign.")
    ],
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="Shipped layout of the voter file; known by its look without.",
        ),
    ] = "",
    into: Annotated[
        Path | None,
        typer.Option(
            "--into", help="Folder of the campaign; the folder given without."
        ),
    ] = None,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the draft and write nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Look at a new campaign's files and draft its campaign.toml, with reasons.

    The draft of a folder is written into it; that of single files is printed, unless
    --into says where it goes. A campaign.toml that is there is never overwritten.
    """
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import CAMPAIGN_FILE
        from hustings.features.atomic import write_text
        from hustings.features.draft import (
            campaign_toml,
            draft_campaign,
            files_of,
            open_questions,
        )

        for path in files:
            if not path.exists():
                raise FileNotFoundError(
                    f"{path}: expected a file or folder, found none"
                )
        folders = [path for path in files if path.is_dir()]
        folder = into or (folders[0] if folders else None)
        target = None if print_only or folder is None else folder / CAMPAIGN_FILE
        if target is not None and target.exists():
            raise ValueError(
                f"{target}: expected no {CAMPAIGN_FILE} there, which init never "
                "overwrites; move it away, or print the draft with --print"
            )
        tables = [
            p for path in files for p in (files_of(path) if path in folders else [path])
        ]
        draft = draft_campaign(tables, layout=layout)
        text = campaign_toml(draft, folder)
        _say(draft, open_questions(text))
        if target is None:
            typer.echo(text)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, text)
            typer.echo(target)


def _say(draft: "CampaignDraft", n_open: int) -> None:
    """What each file was taken for, and what is left to a person."""
    for name, head in draft.heads.items():
        layout = f", layout {head.layout.name}" if head.layout is not None else ""
        console.print(
            f"{head.path.name}: {name}{layout}", highlight=False, soft_wrap=True
        )
    for path, reason in draft.unknown.items():
        console.print(
            f"{path.name}: not used: {reason}", highlight=False, soft_wrap=True
        )
    voters = draft.voters
    sure = [g for g in (*voters.columns, *voters.history) if not g.question]
    console.print(
        f"voters: {len(sure)} columns placed, {len(voters.special)} special "
        f"categories, {len(voters.contact)} contact details left out, "
        f"{len(voters.unplaced)} not placed; {n_open} questions are open in the draft",
        highlight=False,
        soft_wrap=True,
    )

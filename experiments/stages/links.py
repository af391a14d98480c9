"""Linkage of reactors to voters; all other reactors are kept as group counts only."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hustings.experiments.declaration import data_dir
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.reactions import store_of
from hustings.features.asof import first_delivery
from hustings.features.ingest import (
    Folders,
    Identities,
    TableSource,
    account_of,
    read_identities,
)
from hustings.features.persons.link import Linked, link_reactors
from hustings.features.persons.link.matched import (
    aggregate_reactions,
    has_basis,
    kept_events,
    linkable,
)
from hustings.features.persons.linked_reactions import with_linked_reactions
from hustings.features.persons.secret import known_link_key
from hustings.features.tables import LINKS, REACTION_GROUPS, REACTIONS, check
from hustings.serving.reactions.payload import person_key
from hustings.serving.reactions.store import Events

YOUNGEST = 16
"""Years of the youngest person on a voter file: one who is registered beforehand."""


def identities(run: Run, raw_dir: Path | None) -> Identities | None:
    """Read identities of voters, None where none are declared; never written."""
    declared = run.campaign.link
    if declared is None:
        return None
    folders = Folders(campaign=run.campaign.folder, data=data_dir(), raw=raw_dir)
    return read_voters(run, declared.voters, folders, section="[link.voters]")


def read_voters(
    run: Run, source: TableSource, folders: Folders, *, section: str
) -> Identities:
    """Identities of voters; a year of birth of two digits is that of a living voter.

    Of 05/31/45 the year is 1945: one that gives an age of `YOUNGEST` to 115.

    Args:
        run: Says what became of every row.
        source: Where they lie and how their columns are called.
        folders: Folders that the prefixes of its path name.
        section: Where they are declared.

    Raises:
        TableError: If a column is missing, too much is lost or no row is left.
    """
    read = read_identities(source, folders)
    run.say("\n".join(account_of(section, read.report)))
    columns = {}
    for name in ("birth_date", "birth_year"):
        origin = source.columns.get(name)
        if name in read.frame and origin and any("%y" in f for f in origin.formats):
            columns[name] = _of_the_living(read.frame[name], run.at.year - YOUNGEST)
    return replace(read, frame=read.frame.assign(**columns))


def _of_the_living(births: pd.Series, latest: int) -> pd.Series:
    """Births of two digits in the hundred years that end with the latest."""
    if births.dtype == "float64":
        return latest - (latest - births) % 100
    year = births.dt.year
    moved = latest - (latest - year) % 100 - year
    hundreds = (moved.fillna(0) / 100).astype("int64")
    shifted = births.copy()
    for n in hundreds[hundreds != 0].unique():
        rows = hundreds == n
        shifted[rows] = births[rows] + pd.DateOffset(years=100 * int(n))
    return shifted


def write_unlinked(run: Run, reactions: pd.DataFrame) -> None:
    """Write groups and events of reactors of whom nobody is linked.

    Args:
        run: Writes `reaction_groups.parquet` and `tables/reactions.parquet`.
        reactions: REACTIONS.
    """
    declared = run.campaign.link
    bases = [] if declared is None else list(declared.bases)
    _write_groups(run, reactions, bases)
    run.write("tables/reactions", check(REACTIONS, kept_events(reactions, bases, [])))


def _write_groups(run: Run, reactions: pd.DataFrame, bases: Sequence[str]) -> None:
    groups = aggregate_reactions(
        reactions[~has_basis(reactions, bases)],
        year=run.campaign.campaign.as_of.year,
        kinds=run.campaign.reactions.kinds,
    )
    run.write("reaction_groups", check(REACTION_GROUPS, groups))


def write_links(
    run: Run, tables: Mapping[str, pd.DataFrame], voter_identities: Identities
) -> pd.DataFrame:
    """Link the reactors that may be linked; write links, groups and events.

    Args:
        run: Writes `links.parquet`, `links.json`, `reaction_groups.parquet` and
            `tables/reactions.parquet`.
        tables: Checked tables, the voters among them.
        voter_identities: Identities of voters, from `identities`.

    Returns:
        The voters, with what linked people reacted to before the first delivery.
    """
    declared, reactions = run.campaign.link, tables["reactions"]
    bases = [] if declared is None else list(declared.bases)
    kinds = run.campaign.reactions.kinds
    _write_groups(run, reactions, bases)
    linkage = _linked(run, tables, voter_identities)
    run.write("links", check(LINKS, linkage.links))
    run.write_json(
        "links", linkage.summary.to_json() | {"identities": voter_identities.report}
    )
    linked = linkage.links["reaction_person"].tolist()
    bare = kept_events(reactions, bases, linked)
    run.write("tables/reactions", check(REACTIONS, bare))
    return with_linked_reactions(
        tables["voters"],
        bare,
        linkage.links,
        tables["messages"].set_index("message_id")["issue"],
        as_of=first_delivery(tables["deliveries"]),
        kinds=kinds,
    )


def remember_people(run: Run, reactions: pd.DataFrame, links: pd.DataFrame) -> None:
    """Store which voter each linked person is, so that a STOP reaches the voter.

    Without the campaign's secret nothing is stored.

    Args:
        run: Its campaign's store is written.
        reactions: REACTIONS.
        links: LINKS.
    """
    key = known_link_key(os.environ)
    if key is None:
        return
    accounts = reactions[["person", "platform"]].dropna().drop_duplicates()
    people = links.merge(accounts, left_on="reaction_person", right_on="person")
    hashed = [
        person_key(key, platform, person)
        for platform, person in zip(people["platform"], people["person"], strict=True)
    ]
    events = Events.open(store_of(run.campaign, run.home))
    try:
        events.link(people[["voter_id"]].assign(person=hashed))
    finally:
        events.close()


def _linked(
    run: Run, tables: Mapping[str, pd.DataFrame], voter_identities: Identities
) -> Linked:
    declared = run.campaign.link
    assert declared is not None  # identities come from the same section
    run.tell("linking", 0, 0)
    people = voter_identities.frame
    of_file = people[people["voter_id"].isin(tables["voters"]["voter_id"])]
    return link_reactors(
        linkable(tables["reactions"], list(declared.bases)),
        of_file,
        fields=declared.columns or None,
        rules=[tuple(rule) for rule in declared.rules],
        threshold=declared.threshold,
        calling_code=run.campaign.export.audience.calling_code,
        seed=run.campaign.campaign.seed,
    )

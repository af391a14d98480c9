"""Affinities of groups of voters to issues, from counted and linked reactions."""

from collections.abc import Mapping

import pandas as pd

from hustings.experiments.declaration import barred_from_features
from hustings.experiments.stages.context import Run
from hustings.features.affinity import (
    PLACES,
    CellAffinities,
    place_kind,
    voter_cells,
    without,
)
from hustings.features.asof import before
from hustings.training.learners.affinity import affinities, linked

CELL_COLUMNS = ("age", "birth_year", "sex", *PLACES)


def write_affinities(run: Run, first: pd.Timestamp) -> CellAffinities | None:
    """Write today's affinities; return those from before the first delivery.

    `affinities.parquet` holds what is known at the campaign's `as_of`, for people to
    read. Features of the voters may use only what was known at the first delivery.

    Args:
        run: The run.
        first: Time of the first delivery: reactions counted at or after it are left
            out of the features.

    Returns:
        Affinities by cell (age band, sex, place) from before the first delivery; None
        where nothing was counted by then.
    """
    counts = run.optional_table("reaction_counts")
    if counts is None:
        return None
    barred = barred_from_features(run.campaign, CELL_COLUMNS)
    counts = without(counts, sorted(barred))
    today = pd.Timestamp(run.campaign.campaign.as_of)
    run.write("affinities", _affinities_before(run, counts, today))
    by_cell = _affinities_before(run, counts, first)
    return CellAffinities.of(by_cell) if len(by_cell) else None


def _affinities_before(
    run: Run, counts: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame:
    messages, voters = run.table("messages"), run.table("voters")
    # a column that is barred does not come back by the cell of a linked person
    barred = barred_from_features(run.campaign, CELL_COLUMNS)
    voters = voters.drop(columns=[c for c in barred if c in voters])
    issue_of = dict(zip(messages["message_id"], messages["issue"], strict=True))
    return affinities(
        counts,
        voters,
        issue_of,
        as_of=as_of,
        persons=_persons(run, counts, voters, issue_of, as_of),
        good_kinds=run.campaign.reactions.kinds,
    )


def _persons(
    run: Run,
    counts: pd.DataFrame,
    voters: pd.DataFrame,
    issue_of: Mapping[str, str],
    as_of: pd.Timestamp,
) -> pd.DataFrame | None:
    """Reactions of linked people before a moment, by the cell of their voter."""
    links = run.optional("links")
    if links is None:
        return None
    earlier_reactions = before(run.table("reactions"), "reacted_at", as_of)
    linked_reactions = earlier_reactions.merge(
        links, left_on="person", right_on="reaction_person"
    )
    linked_reactions = linked_reactions[
        linked_reactions["voter_id"].isin(voters["voter_id"])
    ]
    bands = sorted(set(counts.get("age_band", pd.Series(dtype="str")).dropna()))
    cells = voter_cells(voters, bands, place_kind(counts), as_of=as_of)
    reaction_cells = cells.set_index(voters["voter_id"]).loc[
        linked_reactions["voter_id"]
    ]
    if linked_reactions.empty:
        return None
    reaction_cells = reaction_cells.set_axis(linked_reactions.index)
    kinds = run.campaign.reactions.kinds
    return linked(linked_reactions, reaction_cells, issue_of, good_kinds=kinds)

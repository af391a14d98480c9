"""Reactions of linked people as voter columns, weighted by link probability.

A link is right with probability p, so a reaction counts p: the column is the expected
number of the voter's reactions. Reactions are self-selected, so the column is a feature
of a lift model and never a lift.
"""

from collections.abc import Mapping

import pandas as pd

from hustings.features.asof import before
from hustings.features.reaction import GOOD, valence

REACTED_PREFIX = "reacted__"
"""`reacted__<issue>`: reactions that were good news, expected to be the voter's."""


def reacted_column(issue: str) -> str:
    """Column of an issue.

    >>> reacted_column("health care")
    'reacted__health_care'
    """
    return REACTED_PREFIX + "".join(c if c.isalnum() else "_" for c in issue)


def with_linked_reactions(
    voters: pd.DataFrame,
    reactions: pd.DataFrame,
    links: pd.DataFrame,
    issue_of: pd.Series,
    *,
    as_of: pd.Timestamp,
    kinds: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Add a column for every issue to the voters; 0 where no reaction is linked.

    Args:
        voters: VOTERS table.
        reactions: REACTIONS table, with person.
        links: LINKS table.
        issue_of: Issue by message_id.
        as_of: Only what was done strictly before counts.
        kinds: The campaign's own, as `features.reaction.valence`.
    """
    early = before(reactions, "reacted_at", as_of).dropna(subset=["person"])
    good = early[valence(early["kind"], kinds) == GOOD]
    rows = links.merge(good, left_on="reaction_person", right_on="person")
    issue = rows["message_id"].map(issue_of)
    expected = rows.groupby([rows["voter_id"], issue])["probability"].sum()
    reaction_columns = {
        reacted_column(str(name)): _of_voters(expected, str(name), voters["voter_id"])
        for name in sorted(issue_of.unique())
    }
    return voters.assign(**reaction_columns)


def _of_voters(expected: pd.Series, issue: str, voter_id: pd.Series) -> pd.Series:
    at = expected.index.get_level_values(1) == issue
    expected_by_voter = expected[at].droplevel(1)
    return expected_by_voter.reindex(voter_id).fillna(0.0).set_axis(voter_id.index)

"""Reactions of linked people as voter columns, and answers of linked people.

A link is right with probability p, so a reaction counts p: the column is the expected
number of the voter's reactions. Reactions are self-selected, so the column is a feature
of a lift model and never a lift. An answer carries the probability of its link, by
which `features.training_set.linked_outcome` corrects it; it is no weight.
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


def linked_answers(
    answers: pd.DataFrame, links: pd.DataFrame, *, relative_error: float
) -> pd.DataFrame:
    """Answers of people → answers of the voters they are linked to.

    Args:
        answers: Columns reaction_person, outcome, plan_id and others.
        links: LINKS table.
        relative_error: Error of the probabilities, one SD, as a share of them: see
            `features.persons.link.KeyCheck`.

    Returns:
        The answers of linked people with their index, and voter_id, link_probability,
        link_probability_se; and `likeliest`: whether nobody likelier to be this voter
        answered the same.
    """
    by_person = links.set_index("reaction_person")
    linked = answers[answers["reaction_person"].isin(by_person.index)]
    persons = linked["reaction_person"]
    p = persons.map(by_person["probability"]).astype("float64")
    rows = linked.assign(
        voter_id=persons.map(by_person["voter_id"]).astype("str"),
        link_probability=p, link_probability_se=relative_error * p,
    )  # fmt: skip
    question = ["voter_id", "outcome", "plan_id"]
    ordered = rows.sort_values("link_probability", ascending=False, kind="stable")
    first = ordered.groupby(question, dropna=False)["reaction_person"].transform(
        "first"
    )
    return rows.assign(likeliest=first.reindex(rows.index) == rows["reaction_person"])

"""Lifts that a partner delivered, joined to the voters as columns.

They stay in the voter file, so that a lift model reads them by voter and no model
stores a voter's lift. They are features only where the licence permits it.
"""

import pandas as pd

LIFT_PREFIX = "partner__"
"""`partner__<provider>__<message>`: a lift as delivered."""
WIDTH_PREFIX = "partner_width__"
"""`partner_width__<provider>__<message>`: width of its interval; never a feature."""
FEATURES_PERMITTED = "features"
"""The word in `permitted_use` that lets a partner's lifts be features."""


def lift_column(provider: str, message_id: str) -> str:
    """Column of a provider's lifts of a message.

    >>> lift_column("acme", "roads")
    'partner__acme__roads'
    """
    return f"{LIFT_PREFIX}{provider}__{message_id}"


def width_column(provider: str, message_id: str) -> str:
    """Column of the width of a provider's intervals for a message."""
    return f"{WIDTH_PREFIX}{provider}__{message_id}"


def with_partner_scores(voters: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Add a column of lifts to the voters for every provider and message.

    Args:
        voters: VOTERS table.
        scores: PARTNER_SCORES table.
    """
    values = {lift_column: scores["lift"]}
    if {"lift_low", "lift_high"} <= set(scores):
        values[width_column] = scores["lift_high"] - scores["lift_low"]
    score_columns = {}
    for column, value in values.items():
        for (provider, message), rows in scores.groupby(["provider", "message_id"]):
            value_by_voter = value.loc[rows.index].set_axis(rows["voter_id"])
            name = column(str(provider), str(message))
            score_columns[name] = value_by_voter.reindex(voters["voter_id"]).to_numpy()
    return voters.assign(**score_columns)


def providers(scores: pd.DataFrame) -> list[str]:
    """Providers of a PARTNER_SCORES table, in alphabetical order."""
    return sorted(scores["provider"].unique())

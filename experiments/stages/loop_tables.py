"""Rows of the campaign's own plans and answers for the tables of its files."""

from pathlib import Path

import pandas as pd

from hustings.experiments.record import (
    deliveries_so_far,
    designs_so_far,
    present_id_of,
    responses_so_far,
)
from hustings.features.persons.identity import with_present_ids


def recorded_rows(
    home: Path, name: str, frame: pd.DataFrame, *, at: pd.Timestamp
) -> pd.DataFrame:
    """Rows that the campaign's record adds to a table.

    Every block of a plan has its own known probabilities, so that training reads a plan
    like any other randomised test.

    Args:
        home: The campaign's folder.
        name: Of the table.
        frame: The table as it is in the campaign's files.
        at: The moment as of which the record is read.
    """
    if name == "designs":
        return designs_so_far(home)
    if name == "deliveries":
        return deliveries_so_far(home)
    if name == "responses":
        return _responses(home, frame, at)
    return frame.iloc[:0]


def _responses(home: Path, frame: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """Answers to the plans that bind; one that was cancelled since compares nobody."""
    rows = responses_so_far(home, at)
    key = ["voter_id", "experiment_id", "plan_id"]
    # answers are kept by present ids; who had another then is the same person
    decided = deliveries_so_far(home)[key]
    now = with_present_ids(decided["voter_id"], present_id_of(home))
    decided = decided.assign(voter_id=now)
    answered = rows[
        pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(decided))
    ]
    if "weight" in frame:
        answered = answered.assign(weight=1.0)
    return answered.reset_index(drop=True)

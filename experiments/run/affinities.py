"""Who reacts well to which issue: for people to read, and beside the voters."""

import pandas as pd

from experiments.run.context import Run
from experiments.spec import barred_from_features
from features.affinity import PLACES, CellAffinities, without
from training.affinity import affinities

CELL_COLUMNS = ("age", "birth_year", "sex", *PLACES)


def write_affinities(run: Run, first: pd.Timestamp) -> CellAffinities | None:
    """What is known today → `affinities.parquet`; what was known then → to the voters.

    Args:
        run: The run.
        first: The first delivery: what was counted at or after it is no feature.

    Returns:
        By cell, from before the first delivery; None where nothing was counted then.
    """
    counts = run.optional_table("reaction_counts")
    if counts is None:
        return None
    barred = barred_from_features(run.campaign, CELL_COLUMNS)
    counts = without(counts, sorted(barred))
    today = pd.Timestamp(run.campaign.campaign.as_of)
    run.write("affinities", _known(run, counts, today))
    known = _known(run, counts, first)
    return CellAffinities.of(known) if len(known) else None


def _known(run: Run, counts: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    messages, voters = run.table("messages"), run.table("voters")
    issue_of = dict(zip(messages["message_id"], messages["issue"], strict=True))
    return affinities(counts, voters, issue_of, as_of=as_of)

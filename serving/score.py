"""Model + voters → lift per (voter, message), with its interval."""

from collections.abc import Iterator

import pandas as pd

from hustings.training.registry.campaign_model import CampaignModel

CHUNK = 100_000
"""Voters scored at a time, so that memory does not grow with the file."""


def score_voters(model: CampaignModel, voters: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """SCORES of every voter × message, in chunks of voters.

    Args:
        model: The model.
        voters: VOTERS rows.
    """
    for start in range(0, len(voters), CHUNK):
        yield model.score(voters.iloc[start : start + CHUNK])

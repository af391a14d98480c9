"""Model + voters → lift per (voter, message), with its standard error."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from hustings.training.registry.campaign_model import CampaignModel

LIFT, SE, RESPONSE = "lift__", "lift_se__", "response__"
"""Prefixes of the columns of scores; the message follows."""


def score_voters(
    model: CampaignModel, blocks: Iterable[pd.DataFrame]
) -> Iterator[pd.DataFrame]:
    """Scores of every voter, a row each, block by block.

    Args:
        model: The model.
        blocks: VOTERS rows, some at a time, so that memory does not grow with them.

    Yields:
        voter_id, and in outcome units, as float32, for every message: `lift__` (above
        zero is an improvement), `lift_se__` (its standard error) and `response__` (the
        predicted outcome if sent, in the outcome's own direction).
    """
    for voters in blocks:
        columns: dict[str, object] = {"voter_id": voters["voter_id"].to_numpy()}
        for name, lifts in model.predict(voters).items():
            response = model.direction * (lifts.baseline[:, None] + lifts.lift)
            for m, message in enumerate(model.lifts[name].nuisances.messages):
                columns[LIFT + message] = lifts.lift[:, m].astype(np.float32)
                columns[SE + message] = lifts.se[:, m].astype(np.float32)
                columns[RESPONSE + message] = response[:, m].astype(np.float32)
        yield pd.DataFrame(columns)

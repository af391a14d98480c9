"""Model + voters → lift per (voter, message), with its standard error."""

import numpy as np
import pandas as pd
import pyarrow as pa

from hustings.training.registry.campaign_model import CampaignModel

LIFT, SE, RESPONSE = "lift__", "lift_se__", "response__"
"""Prefixes of the columns of scores; the message follows."""


def score_block(model: CampaignModel, voters: pa.Table) -> pa.Table:
    """Scores of every voter of a block, a row each.

    Args:
        model: The model.
        voters: VOTERS rows.

    Returns:
        voter_id, and in outcome units, as float32, for every message: `lift__` (above
        zero is an improvement), `lift_se__` (its standard error) and `response__` (the
        predicted outcome if sent, in the outcome's own direction).
    """
    rows = voters.to_pandas().reset_index(drop=True)
    columns: dict[str, object] = {"voter_id": rows["voter_id"].to_numpy()}
    for name, lifts in model.predict(rows).items():
        response = model.direction * (lifts.baseline[:, None] + lifts.lift)
        for m, message in enumerate(model.lifts[name].nuisances.messages):
            columns[LIFT + message] = lifts.lift[:, m].astype(np.float32)
            columns[SE + message] = lifts.se[:, m].astype(np.float32)
            columns[RESPONSE + message] = response[:, m].astype(np.float32)
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)

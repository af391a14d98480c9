"""Model + voters → lift per (voter, message), with its interval."""

import pyarrow as pa

from hustings.features.tables import SCORES, check
from hustings.training.registry.campaign_model import CampaignModel


def score_block(model: CampaignModel, voters: pa.Table) -> pa.Table:
    """SCORES of every voter × message of a block.

    Args:
        model: The model.
        voters: VOTERS rows.
    """
    scores = check(SCORES, model.score(voters.to_pandas()))
    return pa.Table.from_pandas(scores, preserve_index=False)

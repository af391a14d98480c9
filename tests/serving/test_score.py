"""Scores: every voter by every message, the same however the file is cut."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hustings.serving.load import load_champion
from hustings.serving.score import score_block
from hustings.training.registry.campaign_model import CampaignModel
from hustings.training.registry.register import open_store
from tests.scores import by_message

ROUNDING = 1e-5
"""Points: linear terms are summed in single precision, in the order of the chunk."""


@pytest.fixture(scope="module")
def model(story: Any) -> CampaignModel:
    open_store(None, story.run.store)
    found = load_champion(story.run.campaign.campaign.name)
    assert found is not None
    return found[0]


@pytest.fixture
def voters(story: Any) -> pd.DataFrame:
    found: pd.DataFrame = story.run.table("voters").head(1_000)
    return found


def scored(
    model: CampaignModel, voters: pd.DataFrame, block: int = 100_000
) -> pd.DataFrame:
    rows = pa.Table.from_pandas(voters, preserve_index=False)
    parts = [
        score_block(model, rows.slice(at, block)) for at in range(0, len(rows), block)
    ]
    return by_message(pa.concat_tables(parts).to_pandas())


def test_every_voter_is_scored_once_for_every_message(
    model: CampaignModel, voters: pd.DataFrame
) -> None:
    found = scored(model, voters)
    assert len(found) == len(voters) * 4
    assert found["voter_id"].tolist() == list(np.repeat(voters["voter_id"], 4))
    assert set(found["message_id"]) == set(model.messages)


@pytest.mark.parametrize("block", [1, 7, 999, 1_000, 5_000])
def test_scores_do_not_depend_on_how_the_file_is_cut(
    model: CampaignModel,
    voters: pd.DataFrame,
    block: int,
) -> None:
    few = voters.head(100) if block < 7 else voters
    whole = scored(model, few)
    pd.testing.assert_frame_equal(scored(model, few, block), whole, atol=ROUNDING)


def test_scores_belong_to_the_voter_and_not_to_the_place_in_the_file(
    model: CampaignModel, voters: pd.DataFrame
) -> None:
    shuffled = voters.sample(frac=1.0, random_state=1)
    keys = ["voter_id", "message_id"]
    one, two = (scored(model, v).set_index(keys) for v in (voters, shuffled))
    pd.testing.assert_frame_equal(two.reindex(one.index), one, atol=ROUNDING)


def test_scores_stay_within_the_declared_scale(
    model: CampaignModel, voters: pd.DataFrame
) -> None:
    (lift,) = model.lifts.values()
    assert lift.nuisances.outcome_range == (-1000.0, 1000.0)
    found = scored(model, voters)
    assert found["response"].between(-1000, 1000).all()


def test_intervals_hold_their_lift_and_have_a_width(
    model: CampaignModel, voters: pd.DataFrame
) -> None:
    found = scored(model, voters)
    assert (found["lift_low"] < found["lift"]).all()
    assert (found["lift"] < found["lift_high"]).all()


def test_a_voter_of_whom_nothing_is_known_still_gets_a_score(
    model: CampaignModel, voters: pd.DataFrame
) -> None:
    only_id = voters[["voter_id"]].head(1)
    blank = only_id.reindex(columns=voters.columns).astype(voters.dtypes)
    assert np.isfinite(scored(model, blank)["lift"]).all()


def test_the_same_rows_given_twice_are_scored_twice(
    model: CampaignModel, voters: pd.DataFrame
) -> None:
    # three synthetic rows may share an id; the model's own example does
    twice = pd.concat([voters.head(2), voters.head(2)], ignore_index=True)
    found = model.score(twice)
    assert len(found) == 16
    assert found["lift"].iloc[:8].tolist() == found["lift"].iloc[8:].tolist()


def test_intervals_cover_the_true_lift_of_most_voters(
    story: Any,
) -> None:
    found = by_message(story.run.read("scores"))
    true = story.true_lift(found.assign(channel="mail"))
    # a lift is that of the mean channel of the test
    true *= np.mean(list(story.multiplier.values()))
    covered = (found["lift_low"] <= true) & (true <= found["lift_high"])
    assert covered.mean() > 0.7

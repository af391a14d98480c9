"""Turnout and support of real voters left alone: do the predicted chances come true?"""

import importlib.util

import numpy as np
import pytest

from hustings.experiments.declaration import data_dir, feature_columns, load_campaign
from hustings.features.training_set import (
    MessageTest,
    build_training_set,
    message_tests,
)
from hustings.features.voter import Encoding
from hustings.training.learners.response import fit_response
from hustings.training.policy_value.reliability import Reliability, reliability
from tests.taken import ingest_all


def only_test(name: str) -> tuple[MessageTest, Encoding]:
    campaign = load_campaign(name)
    found = ingest_all(
        campaign.tables, outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind, campaign_dir=campaign.folder,
        data_dir=data_dir(),
    )  # fmt: skip
    columns = feature_columns(campaign, list(found.tables["voters"].columns))
    made = build_training_set(
        found.tables, columns, outcome=campaign.outcome.name,
        absent=campaign.outcome.absent,
    )  # fmt: skip
    encoding = Encoding.fit(made.features)
    (test,) = message_tests(made, encoding).values()
    return test, encoding


def of_controls(test: MessageTest, encoding: Encoding) -> Reliability:
    model = fit_response(test, encoding.categorical, seed=1)
    left = test.take((test.arm == 0) & test.observed)
    return reliability(model.predict(left.X, left.unit_id), left.Y, left.cluster)


@pytest.mark.slow
def test_turnout_of_the_mailers_controls_comes_true() -> None:
    path = data_dir() / "ggl2008_mailers" / "ggl2008.parquet"
    if not path.exists():
        pytest.skip(f"the public data is not there: {path}; set HUSTINGS_DATA")
    test, encoding = only_test("2006_mailers")
    # half of the clusters are enough, and take half the time
    found = of_controls(test.take(test.unit % 2 == 0), encoding)
    assert found.slope.low < 1 < found.slope.high
    assert found.slope.se < 0.03
    assert found.level.low < 0 < found.level.high
    # less than a point off, of a turnout of 30 %
    assert found.ece < 0.01
    assert found.brier < 0.93 * found.brier_base
    assert np.ptp([g.predicted for g in found.groups]) > 0.3


def test_support_of_the_flyers_controls_comes_true() -> None:
    if importlib.util.find_spec("dmba") is None:
        pytest.skip("dmba is not installed: pip install 'hustings[examples]'")
    found = of_controls(*only_test("persuasion_flyer"))
    assert found.slope.low < 1 < found.slope.high
    assert found.level.low < 0 < found.level.high
    assert found.ece < 1.5 * found.ece_by_chance
    assert found.brier < 0.6 * found.brier_base

"""A campaign's model scores a raw row the same wherever it stands."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.features.tables import SCORES, check
from hustings.training.learners.baselines import untargeted
from hustings.training.registry.campaign_model import CampaignModel, Reader
from tests.checkout import python_path

ROOT = Path(__file__).parents[2]


def test_every_voter_meets_every_message_once(modelled) -> None:
    scores = modelled.model.score(modelled.voters)
    checked = check(SCORES, scores)
    n_messages = len(modelled.test.messages)
    assert len(scores) == len(modelled.voters) * n_messages
    order = np.repeat(modelled.voters["voter_id"].to_numpy(), n_messages)
    assert checked["voter_id"].tolist() == order.tolist()
    assert checked["message_id"].head(n_messages).tolist() == modelled.model.messages


def test_scores_are_the_lifts_of_the_model_with_their_intervals(modelled) -> None:
    (lift,) = modelled.model.lifts.values()
    test = modelled.test
    lifts = lift.predict(test.X, test.unit_id)
    scores = modelled.model.score(modelled.voters).astype({"voter_id": "str"})
    for m, message in enumerate(modelled.model.messages):
        mine = scores[scores["message_id"] == message].set_index("voter_id")
        mine = mine.loc[test.voter_id]
        np.testing.assert_array_equal(mine["lift"], lifts.lift[:, m])
        width = 1.959963984540054 * lifts.se[:, m]
        np.testing.assert_allclose(mine["lift_low"], lifts.lift[:, m] - width)
        np.testing.assert_allclose(mine["lift_high"], lifts.lift[:, m] + width)
        np.testing.assert_allclose(mine["baseline"], lifts.baseline)
        np.testing.assert_allclose(mine["response"], lifts.baseline + lifts.lift[:, m])
    assert scores["lift"].std() > 0.5


def test_no_score_leads_out_of_the_range_of_the_outcome(modelled) -> None:
    """Lifts twenty times as large as believed: what they lead to stays possible."""
    ((name, lift),) = modelled.model.lifts.items()
    calibration = replace(lift.calibration, slope=20 * lift.calibration.slope)
    wild = replace(lift, calibration=calibration)
    X, unit_id = modelled.test.X, modelled.test.unit_id
    least, most = lift.nuisances.outcome_range
    assert (least, most) == (np.nanmin(modelled.test.Y), np.nanmax(modelled.test.Y))
    average = lift.nuisances.effects.shrunken
    unbounded = average + wild.deviation(X, unit_id)[0]
    assert np.abs(unbounded).max() > most - least
    scores = replace(modelled.model, lifts={name: wild}).score(modelled.voters)
    for column in ("response", "baseline"):
        assert scores[column].between(least - 1e-9, most + 1e-9).all()
    # what fits into the range is as it was
    small = np.abs(unbounded) < 1
    bounded = wild.predict(X, unit_id).lift
    assert (bounded[small] == unbounded[small]).mean() > 0.9
    assert (np.sign(bounded) * np.sign(unbounded) >= 0).all()


def test_where_lower_is_better_the_outcome_comes_back_in_its_own_direction(
    modelled,
) -> None:
    """Training turns the outcome round; lifts stay improvements, responses return."""
    facts = modelled.model.facts
    outcome = {**facts["outcome"], "higher_is_better": False}
    turned = replace(modelled.model, facts={**facts, "outcome": outcome})
    few = modelled.voters.head(50)
    up, down = modelled.model.score(few), turned.score(few)
    for name in ("lift", "lift_low", "lift_high"):
        np.testing.assert_array_equal(up[name], down[name])
    for name in ("response", "baseline"):
        np.testing.assert_array_equal(up[name], -down[name])
    # an improvement of one is one less
    np.testing.assert_allclose(down["baseline"] - down["response"], down["lift"])


def test_a_saved_model_scores_raw_rows_the_same_to_the_bit(
    modelled, tmp_path: Path
) -> None:
    modelled.model.save(tmp_path / "model")
    again = CampaignModel.load(tmp_path / "model")
    raw = modelled.raw.sample(300, random_state=1)
    before = modelled.model.score(modelled.model.reader.voters(raw))
    after = again.score(again.reader.voters(raw))
    pd.testing.assert_frame_equal(before, after)
    assert again.reader.to_json() == modelled.model.reader.to_json()
    assert again.arms == modelled.model.arms
    assert again.facts == modelled.model.facts
    offline = modelled.model.score(
        modelled.voters.set_index("voter_id", drop=False).loc[raw["voter_id"]]
    )
    np.testing.assert_array_equal(before["lift"], offline["lift"])


def test_one_row_alone_scores_as_in_company(modelled) -> None:
    together = modelled.model.score(modelled.voters.head(40))
    for i in range(0, 40, 8):
        alone = modelled.model.score(modelled.voters.iloc[[i]])
        mine = together[together["voter_id"] == modelled.voters["voter_id"].iloc[i]]
        np.testing.assert_array_equal(alone["lift"], mine["lift"])


def test_models_of_both_kinds_are_saved_side_by_side(modelled, tmp_path: Path) -> None:
    (name, lift), *_ = modelled.model.lifts.items()
    (arms,) = modelled.model.arms.values()
    both = replace(
        modelled.model,
        lifts={name: lift, "another": untargeted(lift.nuisances)},
        arms={name: arms, "another": arms},
    )
    both.save(tmp_path / "model")
    again = CampaignModel.load(tmp_path / "model")
    few = modelled.voters.head(10)
    for experiment, lifts in both.predict(few).items():
        np.testing.assert_array_equal(again.predict(few)[experiment].lift, lifts.lift)


def test_nothing_saved_can_run_or_names_a_person(modelled, tmp_path: Path) -> None:
    modelled.model.save(tmp_path / "model")
    people = set(modelled.voters["voter_id"]) | set(modelled.voters["household_id"])
    for file in (tmp_path / "model").rglob("*"):
        if file.is_dir():
            continue
        assert file.name.endswith((".json", ".lgb.txt"))
        text = file.read_text()
        if file.suffix == ".json":
            json.loads(text)
        assert not [p for p in people if p in text]


def test_a_reader_survives_json(modelled) -> None:
    reader = modelled.model.reader
    again = Reader.from_json(json.loads(json.dumps(reader.to_json())))
    raw = modelled.raw.head(30)
    before, after = (r.features(r.voters(raw)) for r in (reader, again))
    pd.testing.assert_frame_equal(before, after)


def test_an_empty_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a saved model, found none"):
        CampaignModel.load(tmp_path)


def test_threads_that_wait_sleep_whatever_is_imported_first() -> None:
    """Else a busy machine trains many times slower: OpenMP tells what it was given."""
    code = "import hustings.training.learners.gbm, lightgbm"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True,
        text=True, env={"OMP_DISPLAY_ENV": "TRUE", "PYTHONPATH": python_path()},
    ).stderr  # fmt: skip
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told
    assert "OMP_WAIT_POLICY = 'ACTIVE'" not in told

"""Chances of voters in a run: whole, reliable, by area, and worth votes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import CampaignError, OutcomeSection
from hustings.experiments.report import figures
from hustings.experiments.stages import models, response_model
from hustings.experiments.stages.context import Run
from hustings.features.tables import AREAS, CHANCES, check
from hustings.training.estimators.metrics import Interval
from hustings.training.estimators.votes import turnout_lifts, votes_gained


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def in_votes(story: Any, folder: Path) -> Run:
    """A copy of the finished run whose campaign counts votes."""
    shutil.copytree(story.run.folder, folder)
    shipped = story.run.campaign
    outcome = shipped.outcome.model_copy(update={"value": "votes"})
    campaign = shipped.model_copy(update={"outcome": outcome})
    campaign._file = shipped.file
    made: Run = replace(story.run, folder=folder, campaign=campaign)
    return made


def test_every_voter_has_a_chance_to_vote_and_one_to_support(story: Any) -> None:
    found = check(CHANCES, story.run.read("chances"))
    assert sorted(found["voter_id"]) == sorted(story.run.table("voters")["voter_id"])
    truth = story.truth.loc[found["voter_id"]]
    for outcome, column, scale in (
        ("turnout", "turnout_baseline", 1.0),
        ("support", "baseline", 100.0),
    ):
        true = truth[column].to_numpy() / scale
        assert np.corrcoef(found[outcome], true)[0, 1] > 0.75
        slope = np.polyfit(found[outcome], true, 1)[0]
        assert 0.85 < slope < 1.15, outcome
        assert (found[outcome] - true).mean() == pytest.approx(0.0, abs=0.02)


def test_areas_are_means_of_their_voters_and_none_is_small(story: Any) -> None:
    areas = check(AREAS, story.run.read("areas"))
    voters = story.run.table("voters").merge(story.run.read("chances"), on="voter_id")
    assert set(areas["level"]) == {"precinct", "county_fips"}
    counties = areas.query("level == 'county_fips' and outcome == 'turnout'")
    expected = voters.groupby("county_fips")["turnout"].agg(["mean", "size"])
    shown = expected[expected["size"] >= 20]
    found = counties.set_index("area")
    pd.testing.assert_series_equal(
        found["mean"].sort_index(), shown["mean"], check_names=False
    )
    assert (found["n"].sort_index() == shown["size"]).all()
    assert areas["n"].min() >= 20
    assert ((areas["low"] <= areas["mean"]) & (areas["mean"] <= areas["high"])).all()


def test_the_evaluation_and_its_chart_tell_how_reliable_the_chances_are(
    story: Any,
) -> None:
    evaluation = told(story.run.folder, "evaluation")
    (found,) = evaluation["experiments"].values()
    assert set(found["reliability"]) == {"turnout", "support"}
    for row in found["reliability"].values():
        assert row["slope"]["low"] < 1 < row["slope"]["high"]
        assert row["brier"] < row["brier_base"]
    drawn = figures(evaluation, None, story.run.table("messages"))
    assert any(name.endswith("/reliability") for name in drawn)
    page = (story.run.folder / "report.html").read_text()
    assert "Who votes and who supports, without a message" in page


def test_comparators_stand_beside_the_baselines_in_evaluation_and_report(
    story: Any,
) -> None:
    (found,) = told(story.run.folder, "evaluation")["experiments"].values()
    page = (story.run.folder / "report.html").read_text()
    for name, words in (
        ("likely_persuadable", "Persuadable, likely areas"),
        ("segment_best", "Each group its best"),
    ):
        row = found["policies"][name]
        assert row["gain"]["low"] < row["gain"]["high"]
        assert row["spend_per_voter_usd"] <= story.run.campaign.plan.spend_per_voter_usd
        assert name in found["differences"]
        assert words in page


# --- votes ----------------------------------------------------------------------------


def test_a_campaign_that_counts_votes_learns_and_judges_votes(
    story: Any, tmp_path: Path
) -> None:
    run = in_votes(story, tmp_path / "votes")
    plain = models._materials(run)
    ((name, test),) = plain.tests.items()
    votes = plain.valued(run).tests[name]
    known = run.read("chances").set_index("voter_id").loc[test.voter_id]
    stored = told(run.folder, "turnout")["effects"]
    effects = {m: Interval(**effect) for m, effect in stored.items()}
    lifts = np.concatenate([[0.0], turnout_lifts(effects, test.messages)])
    own = lifts[test.message_of_arm[test.arm]][:, None]
    expected = votes_gained(
        test.Y[:, None] / 100, known["turnout"].to_numpy(), own,
        2 * known["support"].to_numpy() - 1,
    )  # fmt: skip
    np.testing.assert_allclose(votes.Y, expected[:, 0])
    assert run.campaign.outcome.as_valued().unit_per_point == 0.01


def test_a_campaign_that_counts_the_outcome_is_as_it_was(story: Any) -> None:
    materials = models._materials(story.run)
    assert materials.valued(story.run) is materials
    outcome = story.run.campaign.outcome
    assert outcome.as_valued() is outcome


def test_votes_without_a_known_turnout_are_refused(story: Any, tmp_path: Path) -> None:
    run = in_votes(story, tmp_path / "votes")
    only_support = {name: {"support": {}} for name in models._materials(run).tests}
    run.write_json("reliability", only_support)
    with pytest.raises(CampaignError, match=r"value = \"votes\": expected 200 people"):
        models._materials(run).valued(run)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"measures": "turnout", "turnout": "voted"}, 'expected measures = "support"'),
        ({"higher_is_better": False, "turnout": "voted"}, "higher_is_better = true"),
        ({"turnout": None}, "without knowing who voted"),
    ],
)
def test_votes_are_declared_only_of_support_with_a_known_turnout(
    story: Any, keys: dict[str, Any], words: str
) -> None:
    declared = story.run.campaign.outcome.model_dump() | {"value": "votes"} | keys
    with pytest.raises(ValueError, match=words):
        OutcomeSection.model_validate(declared)


def test_a_band_of_support_runs_upwards(story: Any) -> None:
    declared = story.run.campaign.outcome.model_dump()
    with pytest.raises(ValueError, match="low below high"):
        OutcomeSection.model_validate(declared | {"persuadable": [0.6, 0.4]})


def test_support_far_outside_its_scale_is_no_chance(story: Any) -> None:
    ((_, test),) = models._materials(story.run).tests.items()
    assert set(response_model._outcomes(story.run, test)) == {"turnout", "support"}
    wild = replace(test, Y=test.Y + 200)
    assert set(response_model._outcomes(story.run, wild)) == {"turnout"}

"""The campaigns that ship, on their real tables: published figures and guardrails."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from hustings.experiments.declaration import (
    check_experiments,
    data_dir,
    feature_columns,
    load_campaign,
)
from hustings.features.ingest import Ingested
from hustings.features.tables import CONTROL
from hustings.features.training_set import build_training_set, message_tests
from hustings.features.voter import Encoding
from hustings.training.learners.average_effects import fit_nuisances
from hustings.training.learners.boosting import binned
from tests.taken import ingest_all

AFTERWARDS = {
    "MOVED_AD", "MOVED_A", "opposite", "CAND1S", "CAND2S", "CAND1_UND", "CAND2_UND",
    "I3", "Partition", "MESSAGE_A", "MESSAGE_A_REV", "SET_NO",
}  # fmt: skip


def read(name: str) -> Ingested:
    campaign = load_campaign(name)
    found = ingest_all(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
    )
    check_experiments(campaign, found.tables["designs"]["experiment_id"])
    return found


def features_of(name: str, found: Ingested) -> list[str]:
    return feature_columns(load_campaign(name), list(found.tables["voters"]))


def needs(path: Path) -> None:
    if not path.exists():
        pytest.skip(f"the public data is not there: {path}; set HUSTINGS_DATA")


@pytest.fixture(scope="module")
def flyer() -> Ingested:
    if importlib.util.find_spec("dmba") is None:
        pytest.skip("dmba is not installed: pip install 'hustings[examples]'")
    return read("persuasion_flyer")


@pytest.fixture(scope="module")
def mailers() -> Ingested:
    needs(data_dir() / "ggl2008_mailers/ggl2008.parquet")
    return read("2006_mailers")


@pytest.fixture(scope="module")
def issues() -> Ingested:
    needs(data_dir() / "issue_messages2025/responses.parquet")
    return read("2024_issue_messages")


def outcome_by_message(found: Ingested) -> pd.Series:
    key = ["voter_id", "experiment_id"]
    rows = found.tables["deliveries"].merge(found.tables["responses"], on=key)
    return rows.groupby("message_id")["value"].mean()


# --- the flyer ------------------------------------------------------------------------


def test_the_flyer_gives_the_published_shares(flyer: Ingested) -> None:
    shares = outcome_by_message(flyer)
    assert shares[CONTROL] == pytest.approx(0.3444)
    assert shares["flyer"] == pytest.approx(0.4024)
    assert (
        flyer.tables["deliveries"]["message_id"].value_counts().tolist() == [5000] * 2
    )
    assert flyer.quarantine.empty


def test_no_answer_or_part_of_the_design_is_among_the_flyers_voters(
    flyer: Ingested,
) -> None:
    assert not AFTERWARDS & set(flyer.tables["voters"])
    named = load_campaign("persuasion_flyer").tables["voters"].model_dump_json()
    assert not any(f'"{column}"' in named for column in AFTERWARDS)


def test_no_special_category_is_a_feature_of_the_flyer(flyer: Ingested) -> None:
    special = set(load_campaign("persuasion_flyer").features.special_categories)
    assert special <= set(flyer.tables["voters"])
    columns = features_of("persuasion_flyer", flyer)
    assert not special & set(columns)
    assert {"age", "sex", "voted_20121106_general", "GARDENINGM"} <= set(columns)


def test_no_feature_of_the_flyer_tells_who_was_sent_it(flyer: Ingested) -> None:
    # in a randomised design no column known before can; 0.05 is five standard errors
    voters = flyer.tables["voters"]
    columns = [c for c in features_of("persuasion_flyer", flyer) if c != "sex"]
    sent = (flyer.tables["deliveries"]["message_id"] != CONTROL).astype(float)
    assert voters[columns].corrwith(sent).abs().max() < 0.05


# --- the mailers of 2006 --------------------------------------------------------------


def test_the_mailers_give_the_published_turnout(mailers: Ingested) -> None:
    turnout = outcome_by_message(mailers)
    published = {
        "control": 0.297, "civic_duty": 0.315, "hawthorne": 0.322, "self": 0.345,
        "neighbors": 0.378,
    }  # fmt: skip
    assert set(turnout.index) == set(published)
    for message, share in published.items():
        # a part of the published file: within three standard errors of 26,000 people
        assert turnout[message] == pytest.approx(share, abs=0.009)
    assert len(mailers.tables["voters"]) == 240_729
    assert mailers.quarantine.empty


def test_a_household_was_sent_one_letter(mailers: Ingested) -> None:
    rows = mailers.tables["deliveries"].merge(mailers.tables["voters"], on="voter_id")
    assert rows.groupby("household_id")["message_id"].nunique().max() == 1


def test_the_shares_of_the_mailers_fit_their_design(mailers: Ingested) -> None:
    rows = mailers.tables["deliveries"].merge(mailers.tables["voters"], on="voter_id")
    households = rows.drop_duplicates("household_id")
    assert households["message_id"].eq(CONTROL).mean() == pytest.approx(5 / 9, abs=0.01)
    designs = mailers.tables["designs"].set_index("message_id")["probability"]
    assert designs[CONTROL] == pytest.approx(5 / 9)
    assert set(designs.drop(CONTROL).round(9)) == {round(1 / 9, 9)}


def test_the_mailers_disclose_what_they_disclose(mailers: Ingested) -> None:
    disclosed = mailers.tables["messages"].set_index("message_id")["discloses"]
    assert disclosed.to_dict() == {
        "civic_duty": "none", "hawthorne": "recipient", "self": "household",
        "neighbors": "others",
    }  # fmt: skip
    assert load_campaign("2006_mailers").campaign.rule_set == "research_replay"


def test_the_number_of_names_on_a_letter_is_no_covariate(mailers: Ingested) -> None:
    assert not {"neighbors", "treatment", "primary_06"} & set(mailers.tables["voters"])
    assert features_of("2006_mailers", mailers) == [
        "age", "sex", "voted_20000808_primary", "voted_20001107_general",
        "voted_20020806_primary", "voted_20021105_general", "voted_20040803_primary",
        "hh_size",
    ]  # fmt: skip


# --- the issue messages ---------------------------------------------------------------


def test_every_issue_is_an_experiment_with_its_own_controls(issues: Ingested) -> None:
    designs = issues.tables["designs"]
    assert designs["experiment_id"].nunique() == 10
    assert designs.groupby("experiment_id").size().eq(50).all()
    assert designs.groupby("experiment_id")["probability"].sum().round(9).eq(1).all()
    assert len(issues.tables["messages"]) == 490
    assert len(issues.tables["deliveries"]) == 17_862
    assert issues.quarantine.empty


def test_people_are_spread_over_messages_as_the_design_says(issues: Ingested) -> None:
    designs, deliveries = issues.tables["designs"], issues.tables["deliveries"]
    arm = ["experiment_id", "message_id"]
    people = deliveries.groupby(arm).size().rename("people").reset_index()
    cells = designs.merge(people, on=arm, how="left")
    total = cells.groupby("experiment_id")["people"].transform("sum")
    expected = total * cells["probability"]
    statistic = ((cells["people"] - expected) ** 2 / expected).sum()
    # 500 cells in 10 experiments, 24 weights of models estimated
    assert chi2.sf(statistic, 500 - 10 - 24) > 0.01
    # were all messages of an issue alike, this would be far off
    alike = np.where(cells["message_id"] == CONTROL, 0.194, 0.806 / 49) * total
    assert chi2.sf(((cells["people"] - alike) ** 2 / alike).sum(), 489) < 1e-100


def test_messages_move_agreement_by_about_six_points(issues: Ingested) -> None:
    key = ["voter_id", "experiment_id"]
    rows = issues.tables["deliveries"].merge(issues.tables["responses"], on=key)
    weight = 1 / rows["propensity"]
    sent = rows["message_id"] != CONTROL
    lifts = []
    for _, group in rows.groupby("experiment_id"):
        on, off = group[sent[group.index]], group[~sent[group.index]]
        reached = np.average(on["value"], weights=weight[on.index])
        lifts.append(reached - off["value"].mean())
    # published: about 6; the plain mean over messages, 10 issues, SE about 0.6
    assert 4 < np.mean(lifts) < 8


def test_only_what_was_asked_before_the_message_is_a_feature(issues: Ingested) -> None:
    assert features_of("2024_issue_messages", issues) == [
        "party_strength", "ideology", "knowledge",
    ]  # fmt: skip


def test_the_mailers_effects_are_the_published_ones_within_their_intervals(
    mailers: Ingested,
) -> None:
    campaign = load_campaign("2006_mailers")
    made = build_training_set(
        mailers.tables,
        features_of("2006_mailers", mailers),
        outcome=campaign.outcome.name,
        absent=campaign.outcome.absent,
    )
    encoding = Encoding.fit(made.features)
    (test,) = message_tests(made, encoding).values()
    data = binned(test.X, encoding.categorical)
    nuisances = fit_nuisances(
        test, data, dict.fromkeys(test.messages, "turnout"), seed=1
    )
    effects = dict(
        zip(test.messages, nuisances.effects.intervals(shrunken=False), strict=True)
    )
    # Gerber, Green & Larimer (2008), table 2: turnout less the control group's 29.7 %
    published = {
        "civic_duty": 0.018, "hawthorne": 0.025, "self": 0.048, "neighbors": 0.081,
    }  # fmt: skip
    for message, effect in published.items():
        assert effects[message].low <= effect <= effects[message].high, message

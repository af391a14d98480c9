"""The real tasks on which tools are compared: published figures and designs.

Of the verdict tasks only the design is looked at, never an outcome by arm.
"""

import numpy as np
import pytest

from tests.speed.peers.data_sets import DataSet, TooFewAnswersError, table
from tests.speed.peers.studies import FEWEST_ANSWERS, ISSUES, STUDIES
from tests.speed.peers.tasks import loader_of


def loaded(name: str) -> DataSet:
    try:
        return loader_of(name)()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def mean_by_arm(data: DataSet) -> list[float]:
    test = data.test
    return [float(test.Y[test.arm == a].mean()) for a in range(len(data.cost) + 1)]


def test_hillstroms_arms_give_the_published_visits() -> None:
    found = loaded("hillstrom")
    assert found.test.messages == ("mens", "womens")
    assert mean_by_arm(found) == pytest.approx([0.106, 0.183, 0.151], abs=5e-4)


@pytest.mark.slow
def test_the_mailers_cost_what_the_paper_says_and_keep_clusters_whole() -> None:
    found = loaded("2006_mailers")
    assert found.cost.tolist() == [1.0, 15.0, 30.0, 45.0]
    assert len(np.unique(found.test.unit_id)) == 7_000
    assert not {"neighbors", "treatment", "primary_06"} & set(found.features)
    assert found.test.propensities[0].round(4).tolist() == [0.5556, *[0.1111] * 4]


def test_the_lowest_top_rate_is_nobodys_message_and_respondents_stay_whole() -> None:
    found = loaded("br2017")
    assert found.test.messages[0] == "top_rate_15"
    assert len(np.unique(found.test.cluster)) == 2_000
    assert all(name.startswith("resp_") for name in found.features)
    means = mean_by_arm(found)
    assert means[0] == min(means)
    assert np.mean(found.test.Y) == 0.5


def test_new_havens_control_was_not_contacted() -> None:
    found = loaded("newhaven")
    assert np.bincount(found.test.arm).tolist() == [5_269, 3_265, 3_116, 3_124]
    assert found.null


def test_the_letter_on_groups_lowered_turnout_and_later_votes_are_no_covariates() -> (
    None
):
    found = loaded("wi_group_competition")
    without, letter = mean_by_arm(found)
    assert 100 * (letter - without) == pytest.approx(-1.6, abs=0.05)
    assert not {n for n in found.features if n.endswith("_12_update")}
    assert not {"black", "latino", "treat"} & set(found.features)


def test_the_declared_studies_are_those_of_the_archive() -> None:
    try:
        responses = table("survey_rcts/responses.parquet")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert sorted(responses["study"].unique()) == sorted(STUDIES)


def test_a_surveys_outcome_is_turned_round_where_its_scale_is() -> None:
    found = loaded("survey_FaheyS78")
    answers = table("survey_rcts/responses.parquet").query("study == 'FaheyS78'")
    expected = 1 - (answers["y"] - 1) / 4
    assert np.nanmean(found.test.Y) == pytest.approx(expected.mean())
    assert found.points == 100.0
    conditions = table("survey_rcts/conditions.parquet").query("study == 'FaheyS78'")
    control = conditions["condition.name"].iloc[0]
    n_control = (answers["condition"] == control).sum()
    assert np.bincount(found.test.arm)[0] == n_control


def test_arms_that_few_answered_are_left_out_and_said() -> None:
    found = loaded("survey_HamiltonS31")
    answered = np.bincount(found.test.arm[found.test.observed])
    assert answered.min() >= FEWEST_ANSWERS
    assert len(found.left_out) == 8
    assert found.test.propensities[0].sum() == pytest.approx(1.0)
    with pytest.raises(TooFewAnswersError, match=r"expected at least 100 .*'40 hours"):
        loader_of("survey_MunschS68")()


@pytest.mark.parametrize("name", ISSUES)
def test_an_issues_messages_are_those_who_wrote_them(name) -> None:
    found = loaded(f"issue_{name.lower().replace(' ', '_')}")
    assert "human" in found.test.messages
    assert found.features == ("party", "ideology", "knowledge")
    assert np.bincount(found.test.arm).min() >= FEWEST_ANSWERS
    assert found.test.propensities[0, 0] == pytest.approx(0.2, abs=0.04)


def test_the_designs_of_the_verdicts_real_tasks_are_as_published() -> None:
    letter = loaded("wi_ballot_secrecy").test
    assert np.bincount(letter.arm).tolist() == [8_680, 8_680]
    placebo = loaded("ct_ballot_secrecy").test
    assert np.bincount(placebo.arm).tolist() == [1_289, 2_455]
    share = [placebo.arm[placebo.block == b].mean() for b in range(6)]
    assert placebo.propensities[:, 1] == pytest.approx(np.array(share)[placebo.block])
    sanctions = loaded("bs2013")
    assert sanctions.test.messages[0].startswith("$17")
    assert len(np.unique(sanctions.test.cluster)) == 2_500
    position = loaded("onoburden2018")
    assert position.null
    assert len(position.test.messages) == 2
    assert all(p == pytest.approx([1 / 3] * 3) for p in position.test.propensities[:1])

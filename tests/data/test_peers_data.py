"""The real data sets on which tools are compared: published figures and designs."""

import numpy as np
import pytest

from tests.speed.peers.data_sets import DataSet, load


def loaded(name: str) -> DataSet:
    try:
        return load(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def mean_by_arm(data: DataSet) -> list[float]:
    test = data.test
    return [float(test.Y[test.arm == a].mean()) for a in range(len(data.cost) + 1)]


def test_hillstroms_arms_give_the_published_visits() -> None:
    found = loaded("hillstrom")
    assert found.test.messages == ("mens", "womens")
    assert mean_by_arm(found) == pytest.approx([0.106, 0.183, 0.151], abs=5e-4)


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

"""One row per voter and experiment, with the probability of every arm."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features.asof import VoterFile
from hustings.features.simulated.campaign import simulate
from hustings.features.tables import (
    DELIVERIES,
    DESIGNS,
    RESPONSES,
    VOTERS,
    TableError,
    check,
)
from hustings.features.training_set import (
    Arm,
    MessageTest,
    TrainingSet,
    arm_costs,
    build_training_set,
    message_tests,
)
from hustings.features.voter import Encoding

FEATURES = ["age", "voted_20060807_primary", "voted_20060808_primary"]


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Two experiments on five voters: a in both; first delivery on 2006-08-08.

    v1 and v2 share household h; experiment two has blocks of its own probabilities.
    """
    voters = pd.DataFrame(
        {
            "voter_id": ["v1", "v2", "v3", "v4", "v5"],
            "household_id": ["h", "h", None, "g", "g"],
            "age": [20.0, 30.0, 40.0, 50.0, 60.0],
            "voted_20060807_primary": [0.0, 1.0, 0.0, 1.0, 0.0],
            "voted_20060808_primary": [1.0, 1.0, 1.0, 1.0, 1.0],
        }
    )
    sent = [
        ("v1", "one", "all", "letter", "mail", "2006-08-08 15:00", 0.3, "household"),
        ("v2", "one", "all", "letter", "mail", "2006-08-09", 0.3, "household"),
        ("v3", "one", "all", "control", "none", "2006-08-09", 0.5, "household"),
        ("v4", "one", "all", "letter", "phone", "2006-08-09", 0.2, "household"),
        ("v1", "two", "east", "call", "phone", "2006-09-01", 0.4, "person"),
        ("v5", "two", "west", "control", "none", "2006-09-01", 0.9, "person"),
    ]
    names = ["voter_id", "experiment_id", "block", "message_id", "channel", "sent_on",
             "propensity", "randomised_by"]  # fmt: skip
    deliveries = pd.DataFrame(sent, columns=names)
    deliveries["sent_on"] = pd.to_datetime(deliveries["sent_on"], format="ISO8601")
    design = [
        ("one", "all", "control", "none", 0.5), ("one", "all", "letter", "mail", 0.3),
        ("one", "all", "letter", "phone", 0.2), ("two", "east", "control", "none", 0.6),
        ("two", "east", "call", "phone", 0.4), ("two", "west", "control", "none", 0.9),
        ("two", "west", "call", "mail", 0.1),
    ]  # fmt: skip
    answered = [
        ("v1", "one", "turnout", 1.0), ("v2", "one", "turnout", 0.0),
        ("v3", "one", "turnout", 1.0), ("v1", "two", "turnout", 0.0),
        ("v1", "one", "support", 77.0),
    ]  # fmt: skip
    responses = pd.DataFrame(
        answered, columns=["voter_id", "experiment_id", "outcome", "value"]
    ).assign(observed_at=pd.Timestamp("2006-12-01"))
    designs = pd.DataFrame(
        design,
        columns=["experiment_id", "block", "message_id", "channel", "probability"],
    )
    return {
        "voters": check(VOTERS, voters),
        "deliveries": check(
            DELIVERIES, deliveries.assign(plan_id=deliveries["experiment_id"])
        ),
        "responses": check(
            RESPONSES, responses.assign(plan_id=responses["experiment_id"])
        ),
        "designs": check(DESIGNS, designs),
    }


def built(tables: dict[str, pd.DataFrame], **changed: Any) -> TrainingSet:
    asked = {"outcome": "turnout", "absent": "missing", **changed}
    return build_training_set(tables, FEATURES, **asked)


def arrays_of(made: TrainingSet) -> dict[str, MessageTest]:
    return message_tests(made, Encoding.fit(made.features))


def test_every_delivery_meets_its_own_response(tables) -> None:
    rows = built(tables).rows
    found = rows.set_index(["experiment_id", "voter_id"])["outcome"]
    assert len(rows) == len(tables["deliveries"])
    assert found["one"].to_dict() == {
        "v1": 1.0, "v2": 0.0, "v3": 1.0, "v4": pytest.approx(np.nan, nan_ok=True),
    }  # fmt: skip
    assert found["two", "v1"] == 0.0  # not the answer given in experiment one


def test_a_delivery_is_met_by_the_voter_file_from_before_it(tables) -> None:
    """A file of 20 August: v1 has turned 21 and moved in with v3."""
    later = tables["voters"].assign(age=[21.0, 31.0, 41.0, 51.0, 61.0])
    later.loc[[0, 2], "household_id"] = "new"
    files = [
        VoterFile(pd.Timestamp("2006-08-01"), tables["voters"]),
        VoterFile(pd.Timestamp("2006-08-20"), later),
    ]
    made = built(tables | {"voters": later}, files=files)
    age = made.rows.assign(age=made.features["age"])
    age = age.set_index(["experiment_id", "voter_id"])["age"]
    assert age["one"].to_dict() == {"v1": 20.0, "v2": 30.0, "v3": 40.0, "v4": 50.0}
    assert age["two"].to_dict() == {"v1": 21.0, "v5": 61.0}
    # v1 and v2 were drawn as one household; folds are those of the last file
    rows = made.rows.set_index(["experiment_id", "voter_id"])
    assert rows.loc["one", "drawn_id"].to_dict() == {
        "v1": "h", "v2": "h", "v3": "v3", "v4": "g",
    }  # fmt: skip
    assert rows.loc[("one", "v1"), "unit_id"] == "new"


def test_a_delivery_before_every_voter_file_is_refused(tables) -> None:
    files = [
        VoterFile(pd.Timestamp(day), tables["voters"])
        for day in ("2006-08-09", "2006-08-20")
    ]
    with pytest.raises(TableError, match="a voter file observed before 2006-08-08"):
        built(tables, files=files)


def test_an_absent_response_is_what_the_campaign_declares(tables) -> None:
    assert built(tables, absent="missing").rows["outcome"].isna().sum() == 2
    zero = built(tables, absent="zero").rows
    assert zero["outcome"].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def test_a_lower_is_better_outcome_is_turned_round(tables) -> None:
    up, down = built(tables), built(tables, higher_is_better=False)
    pd.testing.assert_series_equal(down.rows["outcome"], -up.rows["outcome"])


def test_an_outcome_that_nobody_measured_is_an_error_that_names_those_measured(
    tables,
) -> None:
    with pytest.raises(TableError, match=r"'clicks'.*\['support', 'turnout'\]"):
        built(tables, outcome="clicks")


def test_features_end_before_the_first_delivery(tables) -> None:
    """The election of the day of the first letter is not history yet."""
    made = built(tables)
    assert "voted_20060807_primary" in made.features
    assert "voted_20060808_primary" not in made.features


def test_features_stand_beside_their_voter(tables) -> None:
    made = built(tables)
    ages = dict(zip(tables["voters"]["voter_id"], tables["voters"]["age"], strict=True))
    assert made.features["age"].tolist() == [ages[v] for v in made.rows["voter_id"]]


def test_the_unit_is_the_coarsest_and_the_drawn_one_what_was_randomised(tables) -> None:
    rows = built(tables).rows.set_index(["experiment_id", "voter_id"])
    assert rows.loc[("one", "v1"), "unit_id"] == rows.loc[("one", "v2"), "unit_id"]
    assert rows.loc[("one", "v3"), "unit_id"] == "v3"
    assert rows.loc[("one", "v1"), "drawn_id"] == "h"
    assert rows.loc[("two", "v1"), "drawn_id"] == "v1"
    clustered = {
        **tables,
        "voters": tables["voters"].assign(cluster_id=["c", "c", "c", None, None]),
        "deliveries": tables["deliveries"].assign(randomised_by="cluster"),
    }
    rows = built(clustered).rows.set_index(["experiment_id", "voter_id"])
    assert rows.loc["one", "unit_id"].tolist() == ["c", "c", "c", "g"]
    assert rows.loc["one", "drawn_id"].tolist() == ["c", "c", "c", "g"]
    assert rows.loc["one", "household_id"].tolist() == ["h", "h", "v3", "g"]


def test_arms_and_probabilities_are_those_of_the_design_by_block(tables) -> None:
    tests = arrays_of(built(tables))
    one, two = tests["one"], tests["two"]
    assert one.arms == (Arm("letter", "mail"), Arm("letter", "phone"))
    assert one.voter_id.tolist() == ["v1", "v2", "v3", "v4"]
    assert one.arm.tolist() == [1, 1, 0, 2]
    np.testing.assert_allclose(one.propensities, [[0.5, 0.3, 0.2]] * 4)
    assert two.arms == (Arm("call", "phone"), Arm("call", "mail"))
    assert two.arm.tolist() == [1, 0]
    np.testing.assert_allclose(two.propensities, [[0.6, 0.4, 0.0], [0.9, 0.0, 0.1]])


def test_a_control_is_a_control_of_its_own_experiment_alone(tables) -> None:
    tests = arrays_of(built(tables))
    controls = {name: t.voter_id[t.arm == 0].tolist() for name, t in tests.items()}
    assert controls == {"one": ["v3"], "two": ["v5"]}


def test_channels_of_a_message_merge_with_their_probabilities(tables) -> None:
    merged = arrays_of(built(tables))["one"].by_message()
    assert merged.arms == (Arm("letter", "any"),)
    assert merged.arm.tolist() == [1, 1, 0, 1]
    np.testing.assert_allclose(merged.propensities, [[0.5, 0.5]] * 4)


def test_codes_name_households_drawn_units_and_who_was_observed(tables) -> None:
    one = arrays_of(built(tables))["one"]
    assert one.household.tolist() == [0, 0, 1, 2]
    assert one.drawn.tolist() == [0, 0, 1, 2]
    assert one.observed.tolist() == [True, True, True, False]
    few = one.take(np.array([False, True, True, False]))
    assert few.voter_id.tolist() == ["v2", "v3"]
    assert few.X.shape == (2, one.X.shape[1])
    assert few.propensities.shape == (2, 3)


def test_the_order_of_rows_in_the_files_changes_nothing() -> None:
    sample = simulate(n_voters=1_000, seed=3)
    turned = {
        name: table.sample(frac=1, random_state=1)
        for name, table in sample.tables.items()
    }
    made, again = (
        build_training_set(t, ["age", "party"], outcome="support", absent="missing")
        for t in (sample.tables, turned)
    )
    pd.testing.assert_frame_equal(made.rows, again.rows)
    pd.testing.assert_frame_equal(made.features, again.features)
    encoding = Encoding.fit(made.features)
    (first,), (second,) = (message_tests(t, encoding).values() for t in (made, again))
    np.testing.assert_array_equal(first.X, second.X)
    names, others = (
        [("control", "none"), *map(tuple, t.arms)] for t in (first, second)
    )
    assert sorted(names) == sorted(others)
    assert [names[k] for k in first.arm] == [others[k] for k in second.arm]
    at = [others.index(name) for name in names]
    np.testing.assert_allclose(first.propensities, second.propensities[:, at])


def test_the_probability_of_what_happened_is_the_one_delivered_with() -> None:
    sample = simulate(n_voters=1_000, seed=3)
    made = build_training_set(
        sample.tables, ["age"], outcome="support", absent="missing"
    )
    (test,) = message_tests(made, Encoding.fit(made.features)).values()
    own = test.propensities[np.arange(len(test.arm)), test.arm]
    np.testing.assert_allclose(own, made.rows["propensity"])
    np.testing.assert_allclose(test.propensities.sum(axis=1), 1)


def test_a_price_for_all_messages_holds_where_none_is_named() -> None:
    costs = pd.DataFrame(
        {
            "message_id": ["*", "letter", "*"],
            "channel": ["mail", "mail", "phone"],
            "cost_usd": [0.5, 0.7, 1.0],
        }
    )
    arms = [Arm("letter", "mail"), Arm("card", "mail"), Arm("letter", "phone")]
    assert arm_costs(costs, arms).tolist() == [0.7, 0.5, 1.0]
    with pytest.raises(TableError, match=r"'card' \(or '\*'\) by 'sms', got none"):
        arm_costs(costs, [Arm("card", "sms")])

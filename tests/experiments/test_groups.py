"""Groups: columns, cuts and words of the groups; counts of the plan."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.report.groups import group_in_words, groups_section
from hustings.experiments.results import GroupPlanned
from hustings.experiments.stages.groups import (
    _as_numbers,
    cuts_of,
    groups_planned,
    members,
    plain_columns,
)
from hustings.training.policy_value.policy_tree import Condition
from hustings.training.registry.campaign_model import Reader


def voters(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    voted = rng.integers(0, 2, (n, 4)).astype(float)
    voted[:40, 0] = np.nan
    return pd.DataFrame(
        {
            "age": rng.integers(18, 91, n).astype(float),
            "urbanicity": pd.Series(rng.choice(["city", "rural", "town"], n)),
            "homeowner": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 2, n)),
            "income_usd": rng.lognormal(11, 0.4, n),
            "church_member": rng.integers(0, 2, n),
            "religion_code": rng.integers(0, 2, n),
            "provider__income": rng.random(n),
            "affinity__jobs": rng.random(n),
            "history_share": voted.mean(axis=1),
            "voted_20180807_primary": voted[:, 0],
            "voted_20200804_primary": voted[:, 1],
            "voted_20201103_general": voted[:, 2],
            "voted_20220802_primary": voted[:, 3],
        }
    )


def test_only_columns_a_person_can_read_are_asked_and_special_ones_never() -> None:
    columns = plain_columns(voters(), frozenset({"church_member"}))
    assert list(columns) == [
        "age", "urbanicity", "homeowner", "income_usd", "elections:primary",
        "elections:general",
    ]  # fmt: skip
    # one whose name gives nothing away is special where the campaign says so
    assert "homeowner" not in plain_columns(voters(), frozenset({"homeowner"}))
    # before registration nobody could vote: that counts as not having voted
    assert columns["elections:primary"].max() == 3
    assert columns["elections:primary"].notna().all()


def test_cuts_are_round_numbers_within_the_column() -> None:
    columns = plain_columns(voters(), frozenset())
    ages, _ = cuts_of(columns["age"])
    assert ages == list(range(20, 91, 5))
    incomes, equal = cuts_of(columns["income_usd"])
    assert not equal
    assert all(f"{cut:.2g}" == f"{float(f'{cut:.2g}'):.2g}" for cut in incomes)
    assert all(float(f"{cut:.2g}") == cut for cut in incomes)
    assert cuts_of(columns["elections:primary"]) == ([1.0, 2.0, 3.0], False)
    assert cuts_of(columns["urbanicity"]) == (["city", "rural", "town"], True)
    assert cuts_of(pd.Series([np.nan, np.nan], name="age")) == ([], True)


@pytest.mark.parametrize("yes", [True, False])
@pytest.mark.parametrize(
    ("column", "value"),
    [("age", 45.0), ("urbanicity", "rural"), ("homeowner", 1.0),
     ("elections:primary", 2.0)],
)  # fmt: skip
def test_voters_are_counted_into_the_group_that_the_tree_put_them_in(
    column: str, value: Any, yes: bool
) -> None:
    columns = plain_columns(voters(), frozenset())
    asked = {name: cuts_of(columns[name]) for name in columns}
    X, cuts = _as_numbers(columns, asked)
    j = list(asked).index(column)
    values, equal = asked[column]
    number = float(values.index(value)) if isinstance(value, str) else value
    assert number in cuts[j][0]
    told = {"column": column, "equal" if equal else "below": value, "yes": yes,
            "or_unknown": False}  # fmt: skip
    by_tree = Condition(j, number, equal, yes).holds(X)
    assert 0 < by_tree.sum() < len(X)
    assert np.array_equal(members([told], columns), by_tree)


def below(column: str, value: float, yes: bool, unknown: bool = False) -> dict:
    return {"column": column, "below": value, "yes": yes, "or_unknown": unknown}


def equal(column: str, value: Any, yes: bool, unknown: bool = False) -> dict:
    return {"column": column, "equal": value, "yes": yes, "or_unknown": unknown}


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ([], "everybody"),
        (
            [equal("urbanicity", "rural", True), below("age", 45, False),
             below("elections:primary", 2, True)],
            "rural, 45 or older, voted in fewer than two primaries",
        ),
        ([below("age", 65, True), below("age", 45, False)], "45 to 64"),
        ([below("age", 45, False, True)], "45 or older or unknown"),
        ([below("age", 45, False, True), below("age", 65, True)], "45 to 64"),
        ([below("elections:general", 1, True)], "voted in no general election"),
        ([below("elections:primary", 1, False)], "voted in a primary before"),
        (
            [below("elections:primary", 3, False), below("elections:primary", 4, True)],
            "voted in three primaries",
        ),
        ([below("elections:runoff", 2, False)],
         "voted in two or more runoff elections"),
        ([equal("sex", "F", True), equal("party", "R", False)],
         "women, not Republicans"),
        ([equal("party", "D", False), equal("party", "R", True)], "Republicans"),
        ([equal("party", "D", False), equal("party", "R", False)],
         "not Democrats, not Republicans"),
        ([equal("homeowner", 1.0, False, True)], "not homeowners or unknown"),
        ([equal("magazines_outdoor", 1.0, True)], "magazines outdoor"),
        ([below("income_usd", 50_000, True)], "income below $50,000"),
        ([below("tenure_years", 5, False)], "registered for 5 years or more"),
        ([below("consumer_score", 0.25, True)], "consumer score below 0.25"),
    ],
)  # fmt: skip
def test_groups_are_told_in_words(conditions: list, words: str) -> None:
    assert group_in_words(conditions) == words


def evaluation(gain: tuple[float, float, float], n_rows: int = 2) -> dict[str, Any]:
    value, low, high = gain
    rows = [
        {"conditions": [equal("urbanicity", "rural", True)], "message_id": "trade",
         "worth_sending": True, "n": 900, "predicted": 0.031,
         "measured": {"value": 0.042, "low": 0.021, "high": 0.063}},
        {"conditions": [equal("urbanicity", "rural", False)], "message_id": "schools",
         "worth_sending": False, "n": 700, "predicted": 0.004, "measured": None},
    ]  # fmt: skip
    told = {"rows": rows[:n_rows], "agreement": 0.81, "price": 0.1, "n_chose": 1600,
            "n_measured": 1600,
            "gain": {"value": value, "low": low, "high": high}}  # fmt: skip
    return {"experiments": {"spring": {"groups": told}, "none": {}}}


def told_page(
    planned: list,
    gain: tuple[float, float, float] = (0.01, 0.004, 0.016),
    policy: str = "personalised",
) -> str:
    return str(
        groups_section(evaluation(gain), {"spring": planned}, 0.01, {"spring": policy})
    )


def test_the_table_gives_each_group_its_message_and_hides_few_people() -> None:
    planned = [
        GroupPlanned(5_000, 1_200, 800, 660.0),
        GroupPlanned(4_000, 7, 3, 2.4),
    ]
    page = told_page(planned)
    assert "Rural" in page
    assert "+4.2 (2.1 to 6.3)" in page
    assert "Not rural" in page
    assert "nothing<br><small>next best: schools</small>" in page
    assert "$660.00" in page
    assert "fewer than 20" in page
    assert "2.40" not in page
    assert "gain +1.0 points (0.4 to 1.6) per voter" in page
    assert "81 %" in page


def test_a_plan_by_another_policy_is_said_not_to_go_by_the_groups() -> None:
    page = told_page([GroupPlanned(5_000, 1_200, 800, 660.0)] * 2, policy="nobody")
    assert "The plan follows “Nobody” and does not go by these groups" in page
    assert "person by person" not in page
    assert "person by person" in told_page([])


def test_groups_that_were_not_shown_to_gain_are_called_a_hint() -> None:
    page = told_page([], gain=(0.002, -0.004, 0.008))
    assert "a hint, not as a finding" in page
    assert "unknown" in page
    assert "not shown to gain" in page
    assert groups_section({"experiments": {"none": {}}}, {}, 0.01, {}) == ""


# --- of a whole run -------------------------------------------------------------------


def found_groups(story: Any) -> dict[str, Any]:
    evaluation = story.run.read_json("evaluation")
    (result,) = evaluation["experiments"].values()
    groups: dict[str, Any] = result["groups"]
    return groups


def test_groups_of_a_run_earn_more_and_their_intervals_hold_the_truth(
    story: Any,
) -> None:
    """Of 12,000 voters whose lifts lie far apart; the truth is that of the mix sent."""
    told = found_groups(story)
    assert len(told["rows"]) > 1
    assert told["gain"]["low"] > 0
    columns = columns_of(story)
    sent = story.run.table("deliveries").query("message_id != 'control'")
    for row in told["rows"]:
        inside = members(row["conditions"], columns)
        mix = sent.loc[sent["message_id"] == row["message_id"], "channel"]
        lift = story.truth[f"lift__{row['message_id']}"].reindex(columns.index)
        true = lift[inside].mean() * mix.map(story.multiplier).mean()
        half = row["measured"]["high"] - row["measured"]["value"]
        # several groups: half as wide again as the interval of one
        assert abs(row["measured"]["value"] - true) < 1.5 * half


def columns_of(story: Any) -> pd.DataFrame:
    voters = story.run.table("voters")
    reader = Reader.from_json(story.run.read_json("reader"))
    return plain_columns(reader.features(voters), frozenset({"church_member"}))


def test_every_voter_and_every_contact_is_in_one_group(story: Any) -> None:
    evaluation = story.run.read_json("evaluation")
    (rows,) = groups_planned(story.run, evaluation).values()
    plan = story.run.read("plan")
    assert sum(row.n_voters for row in rows) == len(story.run.table("voters"))
    assert sum(row.n_planned for row in rows) == len(plan)
    assert sum(row.cost_usd for row in rows) == pytest.approx(plan["cost_usd"].sum())


def test_the_page_of_a_run_tells_groups_and_places_and_nothing_special(
    story: Any,
) -> None:
    asked = {
        c["column"] for row in found_groups(story)["rows"] for c in row["conditions"]
    }
    assert not asked & {"church_member", "history_share"}
    page = (story.run.folder / "report.html").read_text()
    assert "Groups that the test found" in page
    assert "map/contacts" in page
    assert "church" not in page[page.index("Groups that the test found") :][:6_000]

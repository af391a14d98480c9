"""Groups of voters that a policy tree finds, and what is planned for each group.

The tree asks about columns that a person can read: those of the voter file, with past
elections counted by kind. Special categories, columns of platforms, providers and
partners, and what is derived of neighbours are never asked about.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.declaration import special_columns
from hustings.experiments.results import GroupPlanned
from hustings.experiments.stages.context import Json, Run
from hustings.features.arrays import Bools, Floats
from hustings.features.draft import looks_special
from hustings.features.tables import HISTORY_PREFIX
from hustings.features.training_set import MessageTest
from hustings.features.voter import HISTORY_SHARE
from hustings.training.policy_value.held_out_halves import HALVES, HeldOutHalf
from hustings.training.policy_value.policy_tree import (
    NOBODY,
    NOTHING,
    Condition,
    Cuts,
    LeafOffer,
    Measured,
    honest_tree,
)
from hustings.training.policy_value.spending import Market
from hustings.training.registry.campaign_model import Reader

VOTED_IN = "elections:"
"""Prefix of the number of past elections of a kind that a voter took part in."""
MOST_CUTS = 16
MOST_VALUES = 12
"""A whole number with no more values than this is asked about at each of them."""
AGE_STEP = 5
SCARCE_LEVEL = 0.02
ROUNDED_TO = 2
"""Significant digits of a cut in a number without steps of its own."""


def plain_columns(features: pd.DataFrame, special: frozenset[str]) -> pd.DataFrame:
    """Columns that the policy tree may split on, in a form that a person can read.

    Args:
        features: From `features.voter.voter_features`.
        special: Special categories, which the tree never splits on.

    Returns:
        The readable columns, and for every kind of past election on file the number of
        elections that a voter took part in.
    """
    voted = [c for c in features if str(c).startswith(HISTORY_PREFIX)]
    left_out = {*voted, *special, *([HISTORY_SHARE] if voted else [])}
    readable = [
        str(c)
        for c in features
        if c not in left_out and "__" not in str(c) and not looks_special(str(c))
    ]
    counts: dict[str, pd.Series] = {}
    for column in voted:
        kind = str(column).rsplit("_", 1)[-1]
        name = f"{VOTED_IN}{kind}"
        counts[name] = counts.get(name, 0) + features[column].fillna(0).astype(float)
    return features[readable].assign(**counts)


def cuts_of(column: pd.Series) -> tuple[list[Any], bool]:
    """Cut values of a column, and whether the question is "equal to" (else "below").

    >>> cuts_of(pd.Series([18, 33, 47, 61], name="age"))
    ([20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0], False)
    """
    observed = column.dropna()
    if not pd.api.types.is_numeric_dtype(column):
        share = observed.astype(str).value_counts(normalize=True)
        return sorted(share[share >= SCARCE_LEVEL].index[:MOST_CUTS]), True
    values = np.unique(observed.to_numpy(dtype=np.float64))
    if set(values) <= {0.0, 1.0}:
        return ([1.0] if len(values) == 2 else []), True
    if len(values) == 0:
        return [], False
    if column.name == "age":
        steps = np.arange(0, 120, AGE_STEP, dtype=np.float64)
    elif len(values) <= MOST_VALUES and (values == values.round()).all():
        steps = values
    else:
        at = np.quantile(observed, np.linspace(0, 1, 12)[1:-1])
        steps = np.unique([float(f"{cut:.{ROUNDED_TO}g}") for cut in at])
    return steps[(steps > values[0]) & (steps <= values[-1])][
        :MOST_CUTS
    ].tolist(), False


def _as_numbers(
    columns: pd.DataFrame, questions: Mapping[str, tuple[list[Any], bool]]
) -> tuple[Floats, list[Cuts]]:
    """The columns as a matrix, and the questions about them; levels become codes."""
    X, cuts = np.empty((len(columns), len(questions))), []
    for j, (name, (values, equal)) in enumerate(questions.items()):
        column = columns[name]
        if pd.api.types.is_numeric_dtype(column):
            X[:, j] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            cuts.append(Cuts(tuple(values), equal))
            continue
        text = pd.Index(column.astype(object).map(str, na_action="ignore"))
        code = pd.Index(values, dtype=object).get_indexer(text)
        X[:, j] = np.where(code < 0, np.nan, code)
        cuts.append(Cuts(tuple(float(i) for i in range(len(values))), equal=True))
    return X, cuts


# --- found when the candidates are judged ---


def honest_groups(
    run: Run,
    features: pd.DataFrame,
    test: MessageTest,
    market: Market,
    halves: Sequence[HeldOutHalf],
) -> Json:
    """Groups from one half of a test's voters, with lifts measured on the other.

    Args:
        run: Declares the special categories.
        features: Features of the test's voters, in the test's order.
        test: The experiment, arms as sent.
        market: Price and permission of its voters.
        halves: From `training.policy_value.held_out_halves.judge_halves`.

    Returns:
        `rows`, one a group (`conditions`, its best `message_id` and whether that is
        `worth_sending`, `n` voters of the measuring half, `predicted`, `measured`),
        `gain` over one message for all at the same price of money, `agreement` of the
        trees of both halves, `price` in outcome units a USD.
    """
    columns = plain_columns(
        features, special_columns(run.campaign, features.columns.tolist())
    )
    cuts_of_column = {str(name): cuts_of(columns[name]) for name in columns}
    questions = {name: cuts for name, cuts in cuts_of_column.items() if cuts[0]}
    X, cuts = _as_numbers(columns, questions)
    # the money's price for a tree comes from the model that its own half trained
    price = tuple(_price(halves[1 - k]) for k in range(len(HALVES)))
    tree = honest_tree(
        _offer(test, market, halves), X, cuts, half=halves[1].held.astype(np.int64),
        price=(price[0], price[1]), cluster=test.cluster,
    )  # fmt: skip
    unknown = {name for name in questions if columns[name].isna().any()}
    return {
        "rows": [_row(m, test.messages, questions, unknown) for m in tree.measured],
        "gain": tree.gain.as_dict(),
        "agreement": tree.agreement,
        "price": float(np.mean(price)),
        "n_chose": int(halves[0].held.sum()),
        "n_measured": int(halves[1].held.sum()),
    }


def _price(half: HeldOutHalf) -> float:
    row, path = half.policies["personalised"]
    return path.shadow_price(half.market.spend * len(row))


def _offer(
    test: MessageTest, market: Market, halves: Sequence[HeldOutHalf]
) -> LeafOffer:
    shape = (len(test.Y), len(test.messages))
    lift, predicted = np.zeros(shape), np.zeros(shape)
    for half in halves:
        scores = half.message_scores
        lift[half.held] = scores[:, 1:] - scores[:, :1]
        predicted[half.held] = half.lift
    of_arm = test.message_of_arm[1:] - 1
    allowed = np.column_stack(
        [market.allowed[:, of_arm == m].any(axis=1) for m in range(shape[1])]
    )
    share = test.propensities[:, 1:].mean(axis=0)
    spent = np.bincount(of_arm, weights=share * market.cost)
    cost = spent / np.bincount(of_arm, weights=share)
    drawn = test.by_message().propensities
    compared = (drawn[:, 1:] > 0) & (drawn[:, :1] > 0)
    return LeafOffer(lift, compared, allowed, cost, predicted, test.survey_weight)


def _row(
    measured: Measured,
    messages: Sequence[str],
    questions: Mapping[str, tuple[list[Any], bool]],
    unknown: set[str],
) -> Json:
    nobody = measured.message == NOBODY
    return {
        "conditions": [
            _condition(c, questions, unknown) for c in measured.group.conditions
        ],
        "message_id": None if nobody else messages[measured.message],
        "worth_sending": measured.group.option != NOTHING,
        "n": measured.n,
        "predicted": None if math.isnan(measured.predicted) else measured.predicted,
        "measured": measured.lift and measured.lift.as_dict(),
    }


def _condition(
    condition: Condition,
    questions: Mapping[str, tuple[list[Any], bool]],
    unknown: set[str],
) -> Json:
    name, (values, equal) = list(questions.items())[condition.column]
    is_code = equal and isinstance(values[0], str)
    value = values[int(condition.value)] if is_code else condition.value
    return {
        "column": name,
        "equal" if equal else "below": value,
        "yes": condition.yes,
        "or_unknown": not condition.yes and name in unknown,
    }


# --- counted when the plan is there ---


def groups_planned(run: Run, evaluation: Json) -> dict[str, list[GroupPlanned]]:
    """Count the voters, planned contacts and cost of every group.

    Args:
        run: Holds the plan.
        evaluation: As in `evaluation.json`.

    Returns:
        By experiment, one for each of its groups; empty for an experiment that was
        judged without groups.
    """
    rows_of_experiment = {
        name: result["groups"]["rows"]
        for name, result in evaluation["experiments"].items()
        if result.get("groups")
    }
    if not rows_of_experiment:
        return {}
    voters, contacts = run.table("voters"), run.read("plan")
    features = Reader.from_json(run.read_json("reader")).features(voters)
    columns = plain_columns(
        features, special_columns(run.campaign, features.columns.tolist())
    )
    planned = contacts.set_index("voter_id").reindex(columns.index)
    counts_of_experiment = {}
    for name, rows in rows_of_experiment.items():
        in_audience = _audience(run, name, columns.index)
        counts_of_experiment[name] = [
            _counted(row, columns[in_audience], planned[in_audience]) for row in rows
        ]
    return counts_of_experiment


def _audience(run: Run, experiment_id: str, voter_id: pd.Index) -> pd.Series:
    """Whether each voter is in an experiment's audience: all, or those drawn for it."""
    if run.campaign.plan.audience == "all":
        return pd.Series(data=True, index=voter_id)
    drawn = run.table("deliveries")
    drawn_voters = drawn.loc[drawn["experiment_id"] == experiment_id, "voter_id"]
    return pd.Series(voter_id.isin(drawn_voters), index=voter_id)


def _counted(row: Json, columns: pd.DataFrame, planned: pd.DataFrame) -> GroupPlanned:
    inside = members(row["conditions"], columns)
    of_group = planned[inside]
    contacted = of_group["message_id"].notna()
    return GroupPlanned(
        int(inside.sum()),
        int(contacted.sum()),
        int((of_group["message_id"] == row["message_id"]).sum()),
        float(of_group["cost_usd"].sum()),
    )


def members(conditions: Sequence[Json], columns: pd.DataFrame) -> Bools:
    """Whether each voter meets all conditions of a group, shape (n,).

    Args:
        conditions: As in the rows of `honest_groups`.
        columns: From `plain_columns`.
    """
    inside = np.ones(len(columns), dtype=bool)
    for condition in conditions:
        column = columns[condition["column"]]
        if "below" in condition:
            answer = (column < condition["below"]).fillna(value=False)
        elif isinstance(condition["equal"], str):
            text = column.astype(object).map(str, na_action="ignore")
            answer = pd.Series(text.to_numpy() == condition["equal"])
        else:
            answer = column.eq(condition["equal"]).fillna(value=False)
        inside &= answer.to_numpy(dtype=bool) == condition["yes"]
    return inside

"""What a test can teach, found before training: too few people, units or outcomes.

An experiment that cannot be split, fitted and judged is left out with its reason. A
message (or channel) that few people answered is measured and shown with its interval,
and neither learnt from nor planned: its people are set aside, and the others are
compared as if nobody could have got it, which is a randomised test too.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from hustings.features.tables import CONTROL, SMALLEST_CELL
from hustings.features.training_set import Arm, TrainingSet
from hustings.training.learners.boosting import N_FOLDS
from hustings.training.policy_value.held_out_halves import HALVES

MIN_PEOPLE = 30
"""A side of a comparison that fewer people answered is shown and not planned."""
MIN_DRAWN = 10
"""The same of the units that were drawn, where they are clusters."""
UNITS_A_FOLD = 5
MIN_UNITS = len(HALVES) * N_FOLDS * UNITS_A_FOLD
"""Fewer units cannot be split into two halves of four folds, and errors that are
clustered by so few mean nothing."""
_ARM = ["message_id", "channel"]


@dataclass(frozen=True)
class Learnable:
    """What the tests of a training set can teach.

    Attributes:
        training_set: Without the people of arms that too few answered.
        lacking: Experiment → why nothing can be learnt of it.
        few_answers: Experiment → message → people who answered it, of those that are
            shown and not planned.
        notes: What was set aside and why, a sentence each.
    """

    training_set: TrainingSet
    lacking: Mapping[str, str]
    few_answers: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]


def learnable(
    training_set: TrainingSet, *, outcome: str, direction: float
) -> Learnable:
    """Find what can be learnt of every experiment.

    Args:
        training_set: From the stage features.
        outcome: Name of the outcome.
        direction: 1, or -1 where the outcome was turned round.
    """
    lacking: dict[str, str] = {}
    few_answers: dict[str, Mapping[str, int]] = {}
    notes: list[str] = []
    left_out: dict[str, Collection[Arm]] = {}
    for name, rows in training_set.rows.groupby("experiment_id", sort=True):
        experiment = str(name)
        design = training_set.designs.query("experiment_id == @experiment")
        answered = rows[_has_answered(rows)]
        reason = _lacking_outcome(rows, answered, outcome, direction)
        reason = reason or _lacking_people(rows, answered, design)
        if reason:
            lacking[experiment] = reason
            continue
        small = _small_arms(answered, design)
        if small:
            left_out[experiment] = small
            counts = answered["message_id"].value_counts()
            messages = dict.fromkeys(arm.message_id for arm in small)
            few_answers[experiment] = {m: int(counts.get(m, 0)) for m in messages}
            notes += _notes(experiment, small, answered)
    return Learnable(
        _without(training_set, left_out), lacking, few_answers, tuple(notes)
    )


def _has_answered(rows: pd.DataFrame) -> pd.Series:
    """Whether an outcome is in, of somebody who stands for anybody."""
    seen = rows["outcome"].notna()
    return seen & (rows["weight"] > 0) if "weight" in rows else seen


def _lacking_outcome(
    rows: pd.DataFrame, answered: pd.DataFrame, outcome: str, direction: float
) -> str:
    """Why the outcomes teach nothing; empty where they do."""
    if answered.empty:
        return (
            f"of its {len(rows):,} people nobody's '{outcome}' is in: expected "
            "responses of both sides"
        )
    values = answered["outcome"].unique()
    if len(values) == 1:
        return (
            f"the outcome '{outcome}' has one value, {direction * float(values[0]):g}: "
            "nothing can be learnt"
        )
    treated = answered["message_id"] != CONTROL
    if treated.all() or not treated.any():
        side, other = "sent nothing", "sent a message"
        if treated.all():
            side, other = "sent a message", "sent nothing"
        return (
            f"all {len(answered):,} answers are of people who were {side}, none of "
            f"people who were {other}: an effect is the difference of both"
        )
    return ""


def _lacking_people(
    rows: pd.DataFrame, answered: pd.DataFrame, design: pd.DataFrame
) -> str:
    """Why people or units are too few; empty where they are enough."""
    n_units = answered["unit_id"].nunique()
    if n_units < MIN_UNITS:
        kind = "clusters" if (rows["randomised_by"] == "cluster").any() else "units"
        return (
            f"too few {kind} to train and judge: {n_units:,}, at least {MIN_UNITS} are "
            f"needed ({len(HALVES)} halves of {N_FOLDS} folds of {UNITS_A_FOLD} each)"
        )
    controls = _sides(answered, answered["message_id"] == CONTROL)
    sides = {
        message: _sides(answered, answered["message_id"] == message)
        for message in dict.fromkeys(design["message_id"])
        if message != CONTROL
    }
    if _is_enough(*controls) and any(_is_enough(*n) for n in sides.values()):
        return ""
    counts = ", ".join(
        f"{side} {n:,}" for side, (n, _) in {CONTROL: controls, **sides}.items()
    )
    return (
        f"too few people have answered ({counts}): a comparison needs at least "
        f"{MIN_PEOPLE} on either side, in at least {MIN_DRAWN} units that were drawn; "
        f"with this design about {_needed(rows, answered, design):,} people in all"
    )


def _sides(answered: pd.DataFrame, side: pd.Series) -> tuple[int, int]:
    """People and drawn units on one side of a comparison."""
    return int(side.sum()), int(answered.loc[side, "drawn_id"].nunique())


def _is_enough(n_people: int, n_drawn: int) -> bool:
    return n_people >= MIN_PEOPLE and n_drawn >= MIN_DRAWN


def _needed(rows: pd.DataFrame, answered: pd.DataFrame, design: pd.DataFrame) -> int:
    """People in a test of this design that has enough on two sides, as a rule."""
    share = design.groupby("message_id")["probability"].sum()
    share = share / share.sum()
    smaller = min(float(share.get(CONTROL, 0.0)), float(share.drop(CONTROL).max()))
    answers = len(answered) / len(rows)
    people = MIN_PEOPLE / max(smaller * answers, 1e-6)
    a_unit = len(answered) / max(answered["unit_id"].nunique(), 1)
    return math.ceil(max(people, MIN_UNITS * a_unit / max(answers, 1e-6)))


def _small_arms(answered: pd.DataFrame, design: pd.DataFrame) -> list[Arm]:
    """Arms of a message, or of a channel, that too few answered."""
    arms = design.loc[design["message_id"] != CONTROL, _ARM].drop_duplicates()
    small: list[Arm] = []
    for column in _ARM:
        for value in arms[column].unique():
            if not _is_enough(*_sides(answered, answered[column] == value)):
                of_value = arms[arms[column] == value]
                small += [Arm(*pair) for pair in of_value.itertuples(index=False)]
    return list(dict.fromkeys(small))


def _notes(experiment: str, small: Sequence[Arm], answered: pd.DataFrame) -> list[str]:
    """A sentence for each arm that too few answered; one for all of many."""
    needs = f"{MIN_PEOPLE} people (in {MIN_DRAWN} drawn units) that a comparison needs"
    if len(small) <= MOST_ALONE:
        return [
            f"experiment {experiment}: {arm.message_id} by {arm.channel} was answered "
            f"by {_people(arm, answered)}, not by the {needs}: its effect is measured, "
            "and it is not planned"
            for arm in small
        ]
    arms = ", ".join(f"{arm.message_id} by {arm.channel}" for arm in small)
    return [
        f"experiment {experiment}: {len(small)} of its arms were not answered by the "
        f"{needs}; their effects are measured, and they are not planned: {arms}"
    ]


MOST_ALONE = 5
"""Arms of an experiment that get a sentence each."""


def _people(arm: Arm, answered: pd.DataFrame) -> str:
    """How many answered, as far as a page may say it."""
    of_arm = (answered["message_id"] == arm.message_id) & (
        answered["channel"] == arm.channel
    )
    n = int(of_arm.sum())
    if n and n < SMALLEST_CELL:
        return f"fewer than {SMALLEST_CELL} people"
    return f"{n:,} people" if n else "nobody"


def _without(
    training_set: TrainingSet, left_out: Mapping[str, Collection[Arm]]
) -> TrainingSet:
    """The training set as if nobody could have got some arms.

    Whoever got none of them got the others with the design's probabilities, given that:
    p / (1 − what was left out).
    """
    if not left_out:
        return training_set
    gone = pd.MultiIndex.from_tuples(
        [(name, *arm) for name, arms in left_out.items() for arm in arms]
    )
    key = ["experiment_id", *_ARM]
    rows, designs = training_set.rows, training_set.designs
    stays = ~pd.MultiIndex.from_frame(rows[key]).isin(gone)
    designs = designs[~pd.MultiIndex.from_frame(designs[key]).isin(gone)]
    block = ["experiment_id", "block"]
    total = designs.groupby(block)["probability"].sum().rename("total").reset_index()
    designs = designs.merge(total, on=block, how="left")
    share = designs.pop("total")
    designs["probability"] = (designs["probability"] / share).where(
        designs["experiment_id"].isin(left_out), designs["probability"]
    )
    rows = rows[stays].merge(total, on=block, how="left")
    share = rows.pop("total").where(rows["experiment_id"].isin(left_out), 1.0)
    rows["propensity"] = rows["propensity"] / share
    features = training_set.features[stays].reset_index(drop=True)
    return TrainingSet(rows.reset_index(drop=True), features, designs)

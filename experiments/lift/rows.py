"""Decisions of all plans and their outcomes, as rows with known probabilities.

A plan decides its voters at once. The probability of nothing and of every arm, given
that a voter was decided, stands in the designs of the plan (by block), so that a lift
needs to know nothing else of how the plan explored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.tables import CONTROL, NO_CHANNEL, TableError
from hustings.features.training_set import household, link_error, linked_outcome
from hustings.training.measured_lift.adaptive import Decisions

TOLERANCE = 1e-6
ANY_SEGMENT = "everyone"
_BLOCK = ["experiment_id", "block"]


@dataclass(frozen=True)
class LiftSettings:
    """Terms declared before the outcomes came.

    Attributes:
        holdout: Share of voters held out, by plan.
        as_of: When the lift is looked at.
        outcome: Its name in RESPONSES.
        absent: What a due outcome that is not there means.
        horizon_days: Planned days with decisions, for which intervals are tuned.
        lag_days: From a plan's last day to the day when its outcomes are due.
        due_on: Day when all outcomes are due (an election's), in place of a lag.
        direction: -1 where lower is better.
        repeats: `first`: the effect of a voter's first decision, with all that
            followed from it. Later ones take no part.
        surrogate: Outcome that comes earlier, None for none.
        surrogate_lag_days: From a plan's last day to the day when the surrogate is due.
        seed: Of the folds.
    """

    holdout: Mapping[str, float]
    as_of: pd.Timestamp
    outcome: str
    absent: Literal["zero", "missing"]
    horizon_days: int
    lag_days: int = 0
    due_on: pd.Timestamp | None = None
    direction: float = 1.0
    repeats: Literal["first", "carry_over"] = "first"
    surrogate: str | None = None
    surrogate_lag_days: int = 0
    seed: int = 0


@dataclass(frozen=True)
class DecidedRows:
    """Decisions with their probabilities; axis 0 is the decision.

    Attributes:
        rows: ASSIGNMENTS with plan_id, decided_on, voted_before, batch (order of the
            plan), h, nth (decision of the voter, from 0), household, segment, due, Y
            (higher is better, NaN where missing or not due), link_error (relative error
            of the probability of its link), S (the surrogate as Y).
        arms: Message and channel of every arm, length A.
        got: What was assigned: 0 for nothing, k for the k-th arm, shape (n,).
        intended: What the plan alone would have sent, likewise, shape (n,).
        design: Probability of nothing and every arm given that the voter was decided,
            shape (n, 1 + A).
    """

    rows: pd.DataFrame
    arms: tuple[tuple[str, str], ...]
    got: Ints
    intended: Ints
    design: Floats

    def take(self, chosen: Bools) -> Self:
        """Some of the decisions, in their order."""
        return type(self)(
            self.rows[chosen].reset_index(drop=True), self.arms, self.got[chosen],
            self.intended[chosen], self.design[chosen],
        )  # fmt: skip

    @property
    def assigned_propensity(self) -> Floats:
        """Probability of what was assigned, given that the voter was decided, (n,)."""
        return np.asarray(self.design[np.arange(len(self.got)), self.got])

    @property
    def meant_or_nothing(self) -> Bools:
        """Voters with a plan who got what it says, or nothing, shape (n,)."""
        as_meant: Bools = (self.got == 0) | (self.got == self.intended)
        return np.asarray((self.intended > 0) & as_meant, dtype=bool)

    @property
    def days(self) -> int:
        """Different days of contacts, or of plans for voters who got none."""
        return int(self.rows["decided_on"].nunique())


def decided_rows(
    decisions: pd.DataFrame,
    designs: pd.DataFrame,
    responses: pd.DataFrame,
    voters: pd.DataFrame,
    settings: LiftSettings,
) -> DecidedRows:
    """One row per decision, in the order of the plans.

    Args:
        decisions: ASSIGNMENTS with plan_id, decided_on and voted_before, of voters who
            were decided.
        designs: DESIGNS of the plans' blocks, named as in the decisions.
        responses: RESPONSES.
        voters: voter_id; household_id and segment where they are known.
        settings: Terms declared.

    Raises:
        TableError: If a plan has no terms, a block no design, or the probabilities of
            an assignment are not those of the design and the terms.
    """
    if decisions.empty:
        raise TableError("expected the assignments of at least one plan, got none")
    rows = _in_order(decisions, settings)
    rows["nth"] = rows.groupby("voter_id", sort=False).cumcount()
    rows = _with_voters(rows, voters)
    rows["due"] = _due(rows, settings.lag_days, settings.due_on, settings.as_of)
    answers = _answers(rows, responses, settings.outcome, settings)
    rows["Y"], rows["link_error"] = answers["y"], answers["link_error"]
    # zero stands for nothing only once it could have come
    if settings.absent == "zero":
        rows["Y"] = rows["Y"].fillna(0.0)
    rows["Y"] = settings.direction * rows["Y"].where(rows["due"])
    if settings.surrogate is not None:
        due = _due(rows, settings.surrogate_lag_days, None, settings.as_of)
        early = _answers(rows, responses, settings.surrogate, settings)
        rows["S"] = early["y"].where(due)
    decided = _with_design(rows, designs)
    _require_probabilities(decided)
    return decided


def _in_order(decisions: pd.DataFrame, settings: LiftSettings) -> pd.DataFrame:
    """Decisions of the plans made by then, by the first day of their plan."""
    absent = sorted(set(decisions["plan_id"]) - set(settings.holdout))
    if absent:
        raise TableError(
            f"assignments of {absent[0]}: expected the plan's terms with its holdout "
            f"share, got terms of {sorted(settings.holdout)}"
        )
    rows = decisions.assign(decided_on=pd.to_datetime(decisions["decided_on"]))
    first = rows.groupby("plan_id", sort=False)["decided_on"].min()
    first = first[first <= settings.as_of].sort_values(kind="stable")
    batch = pd.Series(np.arange(len(first)), index=first.index)
    rows = rows[rows["plan_id"].isin(first.index)]
    rows = rows.assign(
        batch=rows["plan_id"].map(batch), h=rows["plan_id"].map(dict(settings.holdout))
    )
    return rows.sort_values(["batch"], kind="stable", ignore_index=True)


def _with_voters(rows: pd.DataFrame, voters: pd.DataFrame) -> pd.DataFrame:
    present = pd.DataFrame(
        {"voter_id": voters["voter_id"], "household": household(voters)}
    )
    present["segment"] = voters.get("segment", ANY_SEGMENT)
    merged = rows.merge(present, on="voter_id", how="left", validate="many_to_one")
    # a voter who has left the voter file since counts on, as a household of one
    merged["household"] = merged["household"].fillna(merged["voter_id"])
    merged["segment"] = merged["segment"].fillna("unknown")
    return merged


def _due(
    rows: pd.DataFrame, lag_days: int, due_on: pd.Timestamp | None, as_of: pd.Timestamp
) -> pd.Series:
    """Whether the outcomes of a plan are due: of all its voters at once.

    Of a plan of several days, voters who are sent nothing have no day of their own; to
    compare them with those sent on its first days alone would compare unlike voters.
    """
    last = rows.groupby("plan_id", sort=False)["decided_on"].transform("max")
    if due_on is not None:
        return (last <= as_of) & (as_of >= due_on)
    return last + pd.Timedelta(days=lag_days) <= as_of


def _answers(
    rows: pd.DataFrame, responses: pd.DataFrame, outcome: str, settings: LiftSettings
) -> pd.DataFrame:
    """The latest answer of each voter that was in when looked at.

    Whichever contact it answers: the effect of a decision is that on the voter, with
    all that followed. What was said before the decision cannot be due to it. An answer
    that came through an uncertain link is corrected as in training.

    Returns:
        Columns y and link_error (relative error of the link's probability), NaN where
        nobody answered.
    """
    of_outcome = responses[responses["outcome"] == outcome]
    of_outcome = of_outcome[pd.to_datetime(of_outcome["observed_at"]) <= settings.as_of]
    latest = of_outcome.sort_values("observed_at", kind="stable").drop_duplicates(
        "voter_id", keep="last"
    )
    if latest.empty:
        return pd.DataFrame({"y": np.nan, "link_error": np.nan}, index=rows.index)
    answer = latest.set_index("voter_id").reindex(rows["voter_id"])
    answer = answer.set_index(rows.index)
    since = pd.to_datetime(answer["observed_at"]) >= rows["decided_on"]
    after: pd.Series = answer["value"].astype(np.float64).where(since)
    error = pd.Series(0.0, index=rows.index)
    if "link_probability_se" in answer:
        error = link_error(answer)
    if "link_probability" in answer:
        block = rows[["experiment_id", "block"]]
        after = linked_outcome(block.assign(y=after), answer["link_probability"])
    return pd.DataFrame({"y": after, "link_error": error.where(after.notna())})


def _with_design(rows: pd.DataFrame, designs: pd.DataFrame) -> DecidedRows:
    """Decisions with the probabilities of their blocks."""
    used = designs[_keys(designs, _BLOCK).isin(_keys(rows, _BLOCK))]
    arms = arms_of(used, rows)
    code, blocks = pd.factorize(_keys(used, _BLOCK))
    table = np.zeros((len(blocks), 1 + len(arms)))
    np.add.at(
        table, (code, _arm_of(used["message_id"], used["channel"], arms)),
        used["probability"].to_numpy(dtype=np.float64),
    )  # fmt: skip
    at = pd.Index(blocks).get_indexer(_keys(rows, _BLOCK))
    if (at < 0).any():
        first = rows[at < 0].iloc[0]
        raise TableError(
            f"plan {first['plan_id']}: expected a design of block {first['block']!r}, "
            f"got none ({int((at < 0).sum())} such assignments)"
        )
    return DecidedRows(
        rows, arms, _arm_of(rows["message_id"], rows["channel"], arms),
        _arm_of(rows["intended_message_id"], rows["intended_channel"], arms),
        table[at],
    )  # fmt: skip


def _keys(frame: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(frame[columns].astype(object))


def _require_probabilities(decided: DecidedRows) -> None:
    """Refuse assignments whose probabilities are not those of their plan.

    Raises:
        TableError: Naming the plan, what was expected and what came.
    """
    rows, h = decided.rows, decided.rows["h"].to_numpy(dtype=np.float64)
    if not (decided.assigned_propensity > 0).all():
        first = rows[~(decided.assigned_propensity > 0)].iloc[0]
        raise TableError(
            f"plan {first['plan_id']}: expected {first['message_id']} by "
            f"{first['channel']} among the arms of block {first['block']!r}, got none"
        )
    held = (rows["role"] == "holdout").to_numpy()
    propensity = rows["propensity"].to_numpy(dtype=np.float64)
    _refuse(rows, held, propensity, h, "propensity")
    # of voters with a plan: the total probability of an arm by design and terms
    in_pool = h + _free(decided)
    nothing = decided.got == 0
    design = (
        np.where(nothing, 1.0 - decided.design[:, 0], decided.assigned_propensity)
        * in_pool
    )
    expected = np.where(nothing, 1.0 - design, design)
    total = rows["arm_propensity"].to_numpy(dtype=np.float64)
    _refuse(rows, decided.intended > 0, total, expected, "arm_propensity")


def _refuse(
    rows: pd.DataFrame, checked: Bools, got: Floats, expected: Floats, column: str
) -> None:
    off = checked & (np.abs(got - expected) > TOLERANCE)
    if off.any():
        k = int(np.argmax(off))
        row = rows.iloc[k]
        raise TableError(
            f"plan {row['plan_id']}: expected {column} {expected[k]:.6f} for role "
            f"{row['role']} by the plan's terms and design (holdout {row['h']}, in the "
            f"pool with {row['pool_probability']:.6f}), got {got[k]:.6f} "
            f"({int(off.sum())} such assignments)"
        )


def _free(decided: DecidedRows) -> Floats:
    """Probability that a voter is not held out and still in the pool, shape (n,)."""
    h = decided.rows["h"].to_numpy(dtype=np.float64)
    pool = decided.rows["pool_probability"].to_numpy(dtype=np.float64)
    return np.asarray((1.0 - h) * pool)


def codes(values: pd.Series) -> Ints:
    """Whole numbers from 0 for what a column holds, in order of first appearance."""
    return np.asarray(pd.factorize(values)[0], dtype=np.int64)


def delivered(decided: DecidedRows, messages: tuple[str, ...]) -> Decisions:
    """The planned arm against nothing, among voters with a plan.

    A voter with a plan gets what it says, nothing, or by exploration another arm. Given
    that it was one of the first two, the probabilities are those of the design. Which
    of them it was does not depend on the voter beyond the block.

    Args:
        decided: Voters with a plan who got what it says, or nothing.
        messages: The arms, whatever the channel.
    """
    n = len(decided.got)
    nothing = decided.design[:, 0]
    meant = decided.design[np.arange(n), decided.intended]
    message = pd.Index(messages).get_indexer(
        pd.Index(decided.rows["intended_message_id"])
    )
    propensities = np.zeros((n, 1 + len(messages)))
    propensities[:, 0] = nothing / (nothing + meant)
    propensities[np.arange(n), message + 1] = meant / (nothing + meant)
    return Decisions(
        day=codes(decided.rows["batch"]),
        arm=np.where(decided.got > 0, message + 1, 0),
        propensities=propensities,
        Y=decided.rows["Y"].to_numpy(dtype=np.float64),
        cluster=codes(decided.rows["household"]),
        intended=message + 1,
    )


def explored(decided: DecidedRows) -> Decisions:
    """All decided voters, standing for the pools of their plans.

    A voter with a plan is decided for certain; one without only if drawn to explore,
    and then stands for as many as the inverse of that probability.
    """
    rows = decided.rows
    drawn = rows["propensity"].to_numpy(dtype=np.float64) / decided.assigned_propensity
    in_pool = rows["h"].to_numpy(dtype=np.float64) + _free(decided)
    chance = np.where(decided.intended > 0, 1.0, drawn / in_pool)
    return Decisions(
        day=codes(rows["batch"]),
        arm=decided.got,
        propensities=decided.design,
        Y=rows["Y"].to_numpy(dtype=np.float64),
        cluster=codes(rows["household"]),
        intended=decided.intended,
        survey_weight=1.0 / chance,
    )


def _arm_of(
    message: pd.Series, channel: pd.Series, arms: tuple[tuple[str, str], ...]
) -> Ints:
    """0 for nothing, k for the k-th arm, shape (n,)."""
    options = [(CONTROL, NO_CHANNEL), *arms]
    pairs = pd.MultiIndex.from_arrays([message.astype(object), channel.astype(object)])
    return np.asarray(pd.MultiIndex.from_tuples(options).get_indexer(pairs))


def arms_of(designs: pd.DataFrame, rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Message and channel of every arm of the designs and the plans, sorted."""
    offered = designs[["message_id", "channel"]].drop_duplicates().to_numpy().tolist()
    sent = rows[["message_id", "channel"]].drop_duplicates().to_numpy().tolist()
    meant = rows[["intended_message_id", "intended_channel"]].drop_duplicates()
    every = [*offered, *sent, *meant.to_numpy().tolist()]
    pairs = {(str(message), str(channel)) for message, channel in every}
    return tuple(sorted(pair for pair in pairs if pair[0] != CONTROL))

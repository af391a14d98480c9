"""Assignments of all days and what came of them, as rows with known chances."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Ints
from hustings.features.tables import CONTROL, TableError
from hustings.features.training_set import household
from hustings.training.measured_lift.adaptive import Decisions, decided_propensities

TOLERANCE = 1e-6
ANY_SEGMENT = "everyone"


@dataclass(frozen=True)
class Day:
    """What a day's plan left to chance.

    Attributes:
        holdout: Share h of persons who are held out for the whole campaign.
        explored: Probability ε to explore of who is not held out.
    """

    holdout: float
    explored: float


@dataclass(frozen=True)
class LiftTerms:
    """What was declared before the outcomes came.

    Attributes:
        days: Of every plan, by ISO date.
        as_of: When it is looked at.
        outcome: Its name in RESPONSES.
        absent: What a due outcome that is not there means.
        horizon_days: Planned days with decisions, for which intervals are tuned.
        lag_days: From a decision to the day when its outcome is due.
        due_on: Day when all outcomes are due (an election's), in place of a lag.
        direction: -1 where lower is better.
        repeats: `first`: the effect of a voter's first decision, with all that
            followed from it. Later ones take no part.
        surrogate: Outcome that comes earlier, None for none.
        surrogate_lag_days: From a decision to the day when the surrogate is due.
        seed: Of the folds.
    """

    days: Mapping[str, Day]
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


def decided_rows(
    assignments_by_day: Mapping[str, pd.DataFrame],
    responses: pd.DataFrame,
    voters: pd.DataFrame,
    terms: LiftTerms,
) -> pd.DataFrame:
    """One row per decision, in the order of the days.

    Args:
        assignments_by_day: ASSIGNMENTS by ISO date; the undecided may be among them.
        responses: RESPONSES.
        voters: voter_id; household_id and segment where they are known.
        terms: What was declared.

    Returns:
        ASSIGNMENTS with day (ISO), h, epsilon,
        nth (decision of the voter, from 0), household, segment, due, Y (higher is
        better, NaN where missing or not due), S (the surrogate likewise).

    Raises:
        TableError: If a day has no terms, or its propensities are not those of them.
    """
    parts = []
    for day in sorted(assignments_by_day):
        if day not in terms.days:
            raise TableError(
                f"assignments of {day}: expected the plan's terms with its holdout "
                f"and exploration shares, got terms of {sorted(terms.days)}"
            )
        parts.append(_of_day(assignments_by_day[day], day, terms.days[day]))
    if not parts:
        raise TableError("expected the assignments of at least one plan, got none")
    rows = pd.concat(parts, ignore_index=True)
    rows["nth"] = rows.groupby("voter_id", sort=False).cumcount()
    rows = _with_voters(rows, voters)
    rows["due"] = _due(rows["day"], terms.lag_days, terms.due_on, terms.as_of)
    rows["Y"] = _answers(rows, responses, terms.outcome, terms)
    # zero stands for nothing only once it could have come
    if terms.absent == "zero":
        rows["Y"] = rows["Y"].fillna(0.0)
    rows["Y"] = terms.direction * rows["Y"].where(rows["due"])
    if terms.surrogate is not None:
        due = _due(rows["day"], terms.surrogate_lag_days, None, terms.as_of)
        rows["S"] = _answers(rows, responses, terms.surrogate, terms).where(due)
    return rows


def _of_day(assignments: pd.DataFrame, day: str, own: Day) -> pd.DataFrame:
    planned = assignments["intended_message_id"] != CONTROL
    explored = assignments["role"] == "explore"
    rows = assignments[planned | explored].assign(
        day=day, h=own.holdout, epsilon=own.explored
    )
    expected = np.where(
        rows["role"] == "plan",
        (1 - own.holdout) * rows["pool_probability"] * (1 - own.explored),
        np.where(rows["role"] == "holdout", own.holdout, rows["propensity"]),
    )
    off = np.abs(rows["propensity"].to_numpy(dtype=np.float64) - expected) > TOLERANCE
    if off.any():
        first = rows[off].iloc[0]
        raise TableError(
            f"assignments of {day}, voter {first['voter_id']}: expected propensity "
            f"{expected[off][0]:.6f} for role {first['role']} by the plan's terms "
            f"(holdout {own.holdout}, explored {own.explored}, in the pool with "
            f"{first['pool_probability']:.6f}), got {first['propensity']:.6f} "
            f"({int(off.sum())} such rows)"
        )
    return rows


def _with_voters(rows: pd.DataFrame, voters: pd.DataFrame) -> pd.DataFrame:
    known = pd.DataFrame(
        {"voter_id": voters["voter_id"], "household": household(voters)}
    )
    known["segment"] = voters.get("segment", ANY_SEGMENT)
    found = rows.merge(known, on="voter_id", how="left", validate="many_to_one")
    # who has left the voter file since counts on, as a household of one
    found["household"] = found["household"].fillna(found["voter_id"])
    found["segment"] = found["segment"].fillna("unknown")
    return found


def _due(
    day: pd.Series, lag_days: int, due_on: pd.Timestamp | None, as_of: pd.Timestamp
) -> pd.Series:
    decided = pd.to_datetime(day)
    if due_on is not None:
        return (decided <= as_of) & (as_of >= due_on)
    return decided + pd.Timedelta(days=lag_days) <= as_of


def _answers(
    rows: pd.DataFrame, responses: pd.DataFrame, outcome: str, terms: LiftTerms
) -> pd.Series:
    """The latest answer of each voter that was in when looked at."""
    mine = responses[responses["outcome"] == outcome]
    mine = mine[pd.to_datetime(mine["observed_at"]) <= terms.as_of]
    latest = mine.sort_values("observed_at", kind="stable").drop_duplicates(
        "voter_id", keep="last"
    )
    latest = latest.set_index("voter_id")
    value = rows["voter_id"].map(latest["value"]).astype(np.float64)
    # what was said before the decision cannot be due to it
    said = pd.to_datetime(rows["voter_id"].map(latest["observed_at"]))
    after: pd.Series = value.where(said > pd.to_datetime(rows["day"]))
    return after


def codes(values: pd.Series) -> Ints:
    """Whole numbers from 0 for what a column holds, in order of first appearance."""
    return np.asarray(pd.factorize(values)[0], dtype=np.int64)


def delivered(rows: pd.DataFrame, messages: tuple[str, ...]) -> Decisions:
    """Planned and held out among those with a plan: two chances each.

    Who was drawn to explore is left out: whether somebody is does not depend on the
    plan, so that those left are compared as they would have been.

    Args:
        rows: From `decided_rows`, role plan or holdout, with a plan each.
        messages: The arms, whatever the channel.
    """
    h = rows["h"].to_numpy(dtype=np.float64)
    p = (1 - h) * rows["pool_probability"].to_numpy() * (1 - rows["epsilon"].to_numpy())
    intended = pd.Index(messages).get_indexer(pd.Index(rows["intended_message_id"])) + 1
    sent = (rows["role"] == "plan").to_numpy()
    chances = np.zeros((len(rows), 1 + len(messages)))
    chances[:, 0] = h / (h + p)
    chances[np.arange(len(rows)), intended] = p / (h + p)
    return Decisions(
        day=codes(rows["day"]),
        arm=np.where(sent, intended, 0),
        propensities=chances,
        Y=rows["Y"].to_numpy(dtype=np.float64),
        cluster=codes(rows["household"]),
        intended=intended,
    )


def has_all_chances(rows: pd.DataFrame) -> bool:
    """Whether rows tell the chance of what they got whatever their role."""
    return "arm_propensity" in rows and bool(rows["arm_propensity"].notna().all())


def explored(rows: pd.DataFrame, arms: tuple[tuple[str, str], ...]) -> Decisions:
    """All who were decided, standing for the pools of their days.

    Where rows do not tell the chance of what they got whatever their role, only those
    drawn to explore are known well enough, and only they take part.

    Args:
        rows: From `decided_rows`.
        arms: Message and channel of every arm.
    """
    everybody = has_all_chances(rows)
    if not everybody:
        rows = rows[rows["role"] == "explore"]
    got = _arm_of(rows, "message_id", "channel", arms)
    z = _arm_of(rows, "intended_message_id", "intended_channel", arms)
    h, epsilon = rows["h"].to_numpy(), rows["epsilon"].to_numpy()
    free = (1 - h) * rows["pool_probability"].to_numpy()
    even = np.full((len(rows), 1 + len(arms)), 1.0 / (1 + len(arms)))
    if not everybody:
        own, nominal, stands_for = (
            rows["propensity"].to_numpy() / (free * epsilon), even, None
        )  # fmt: skip
    else:
        nominal, decided = decided_propensities(
            z, even, holdout=h, survival=rows["pool_probability"].to_numpy(),
            epsilon=epsilon,
        )  # fmt: skip
        stands_for = 1.0 / decided
        own = _own(rows, got, z) / (decided * (h + free))
    return Decisions(
        day=codes(rows["day"]),
        arm=got,
        propensities=nominal,
        Y=rows["Y"].to_numpy(dtype=np.float64),
        cluster=codes(rows["household"]),
        intended=z,
        own=own,
        stands_for=stands_for,
    )


def _own(rows: pd.DataFrame, got: Ints, z: Ints) -> Floats:
    """Total chance to be decided on the day and get what each got, shape (n,).

    `arm_propensity` of nothing counts all who get nothing, also those who were decided
    before: of who has a plan it is taken from what is left for nothing.
    """
    total = rows["arm_propensity"].to_numpy(dtype=np.float64)
    h = rows["h"].to_numpy(dtype=np.float64)
    free = (1 - h) * rows["pool_probability"].to_numpy(dtype=np.float64)
    nothing = np.where(z > 0, h + free - (1.0 - total), rows["propensity"].to_numpy())
    return np.where(got > 0, total, nothing)


def _arm_of(
    rows: pd.DataFrame, message: str, channel: str, arms: tuple[tuple[str, str], ...]
) -> Ints:
    pairs = pd.MultiIndex.from_frame(rows[[message, channel]])
    return np.asarray(pd.MultiIndex.from_tuples(arms).get_indexer(pairs) + 1)


def arms_of(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Message and channel of all that was sent or meant to be, sorted."""
    sent = rows[["message_id", "channel"]].to_numpy().tolist()
    meant = rows[["intended_message_id", "intended_channel"]].to_numpy().tolist()
    pairs = {(str(m), str(c)) for m, c in sent + meant if m != CONTROL}
    return tuple(sorted(pairs))

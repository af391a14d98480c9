"""`measured_lift`: what a plan really brought, against its own holdout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.api.arguments import (
    moment_of,
    name_text,
    unit_per_point_of,
    whole_number,
)
from hustings.experiments.api.frames import as_pandas, column, names_of, numbers_of
from hustings.experiments.api.planning import PlannedContacts
from hustings.experiments.api.randomised import is_binary
from hustings.experiments.lift import LiftSettings, MeasuredLift, sentences
from hustings.experiments.lift import measured_lift as lift_of_plans
from hustings.experiments.lift.summary import table
from hustings.experiments.plans.designs import block_name, is_decided
from hustings.experiments.report.markup import html_table, joined, paragraph
from hustings.features.asof import naive_utc_times

_OUTCOME = "outcome"


@dataclass(frozen=True)
class PlanLift:
    """Measured lift of plans, as `hustings lift` gives it.

    Attributes:
        measured: All of it.
        unit_per_point: Outcome units in one point.
        notes: Rows of the outcomes that were set aside, a sentence for each reason.
    """

    measured: MeasuredLift
    unit_per_point: float
    notes: tuple[str, ...]

    @property
    def lifts(self) -> pd.DataFrame:
        """A row for each measured lift, in outcome units.

        `once_` are ends of 95 % intervals for one look, `always_` for all looks
        together.
        """
        return table(self.measured)

    @property
    def trusted(self) -> bool:
        """Whether no alarm (sample ratio, attrition) forbids to read the lifts."""
        return self.measured.trusted

    @property
    def sentences(self) -> list[str]:
        """Conclusions, and what is not known yet."""
        return sentences(self.measured, per_point=self.unit_per_point)

    def __str__(self) -> str:
        return "\n".join([*self.sentences, *self.notes])

    def _repr_html_(self) -> str:
        unit = self.unit_per_point
        rows = [
            (row["estimand"], row["message_id"] or "all", row["segment"] or "all",
             f"{row['n_sent']:,}", f"{row['n_compared']:,}",
             f"{row['lift'] / unit:+.2f}",
             f"{row['always_low'] / unit:+.2f} to {row['always_high'] / unit:+.2f}")
            for row in self.lifts.to_dict("records")
        ]  # fmt: skip
        header = ("Estimand", "Message", "Segment", "Sent", "Compared",
                  "Lift in points", "95 % at every look")  # fmt: skip
        return joined(
            [
                *map(paragraph, self.sentences),
                html_table("Measured lift", header, rows, words=3),
                *map(paragraph, self.notes),
            ]
        )


def measured_lift(
    plans: PlannedContacts | Sequence[PlannedContacts],
    outcomes: Any,
    *,
    as_of: Any,
    absent: str = "missing",
    lag_days: int = 0,
    horizon_days: int | None = None,
    features: Any = None,
    segment: Any = None,
    unit_per_point: float | None = None,
    random_state: int = 0,
) -> PlanLift:
    """Lift of plans against their holdout, valid at every look.

    Args:
        plans: From `plan`: one, or those of several days.
        outcomes: A frame with voter_id and value, and observed_on where answers came
            on different days (the day of `as_of` without). Of several answers of a
            voter the latest counts. The outcome is better when higher. What is set
            aside is counted in the notes of the result.
        as_of: When it is looked at: a day or moment, of UTC where it names no zone.
        absent: What a due outcome that is not there means: "missing", or "zero".
        lag_days: From a plan's last day to the day when its outcomes are due.
        horizon_days: Planned days with contacts, for which the intervals are tuned;
            those of the plans without.
        features: A frame with voter_id and numbers from before the plans, which make
            intervals narrower and move no lift.
        segment: A frame with voter_id and segment.
        unit_per_point: Outcome units in one point; None for .01 where values are 0 or
            1, else 1.
        random_state: Seed of the folds.

    Raises:
        ValueError: If an argument is not as expected, two answers of a voter at one
            moment differ, or assignments and designs contradict.
    """
    planned = [plans] if isinstance(plans, PlannedContacts) else list(plans)
    names = [f"{p.name} {p.start_on:%Y-%m-%d}" for p in planned]
    if not planned or len(set(names)) < len(names):
        raise ValueError(
            "plans: expected at least one plan, each of a name and first day of its "
            f"own, got {', '.join(names) or 'none'}"
        )
    if absent not in ("missing", "zero"):
        raise ValueError(f"absent: expected 'missing' or 'zero', got {absent!r}")
    moment = moment_of(as_of, "as_of")
    first = min(p.start_on for p in planned)
    if moment < first:
        raise ValueError(
            f"as_of: expected a moment from {first:%Y-%m-%d} on, the first day of the "
            f"plans, got {moment}"
        )
    decisions = pd.concat(
        [_decisions(name, p) for name, p in zip(names, planned, strict=True)],
        ignore_index=True,
    )
    designs = pd.concat(
        [
            p.designs.assign(block=[block_name(name, b) for b in p.designs["block"]])
            for name, p in zip(names, planned, strict=True)
        ],
        ignore_index=True,
    )
    days = decisions["decided_on"].nunique()
    if horizon_days is not None:
        days = whole_number(horizon_days, "horizon_days", 1)
    offered = pd.concat([p.assignments["voter_id"] for p in planned])
    responses, notes = _responses(
        _answers(outcomes, moment), decisions, moment, offered
    )
    known_before = _features(features)
    if features is not None:
        notes += _without(decisions, known_before.index, "features")
    settings = LiftSettings(
        holdout={n: p.holdout_share for n, p in zip(names, planned, strict=True)},
        as_of=moment, outcome=_OUTCOME,
        absent="zero" if absent == "zero" else "missing",
        horizon_days=days, lag_days=whole_number(lag_days, "lag_days", 0),
        seed=whole_number(random_state, "random_state", 0),
    )  # fmt: skip
    measured = lift_of_plans(
        decisions, designs, responses,
        pd.DataFrame({c: [] for c in ("voter_id", "plan_id", "channel", "delivered")}),
        _voters(planned, segment), settings,
        features=known_before,
    )  # fmt: skip
    point = unit_per_point_of(unit_per_point, is_binary=is_binary(responses["value"]))
    return PlanLift(measured, point, notes)


def _decisions(name: str, planned: PlannedContacts) -> pd.DataFrame:
    """Voters whom a plan decided, as the campaign's record has them."""
    rows = planned.assignments[is_decided(planned.assignments)].reset_index(drop=True)
    send_on = planned.contacts.set_index("voter_id")["send_on"]
    return rows.assign(
        plan_id=name,
        # no ballots are given here
        voted_before=False,
        decided_on=send_on.reindex(rows["voter_id"])
        .fillna(planned.start_on)
        .to_numpy(),
        block=[block_name(name, b) for b in rows["block"]],
    )


def _of_voters(frame: Any, argument: str, *columns: str) -> pd.DataFrame:
    """A frame about voters, with a fresh index.

    Raises:
        ValueError: If a column is lacking, or there are no rows.
    """
    rows = as_pandas(frame, argument).reset_index(drop=True)
    missing = [name for name in ("voter_id", *columns) if name not in rows]
    if missing:
        raise ValueError(
            f"{argument}: expected columns {', '.join(('voter_id', *columns))}, got "
            f"none named {missing[0]!r}"
        )
    if rows.empty:
        raise ValueError(f"{argument}: expected rows, got none")
    return rows


def _once_each(frame: Any, argument: str, *columns: str) -> pd.DataFrame:
    """`_of_voters` with each voter once, by name.

    Raises:
        ValueError: If a voter has no name, or is there twice.
    """
    rows = _of_voters(frame, argument, *columns)
    rows["voter_id"] = names_of(rows["voter_id"], f"{argument}, voter_id", len(rows))
    twice = np.flatnonzero(rows["voter_id"].duplicated())
    if len(twice):
        raise ValueError(
            f"{argument}: expected each voter once, got one again in row {twice[0]} "
            f"({len(twice):,} such rows)"
        )
    return rows


def _answers(outcomes: Any, moment: pd.Timestamp) -> pd.DataFrame:
    """Answers as they were given, in the order of their rows.

    Args:
        outcomes: See `measured_lift`.
        moment: When answers without a day of their own came.

    Returns:
        Columns voter_id (missing where blank), value and observed_at, NaN and NaT
        where missing.

    Raises:
        ValueError: If a value is no number, or a day cannot be read.
    """
    rows = _of_voters(outcomes, "outcomes", "value")
    n = len(rows)
    is_blank = rows["voter_id"].isna() | (
        rows["voter_id"].astype(str).str.strip() == ""
    )
    voter_id = names_of(
        rows["voter_id"].astype(object).where(~is_blank, ""), "outcomes, voter_id", n
    )
    observed = pd.Series(moment, index=rows.index)
    if "observed_on" in rows:
        given = column(rows["observed_on"], "outcomes, observed_on", n)
        observed = naive_utc_times(given)
        unread = np.flatnonzero(observed.isna() & given.notna())
        if pd.api.types.is_numeric_dtype(given.dtype):
            unread = np.flatnonzero(given.notna())
        if len(unread):
            raise ValueError(
                "outcomes, observed_on: expected days or moments, such as 2026-09-08, "
                f"got {str(given.iloc[unread[0]])!r} in row {unread[0]} "
                f"({len(unread):,} such rows)"
            )
    return pd.DataFrame(
        {
            "voter_id": pd.Series(voter_id, dtype=object).mask(is_blank),
            "value": numbers_of(rows["value"], "outcomes, value", n),
            "observed_at": observed,
        }
    )


def _responses(
    answers: pd.DataFrame,
    decisions: pd.DataFrame,
    moment: pd.Timestamp,
    offered: pd.Series,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Answers that count, as RESPONSES, and what was set aside, in sentences.

    Args:
        answers: From `_answers`.
        decisions: Voters whom the plans decided.
        moment: When it is looked at.
        offered: All voters of the plans, by name.

    Raises:
        ValueError: If nobody was decided, or two answers at one moment differ.
    """
    is_blank = answers["voter_id"].isna()
    is_of_plans = answers["voter_id"].isin(offered)
    is_undecided = ~answers["voter_id"].isin(decisions["voter_id"])
    if is_undecided.all():
        raise ValueError(
            "outcomes: expected voters whom the plans decided, got "
            f"{len(answers):,} rows of none of them"
        )
    # a voter without contact has the day of the plan
    decided_on = decisions.groupby("voter_id")["decided_on"].min()
    first = answers["voter_id"].map(decided_on)
    aside = {
        "name no voter": is_blank,
        "are of nobody in the plans": ~is_of_plans,
        "are of voters of the plans who were neither chosen nor drawn": is_undecided,
        "have no value": answers["value"].isna(),
        "have no day in observed_on": answers["observed_at"].isna(),
        f"came after {moment:%Y-%m-%d %H:%M}, when it is looked at":
        answers["observed_at"] > moment,
        "came before the voter was decided": answers["observed_at"] < first,
    }  # fmt: skip
    remaining = pd.Series(data=True, index=answers.index)
    counts = {}
    for reason, is_aside in aside.items():
        counts[reason] = int((remaining & is_aside).sum())
        remaining &= ~is_aside
    counted = answers[remaining]
    _require_no_contradiction(counted)
    at_once = counted.duplicated(["voter_id", "observed_at"])
    counts["say again what another row says"] = int(at_once.sum())
    counted = counted[~at_once]
    counts["are earlier answers of voters who answered again"] = int(
        counted.duplicated("voter_id").sum()
    )
    notes = tuple(
        f"outcomes: {n:,} of {len(answers):,} rows {reason}; they are not used"
        for reason, n in counts.items()
        if n
    )
    return counted.assign(outcome=_OUTCOME).reset_index(drop=True), notes


def _require_no_contradiction(answers: pd.DataFrame) -> None:
    """Refuse two answers of a voter at one moment that differ.

    Raises:
        ValueError: Naming the rows and the values.
    """
    of_moment = answers.groupby(["voter_id", "observed_at"])["value"]
    differ = answers.index[of_moment.transform("nunique") > 1]
    if not len(differ):
        return
    one = answers.loc[differ[0]]
    same = answers.loc[differ]
    same = same[
        (same["voter_id"] == one["voter_id"])
        & (same["observed_at"] == one["observed_at"])
        & (same["value"] != one["value"])
    ]
    raise ValueError(
        "outcomes: expected one value of a voter at one moment, got "
        f"{one['value']:g} in row {differ[0]} and {same['value'].iloc[0]:g} in row "
        f"{same.index[0]} of the same voter ({len(differ):,} such rows); say by "
        "observed_on which came later"
    )


def _voters(planned: Sequence[PlannedContacts], segment: Any) -> pd.DataFrame:
    unit = pd.concat([p.unit for p in planned])
    unit = unit[~unit.index.duplicated()]
    voters = pd.DataFrame({"voter_id": unit.index, "household_id": unit.to_numpy()})
    if segment is None:
        return voters
    rows = _once_each(segment, "segment", "segment")
    rows["segment"] = rows["segment"].astype(object).map(name_text, na_action="ignore")
    return voters.merge(rows[["voter_id", "segment"]], on="voter_id", how="left")


def _without(
    decisions: pd.DataFrame, voter_id: pd.Index, argument: str
) -> tuple[str, ...]:
    """How many decided voters a frame does not have, in a sentence."""
    decided = decisions["voter_id"].drop_duplicates()
    n = int((~decided.isin(voter_id)).sum())
    if not n:
        return ()
    return (f"{argument}: {n:,} of {len(decided):,} decided voters have none",)


def _features(frame: Any) -> pd.DataFrame:
    if frame is None:
        return pd.DataFrame(index=pd.Index([], dtype="str"))
    rows = _once_each(frame, "features").set_index("voter_id")
    return pd.DataFrame(
        {
            name: numbers_of(rows[name], f"features, {name}", len(rows)).to_numpy()
            for name in rows.columns
        },
        index=rows.index,
    )

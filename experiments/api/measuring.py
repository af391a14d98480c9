"""`measured_lift`: what a plan really brought, against its own holdout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.api.frames import as_pandas, numbers_of
from hustings.experiments.api.planning import PlannedContacts
from hustings.experiments.lift import LiftSettings, MeasuredLift, sentences
from hustings.experiments.lift import measured_lift as lift_of_plans
from hustings.experiments.lift.summary import table
from hustings.experiments.plans.designs import block_name, is_decided
from hustings.experiments.report.markup import html_table, joined, paragraph

_OUTCOME = "outcome"


@dataclass(frozen=True)
class PlanLift:
    """Measured lift of plans, as `hustings lift` gives it.

    Attributes:
        measured: All of it.
        unit_per_point: Outcome units in one point.
    """

    measured: MeasuredLift
    unit_per_point: float

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
        return "\n".join(self.sentences)

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
    unit_per_point: float = 1.0,
    random_state: int = 0,
) -> PlanLift:
    """Lift of plans against their holdout, valid at every look.

    Args:
        plans: From `plan`: one, or those of several days.
        outcomes: A frame with voter_id and value, and observed_on where answers came
            on different days (the day of `as_of` without). The outcome is better when
            higher.
        as_of: When it is looked at.
        absent: What a due outcome that is not there means: "missing", or "zero".
        lag_days: From a plan's last day to the day when its outcomes are due.
        horizon_days: Planned days with contacts, for which the intervals are tuned;
            those of the plans without.
        features: A frame with voter_id and numbers from before the plans, which make
            intervals narrower and move no lift.
        segment: A frame with voter_id and segment.
        unit_per_point: Outcome units in one point.
        random_state: Seed of the folds.

    Raises:
        ValueError: If frames lack columns, or assignments and designs contradict.
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
    moment = pd.Timestamp(as_of)
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
    settings = LiftSettings(
        holdout={n: p.holdout_share for n, p in zip(names, planned, strict=True)},
        as_of=moment, outcome=_OUTCOME,
        absent="zero" if absent == "zero" else "missing",
        horizon_days=horizon_days or days, lag_days=lag_days, seed=random_state,
    )  # fmt: skip
    measured = lift_of_plans(
        decisions, designs, _responses(outcomes, decisions, moment),
        pd.DataFrame({c: [] for c in ("voter_id", "plan_id", "channel", "delivered")}),
        _voters(planned, segment), settings,
        features=_features(features),
    )  # fmt: skip
    return PlanLift(measured, unit_per_point)


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
    rows = as_pandas(frame, argument).reset_index(drop=True)
    missing = [name for name in ("voter_id", *columns) if name not in rows]
    if missing:
        raise ValueError(
            f"{argument}: expected columns {', '.join(('voter_id', *columns))}, got "
            f"none named {missing[0]!r}"
        )
    return rows.assign(voter_id=rows["voter_id"].astype(str))


def _responses(
    outcomes: Any, decisions: pd.DataFrame, moment: pd.Timestamp
) -> pd.DataFrame:
    rows = _of_voters(outcomes, "outcomes", "value")
    strange = ~rows["voter_id"].isin(decisions["voter_id"])
    if strange.all():
        raise ValueError(
            "outcomes: expected voters whom the plans decided, got "
            f"{len(rows):,} rows of none of them"
        )
    value = numbers_of(rows["value"], "outcomes, value", len(rows))
    observed = rows.get("observed_on", pd.Series(moment, index=rows.index))
    responses = pd.DataFrame(
        {
            "voter_id": rows["voter_id"], "outcome": _OUTCOME, "value": value,
            "observed_at": pd.to_datetime(observed),
        }
    )  # fmt: skip
    return responses[value.notna() & ~strange].reset_index(drop=True)


def _voters(planned: Sequence[PlannedContacts], segment: Any) -> pd.DataFrame:
    unit = pd.concat([p.unit for p in planned])
    unit = unit[~unit.index.duplicated()]
    voters = pd.DataFrame({"voter_id": unit.index, "household_id": unit.to_numpy()})
    if segment is None:
        return voters
    rows = _of_voters(segment, "segment", "segment").drop_duplicates("voter_id")
    return voters.merge(rows[["voter_id", "segment"]], on="voter_id", how="left")


def _features(frame: Any) -> pd.DataFrame:
    if frame is None:
        return pd.DataFrame(index=pd.Index([], dtype="str"))
    rows = _of_voters(frame, "features").set_index("voter_id")
    for name in rows.columns:
        numbers_of(rows[name], f"features, {name}", len(rows))
    return rows.astype(np.float64)

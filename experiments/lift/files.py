"""Measured lift from the record of a campaign."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hustings.experiments.declaration import answered_feature_columns
from hustings.experiments.lift.measured import MeasuredLift, measured_lift
from hustings.experiments.lift.rows import LiftSettings
from hustings.experiments.lift.summary import summary_of, table
from hustings.experiments.plans import PLANS, plans
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.record import (
    contacts_so_far,
    designs_so_far,
    drawn_so_far,
    holdout_shares,
    n_offered_before,
    present_id_of,
    responses_so_far,
)
from hustings.experiments.results import LiftSummary, SentOnline
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.reactions import ballots_so_far
from hustings.features.asof import naive_utc
from hustings.features.atomic import write_json, write_parquet
from hustings.features.persons.identity import with_present_ids
from hustings.features.voter import segments, voter_features
from hustings.serving.reactions.ballots import votes_before

LIFT_FILE, LIFT_TABLE = "lift.json", "lift.parquet"
"""What was measured last, in the campaign's folder."""
COMMONEST = 8
"""Kinds of a category that get a column of their own."""


@dataclass(frozen=True)
class Recorded:
    """Tables of the campaign's plans as of a moment, by present ids.

    Attributes:
        decisions: ASSIGNMENTS with plan_id and decided_on, as `drawn_so_far` has them,
            and voted_before: whether the voter had voted when the plan was drawn.
        designs: DESIGNS of the plans' blocks.
        responses: RESPONSES.
        contacts: What came of the contacts.
        holdout: Share of voters held out, by plan.
        online: What was sent by no plan.
    """

    decisions: pd.DataFrame
    designs: pd.DataFrame
    responses: pd.DataFrame
    contacts: pd.DataFrame
    holdout: dict[str, float]
    online: SentOnline


def measure(run: Run, as_of: pd.Timestamp) -> tuple[MeasuredLift, LiftSummary]:
    """Lift of a campaign's plans so far; writes lift.json and lift.parquet.

    A look back writes nothing where a later one is on record.

    Args:
        run: The latest run.
        as_of: When the lift is looked at.

    Raises:
        FileNotFoundError: If no plan was locked by then.
    """
    measured, summary = lift_so_far(run, as_of)
    before = lift_measured(run.home)
    today = f"{run.at:%Y-%m-%d}"
    if before is None or summary.as_of >= min(before.as_of, today):
        write_json(run.home / LIFT_FILE, summary.to_json())
        write_parquet(run.home / LIFT_TABLE, table(measured))
    return measured, summary


def lift_measured(home: Path) -> LiftSummary | None:
    """The lift as `hustings lift` measured it last; None where it never did.

    Args:
        home: The campaign's folder.
    """
    file = home / LIFT_FILE
    if not file.exists():
        return None
    return LiftSummary.from_json(json.loads(file.read_text()))


def lift_so_far(run: Run, as_of: pd.Timestamp) -> tuple[MeasuredLift, LiftSummary]:
    """Lift of a campaign's plans as a moment knows it.

    Plans, answers and contacts are those of the campaign's record, whichever run is the
    latest; the run says who the voters are, no more.

    Args:
        run: The latest run.
        as_of: When the lift is looked at.

    Raises:
        FileNotFoundError: If no plan was locked by then.
    """
    campaign, record = run.campaign, recorded(run, as_of)
    voters = run.table("voters")
    first = pd.Timestamp(record.decisions["decided_on"].min())
    # what is known of a voter before the first plan, and of nobody after
    columns = answered_feature_columns(campaign, voters)
    features = voter_features(voters, columns, as_of=first)
    segment = segments(features, campaign.features.segment).to_numpy()
    measured = measured_lift(
        record.decisions, record.designs, record.responses, record.contacts,
        voters.assign(segment=segment), _terms(run, record, as_of),
        features=_numbers(features),
    )  # fmt: skip
    summary = summary_of(measured, per_point=campaign.outcome.unit_per_point)
    sentences = (*summary.sentences, *record.online.sentences())
    return measured, replace(
        summary, sentences=sentences, sent_online=record.online,
        n_voted_before=measured.n_voted_before,
    )  # fmt: skip


def recorded(run: Run, as_of: pd.Timestamp) -> Recorded:
    """Read the record as of a moment.

    Raises:
        FileNotFoundError: If no plan was locked that begins by then.
    """
    home, former = run.home, present_id_of(run.home)
    decisions = drawn_so_far(home)
    if decisions.empty or not (decisions["decided_on"] <= as_of).any():
        raise FileNotFoundError(
            f"{home / PLANS}: expected a plan that is locked or sent and begins by "
            f"{as_of:%Y-%m-%d}, got none; `hustings day --date {as_of:%Y-%m-%d} "
            "--approve-by NAME` makes one"
            + " ".join(["", *sent_online(home, as_of).sentences()])
        )

    def by_present_id(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(voter_id=with_present_ids(rows["voter_id"], former))

    return Recorded(
        _with_votes(run, by_present_id(decisions), as_of),
        designs_so_far(home),
        by_present_id(responses_so_far(home, as_of)),
        by_present_id(contacts_so_far(home, as_of)),
        holdout_shares(home),
        sent_online(home, as_of),
    )


def _with_votes(run: Run, decisions: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Decisions with voted_before: whether the voter had voted when assigned.

    All voters of a plan by the same day, the day of its draft or its first contact if
    that is earlier: of those held out nothing else is known, and by a day of their own
    those contacted late would be fewer than those they are compared with.
    """
    ballots = ballots_so_far(run.campaign, run.home)
    ballots = ballots[ballots["received_at"] <= as_of]
    former, records = present_id_of(run.home), plans(run.home)
    ballots = ballots.assign(voter_id=with_present_ids(ballots["voter_id"], former))
    voted = pd.Series(data=False, index=decisions.index)
    if ballots.empty:
        return decisions.assign(voted_before=voted)
    for name, rows in decisions.groupby("plan_id", sort=False):
        drafted = naive_utc(pd.Timestamp(records[str(name)].drafted_at))
        day = min(drafted, pd.Timestamp(rows["decided_on"].min()))
        before = votes_before(ballots, day)["voter_id"]
        voted.loc[rows.index] = rows["voter_id"].isin(before)
    return decisions.assign(voted_before=voted)


def sent_online(home: Path, as_of: pd.Timestamp) -> SentOnline:
    """What was sent online by a moment, and whom the lift leaves aside for it."""
    online = online_so_far(home, as_of)
    return SentOnline(
        n_contacts=len(online.paid),
        n_voters=with_present_ids(
            online.contacts["voter_id"], present_id_of(home)
        ).nunique() + len(online.of_forgotten),
        usd=round(online.sent_usd, 2),
        n_set_aside=n_offered_before(home),
    )  # fmt: skip


def _terms(run: Run, record: Recorded, as_of: pd.Timestamp) -> LiftSettings:
    declared, lift = run.campaign.outcome, run.campaign.lift
    n_days = record.decisions["decided_on"].nunique()
    return LiftSettings(
        holdout=record.holdout,
        as_of=as_of,
        outcome=declared.name,
        absent=declared.absent,
        horizon_days=lift.horizon_days or max(run.campaign.plan.days, n_days),
        lag_days=lift.lag_days,
        due_on=None if lift.due_on is None else pd.Timestamp(lift.due_on),
        direction=declared.direction,
        repeats=lift.repeats,
        surrogate=lift.surrogate,
        surrogate_lag_days=lift.surrogate_lag_days,
        seed=run.campaign.campaign.seed,
    )


def _numbers(features: pd.DataFrame) -> pd.DataFrame:
    """Numeric features as they are, others by their commonest kinds."""
    number = features.select_dtypes(include=["number", "bool"]).astype(np.float64)
    parts = [number]
    for name in features.columns.difference(number.columns):
        text = features[name].astype(object).fillna("unknown").astype(str)
        common = text.value_counts().index[:COMMONEST]
        for kind in common[1:]:
            parts.append((text == kind).astype(np.float64).rename(f"{name}={kind}"))
    return pd.concat(parts, axis=1)

"""Measured lift from the files of a campaign."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments import plans
from hustings.experiments.lift.measured import MeasuredLift, measured_lift
from hustings.experiments.lift.rows import Day, LiftTerms
from hustings.experiments.lift.summary import as_json, table
from hustings.experiments.stages.context import Run, rounded
from hustings.features.tables import ASSIGNMENTS, RESPONSES, TableError, check
from hustings.features.voter import segments, voter_features

Json = dict[str, Any]


def plans_of(home: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Day]]:
    """Assignments and terms of every day of a campaign that went out, by ISO date.

    A day's plan is a folder `plans/<id>/` with assignments.parquet and terms.json,
    whose terms tell `date`, `holdout_share` and `explore`, the share really drawn to
    explore. Counted are the locked, sent and returned: a draft decides nothing.

    Raises:
        FileNotFoundError: If there is no plan.
        TableError: If two plans are of one day.
    """
    assignments, days = {}, {}
    for plan_id, record in plans.plans(home).items():
        if record.state not in plans.BINDING:
            continue
        path = home / plans.PLANS / plan_id / "assignments.parquet"
        terms = json.loads((path.parent / "terms.json").read_text())["terms"]
        # a plan of many days at once has no day of its own to be measured by
        if not {"date", "holdout_share", "explore"} <= set(terms):
            continue
        day = str(pd.Timestamp(terms["date"]).date())
        if day in days:
            raise TableError(f"{path.parent}: expected one plan of {day}, got two")
        assignments[day] = check(ASSIGNMENTS, pd.read_parquet(path))
        days[day] = Day(float(terms["holdout_share"]), float(terms["explore"]))
    if not days:
        raise FileNotFoundError(
            f"{home / plans.PLANS}: expected a day's plan that is locked or sent; "
            "`hustings day --campaign CAMPAIGN --date D --approve-by NAME` makes one"
        )
    return assignments, days


def measure(
    run: Run, as_of: pd.Timestamp, *, responses: pd.DataFrame | None = None
) -> tuple[MeasuredLift, Json]:
    """Lift of a campaign's plans so far; writes lift.json and lift.parquet beside them.

    Args:
        run: The latest run, for voters, responses and predictions.
        as_of: When it is looked at.
        responses: RESPONSES in place of the run's.
    """
    campaign = run.campaign
    assignments, days = plans_of(run.home)
    voters = run.table("voters")
    answers = run.table("responses") if responses is None else responses
    # what is known of a voter before the first plan, and of nobody after
    known = voter_features(
        voters, _columns(run), as_of=pd.Timestamp(min(days))
    )  # fmt: skip
    voters = voters.assign(
        segment=segments(known, campaign.features.segment).to_numpy()
    )
    found = measured_lift(
        assignments, check(RESPONSES, answers), voters, _terms(run, days, as_of),
        features=_numbers(known), predicted=run.optional("scores"),
    )  # fmt: skip
    told = rounded(as_json(found, per_point=campaign.outcome.unit_per_point))
    _written(run.home, told, table(found))
    return found, told


def _terms(run: Run, days: dict[str, Day], as_of: pd.Timestamp) -> LiftTerms:
    declared, lift = run.campaign.outcome, run.campaign.lift
    return LiftTerms(
        days=days,
        as_of=as_of,
        outcome=declared.name,
        absent=declared.absent,
        horizon_days=lift.horizon_days or max(run.campaign.plan.days, len(days)),
        lag_days=lift.lag_days,
        due_on=None if lift.due_on is None else pd.Timestamp(lift.due_on),
        direction=declared.direction,
        repeats=lift.repeats,
        surrogate=lift.surrogate,
        surrogate_lag_days=lift.surrogate_lag_days,
        seed=run.campaign.campaign.seed,
    )


def _columns(run: Run) -> list[str]:
    from hustings.experiments.declaration import feature_columns

    return list(feature_columns(run.campaign, list(run.table("voters").columns)))


def _numbers(known: pd.DataFrame) -> pd.DataFrame:
    """Numeric features as they are, others by their commonest kinds."""
    number = known.select_dtypes(include=["number", "bool"]).astype(np.float64)
    parts = [number]
    for name in known.columns.difference(number.columns):
        text = known[name].astype(object).fillna("unknown").astype(str)
        common = text.value_counts().index[:8]
        for kind in common[1:]:
            parts.append((text == kind).astype(np.float64).rename(f"{name}={kind}"))
    return pd.concat(parts, axis=1)


def _written(home: Path, told: Json, rows: pd.DataFrame) -> None:
    """Aside, then renamed."""
    aside = home / "lift.json.partial"
    aside.write_text(json.dumps(told, indent=1))
    aside.replace(home / "lift.json")
    aside = home / "lift.parquet.partial"
    rows.to_parquet(aside, index=False)
    aside.replace(home / "lift.parquet")

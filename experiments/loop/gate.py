"""The loop's gate: whether personalising pays, tested again every few days.

Personalised against the best single arm to random voters, both for the campaign's whole
money. The first look judges everybody by lifts that saw neither the household nor its
fold; every later look judges, by the lifts of the look before it, only outcomes that
came in since. So under no gain every look's gain has mean 0 at most given all before
it, and the looks' sum, weighed by their precision, is a martingale: a normal mixture of
it is an e-process (`training.estimators.anytime_valid`), and in at most a share ALPHA
of campaigns does it ever reach 1 / ALPHA, however often it is looked at.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hustings.experiments.loop.answered import Answered
from hustings.experiments.loop.daily_columns import LearnerColumns
from hustings.experiments.loop.declared import LoopSettings
from hustings.experiments.loop.yesterday import DAY, plan_of_day
from hustings.experiments.plans import LIVE, PLANS, plans
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.asof import naive_utc
from hustings.features.stored import Stored
from hustings.training.estimators.anytime_valid import ALPHA, e_values
from hustings.training.estimators.metrics import Interval, clustered_mean
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.daily import (
    ColumnTerms,
    Moments,
    ObservedRows,
    fit_daily,
)
from hustings.training.measured_lift import adaptive

MIN_SEEN = 500
"""Fewer new outcomes than this are not judged."""
N_FOLDS = 3


@dataclass(frozen=True)
class Look:
    """One look of the gate, as the plan of its day states it.

    Attributes:
        at: When, ISO 8601: outcomes up to then have been judged.
        gain: Of personalising per voter judged, outcome units.
        se: Its standard error, clustered by household.
        n: Outcomes judged.
    """

    at: str
    gain: float
    se: float
    n: int


@dataclass(frozen=True)
class Gate(Stored):
    """Whether a day personalises, and by which evidence.

    Attributes:
        looks: All looks so far, of this day included.
        evidence: Largest e-value of the looks so far.
        personalises: Whether it ever reached 1 / ALPHA.
    """

    looks: tuple[Look, ...]
    evidence: float
    personalises: bool


def gate_of(looks: Sequence[Look], *, planned_looks: int) -> Gate:
    """The gate after the looks so far.

    Args:
        looks: In their order.
        planned_looks: For which the mixture is tuned; more are valid too.
    """
    evidence = max(
        (evidence_of(looks[:k], planned_looks) for k in range(1, len(looks) + 1)),
        default=0.0,
    )
    return Gate(tuple(looks), evidence, evidence >= 1.0 / ALPHA)


def evidence_of(looks: Sequence[Look], planned_looks: int) -> float:
    """E-value of a gain above zero after some looks; 0 where the sum is below zero."""
    precision = np.array([look.se**-2 for look in looks])
    total = float(precision @ np.array([look.gain for look in looks]))
    if total <= 0:
        return 0.0
    information = precision.sum() / (precision[0] * max(planned_looks, 1))
    z = np.array([total / np.sqrt(precision.sum())])
    return float(e_values(z, np.array([information]))[0])


def looks_so_far(home: Path, date: pd.Timestamp) -> list[Look]:
    """Looks that the plans of earlier days state."""
    days = sorted(
        name
        for name, record in plans(home).items()
        if record.state in LIVE and name.startswith(DAY) and name < plan_of_day(date)
    )
    if not days:
        return []
    path = home / PLANS / days[-1] / "terms.json"
    stated = json.loads(path.read_text())["terms"].get("gate")
    return [] if stated is None else list(Gate.from_json(stated).looks)


def gate_on(
    looks: Sequence[Look],
    answered: Answered,
    columns: LearnerColumns,
    *,
    household: Ints,
    cost: Floats,
    spend_usd: float,
    settings: LoopSettings,
    day: int,
    at: pd.Timestamp,
) -> Gate:
    """The gate on a day; a new look is taken every declared number of days.

    Args:
        looks: So far.
        answered: Decisions with outcomes.
        columns: Of the voters.
        household: Code of every voter's household.
        cost: USD of every arm, shape (A,).
        spend_usd: Of the campaign per voter.
        settings: Of the loop.
        day: From 0.
        at: Now.
    """
    every = settings.loop.evaluate_every_days
    planned = max((settings.days - settings.first_planned_day) // every, 1)
    before = gate_of(looks, planned_looks=planned)
    due = (day - settings.first_planned_day) % every == 0
    if before.personalises or not due:
        return before
    moment = naive_utc(at)
    since = pd.Timestamp(looks[-1].at) if looks else None
    rows = answered.take(answered.is_loop & _counted(answered, settings.loop.repeats))
    gain = gain_of_personalising(
        rows, columns, household, cost=cost, spend_usd=spend_usd, since=since
    )
    if gain is None:
        return before
    interval, n = gain
    look = Look(moment.isoformat(), interval.value, interval.se, n)
    return gate_of([*looks, look], planned_looks=planned)


def _counted(answered: Answered, repeats: str) -> Bools:
    if repeats == "each":
        return np.ones(len(answered), dtype=bool)
    return np.asarray(answered.nth == 0, dtype=bool)


def gain_of_personalising(
    rows: Answered,
    columns: LearnerColumns,
    household: Ints,
    *,
    cost: Floats,
    spend_usd: float,
    since: pd.Timestamp | None,
) -> tuple[Interval, int] | None:
    """Gain per voter over the best single arm to random voters at equal money.

    Voters who did not answer are stood for by like ones who did.

    Args:
        rows: Decisions of the loop.
        columns: Of the voters.
        household: Code of every voter's household, shape (n_voters,).
        cost: USD of every arm, shape (A,).
        spend_usd: Of the campaign per voter.
        since: Moment of the look before; None for the first.

    Returns:
        The gain and the number of outcomes judged; None where too few are in.
    """
    decisions = rows.measured(household)
    seen = decisions.observed
    new = seen if since is None else seen & (rows.answered_at > np.datetime64(since))
    if new.sum() < MIN_SEEN:
        return None
    phi, cluster = columns.phi[rows.voter], decisions.cluster
    main = columns.main[rows.voter]
    fold = unit_folds(cluster.astype(object), N_FOLDS, salt="gate")
    mu = adaptive.predicted_response(main, decisions, fold=fold)
    answering = adaptive.observed_probability(main, decisions, fold=fold)
    lift = np.zeros((len(rows), len(cost)))
    if since is None:
        for k in range(N_FOLDS):
            inside = fold == k
            train = ~inside & seen
            lift[inside] = _lifts(decisions, phi, train, columns.terms, phi[inside])
    else:
        lift[new] = _lifts(decisions, phi, seen & ~new, columns.terms, phi[new])
    score = adaptive.lift_scores(decisions.take(new), mu[new])
    worth = _personalised(lift[new], score, cost, spend_usd) - _single(
        lift[new], score, cost, spend_usd
    )
    if answering is not None:
        survey_weight = 1.0 / answering[new]
        worth = worth * survey_weight / survey_weight.mean()
    codes = np.unique(cluster[new], return_inverse=True)[1]
    return clustered_mean(worth, codes), int(new.sum())


def _lifts(
    decisions: adaptive.Decisions,
    phi: Floats,
    train: Bools,
    terms: ColumnTerms,
    of: Floats,
) -> Floats:
    """Lifts of voters by the decisions of others, shape (len(of), A)."""
    n_arms = decisions.propensities.shape[1] - 1
    rows = ObservedRows(
        phi[train], decisions.arm[train], decisions.Y[train],
        decisions.propensities[train],
    )  # fmt: skip
    model = fit_daily(Moments.nothing(phi.shape[1], n_arms).plus(rows), terms)
    return model.lift(of)


def _personalised(
    lift: Floats, score: Floats, cost: Floats, spend_usd: float
) -> Floats:
    """Realised lift of each: the best arm for the money, largest lifts first."""
    per_dollar = lift / cost
    best = per_dollar.argmax(axis=1)
    rows = np.arange(len(lift))
    order = np.argsort(-per_dollar[rows, best], kind="stable")
    paid = np.cumsum(cost[best[order]]) <= spend_usd * len(lift)
    sent = np.zeros(len(lift), dtype=bool)
    sent[order[paid]] = True
    sent &= lift[rows, best] > 0
    return np.where(sent, score[rows, best], 0.0)


def _single(lift: Floats, score: Floats, cost: Floats, spend_usd: float) -> Floats:
    """Realised lift of the arm that is best on average, in expectation over whom."""
    mean = lift.mean(axis=0) / cost
    best = int(mean.argmax())
    share = min(spend_usd / cost[best], 1.0) if mean[best] > 0 else 0.0
    return np.asarray(share * score[:, best])

"""`plan`: lifts, prices and a budget → contacts and assignments with propensities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.api.frames import as_pandas, costs_of, names_of
from hustings.experiments.api.randomised import EXPERIMENT
from hustings.experiments.api.verdict import PolicyVerdict
from hustings.experiments.plans.designs import Belief
from hustings.experiments.plans.planner_inputs import (
    designed_again,
    inputs_of,
    planned_again,
)
from hustings.experiments.report.markup import html_table, joined, paragraph
from hustings.experiments.stages.plan_limits import campaign_value
from hustings.features.arrays import Bools, Floats, Objects
from hustings.features.tables import CHANNELS, NO_MODEL
from hustings.features.training_set import Arm
from hustings.serving.plan import PlanSettings
from hustings.training.policy_value.policies import ONE_COVARIATE, Options, Policy

_LIFTS = ("voter_id", "message_id", "channel", "lift", "se")


@dataclass(frozen=True)
class PlannedContacts:
    """A plan with every probability that measuring it needs.

    Attributes:
        name: Of the plan.
        contacts: Who is sent what, by which channel, on which day: PLAN.
        assignments: Every voter, the holdout included, with propensities: ASSIGNMENTS.
        designs: Probability of nothing and of every arm by block: DESIGNS.
        budget_usd: Money that there was.
        holdout_share: Of the voters.
        start_on: First day.
        unit: Who decides together, by voter_id.
        gap: Share of the best value that any plan could have, by which this one may
            fall short.
    """

    name: str
    contacts: pd.DataFrame
    assignments: pd.DataFrame
    designs: pd.DataFrame
    budget_usd: float
    holdout_share: float
    start_on: pd.Timestamp
    unit: pd.Series = field(repr=False)
    gap: float

    @property
    def spent_usd(self) -> float:
        """Cost of the contacts."""
        return float(self.contacts["cost_usd"].sum())

    @property
    def summary(self) -> pd.DataFrame:
        """Contacts, money and mean predicted lift by message, channel and role."""
        return (
            self.contacts.groupby(["message_id", "channel", "role"], observed=True)
            .agg(
                n=("lift", "size"),
                cost_usd=("cost_usd", "sum"),
                lift_mean=("lift", "mean"),
            )
            .reset_index()
        )

    def __str__(self) -> str:
        roles = self.assignments["role"].value_counts()
        return (
            f"Plan {self.name}: {len(self.contacts):,} contacts for "
            f"{self.spent_usd:,.2f} of {self.budget_usd:,.2f} USD; "
            f"{roles.get('holdout', 0):,} voters held out, {roles.get('explore', 0):,} "
            "explore."
        )

    def _repr_html_(self) -> str:
        rows = [
            (
                row["message_id"],
                row["channel"],
                row["role"],
                f"{row['n']:,}",
                f"{row['cost_usd']:,.2f}",
            )
            for row in self.summary.to_dict("records")
        ]
        header = ("Message", "Channel", "Role", "Contacts", "USD")
        return joined(
            [paragraph(str(self)), html_table("Contacts", header, rows, words=3)]
        )


def plan(
    lifts: Any,
    cost: Any,
    budget: float,
    *,
    start_on: Any,
    days: int = 1,
    policy: PolicyVerdict | None = None,
    holdout_share: float = 0.1,
    explore_share: float = 0.05,
    cluster: Any = None,
    allowed: Any = None,
    capacity: Mapping[str, float] | None = None,
    confidence: float = 0.5,
    name: str = "campaign",
    random_state: int = 0,
) -> PlannedContacts:
    """The best contacts for the money, with a randomised holdout, as `hustings plan`.

    Permissions, rules of law and the ledger are a campaign's: here `allowed` says who
    may get what, and nothing is recorded.

    Args:
        lifts: From `LiftModel.lift`: a row for each voter and arm.
        cost: USD of a contact: one price, or a mapping by message, by channel, or by
            (message, channel).
        budget: USD in all.
        start_on: First day.
        days: How many.
        policy: A verdict, whose champion is delivered; None for personalising.
        holdout_share: Never contacted, in (0, 1).
        explore_share: Drawn to get a random arm or nothing.
        cluster: Who decides and is held out together, a value for each voter in the
            order of `lifts`; None for each alone.
        allowed: True or false for each row of `lifts`; None for everybody.
        capacity: Channel → contacts a day; None for no limit.
        confidence: Certainty at which a lift is valued; .5 is its mean.
        name: Fixes who is held out: the same name, the same holdout.
        random_state: Seed of the draws.

    Raises:
        ValueError: If an argument is not as expected, or limits contradict each other.
    """
    table = as_pandas(lifts, "lifts").reset_index(drop=True)
    ids, arms, rows = _layout(table)
    n = len(ids)
    lift, error = (_matrix(table, c, rows, n, len(arms)) for c in _LIFTS[3:])
    valued = campaign_value(lift, error, None, confidence=confidence, block=False)
    is_allowed = _allowed(allowed, table, rows, n, len(arms))
    chosen = _policy(policy, lift)
    left = chosen.of(Options(valued.worth, is_allowed), arms)
    unit = ids if cluster is None else names_of(cluster, "cluster", n)
    settings = _settings(
        name, holdout_share, explore_share, budget, start_on, days, capacity
    )
    inputs = inputs_of(
        ids, unit, left.value, left.allowed, arms, costs_of(cost, arms), settings,
        [random_state, n], Belief((EXPERIMENT,) * len(arms), NO_MODEL), predicted=lift,
    )  # fmt: skip
    planned = planned_again(inputs)
    designed = designed_again(inputs, planned)
    best = planned.over_everybody
    return PlannedContacts(
        name,
        planned.contacts,
        designed.assignments,
        designed.designs,
        float(budget),
        holdout_share,
        settings.start_on,
        pd.Series(unit, index=ids),
        (best.bound - best.value) / best.bound if best.bound > 0 else 0.0,
    )


def _layout(table: pd.DataFrame) -> tuple[Objects, tuple[Arm, ...], Any]:
    """Voters and arms of long lifts, and where each row goes."""
    missing = [name for name in _LIFTS if name not in table]
    if missing:
        raise ValueError(
            f"lifts: expected columns {', '.join(_LIFTS)}, got none named "
            f"{missing[0]!r}"
        )
    voter, ids = pd.factorize(table["voter_id"].astype(str))
    pairs = pd.MultiIndex.from_frame(table[["message_id", "channel"]].astype(str))
    arm, options = pd.factorize(pairs)
    if len(table) != len(ids) * len(options) or len(
        set(zip(voter, arm, strict=True))
    ) < (len(table)):
        raise ValueError(
            f"lifts: expected one row for each of {len(ids):,} voters and "
            f"{len(options)} arms, got {len(table):,} rows"
        )
    strange = sorted({channel for _, channel in options} - set(CHANNELS))
    if strange:
        raise ValueError(
            f"lifts: expected channels {', '.join(CHANNELS)}, got {strange[0]!r}"
        )
    arms = tuple(Arm(*pair) for pair in options)
    return np.asarray(ids, dtype=object), arms, (voter, arm)


def _matrix(table: pd.DataFrame, column: str, rows: Any, n: int, n_arms: int) -> Floats:
    values = table[column].to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(
            f"lifts: expected finite numbers in column {column!r}, got "
            f"{values[wrong[0]]} in row {wrong[0]} ({len(wrong):,} such rows)"
        )
    matrix = np.empty((n, n_arms))
    matrix[rows] = values
    return matrix


def _allowed(given: Any, table: pd.DataFrame, rows: Any, n: int, n_arms: int) -> Bools:
    if given is None:
        return np.ones((n, n_arms), dtype=bool)
    values = np.asarray(given)
    if values.shape != (len(table),) or values.dtype != np.bool_:
        raise ValueError(
            f"allowed: expected true or false for each of the {len(table):,} rows of "
            f"lifts, got {values.dtype} of shape {values.shape}"
        )
    matrix = np.empty((n, n_arms), dtype=bool)
    matrix[rows] = values
    return matrix


def _policy(verdict: PolicyVerdict | None, lift: Floats) -> Policy:
    """What is delivered.

    Raises:
        ValueError: If the champion goes by lifts of its own, which `lifts` are not.
    """
    if verdict is None:
        return Policy("personalised")
    is_split = verdict.champion == ONE_COVARIATE
    if verdict.policy is None or (is_split and verdict.split is None):
        raise ValueError(
            "policy: expected a verdict of `LiftModel.evaluate`, got one of a campaign "
            f"whose champion is {verdict.champion!r}; `hustings plan` plans it"
        )
    if verdict.split is not None and max(len(np.unique(c)) for c in lift.T) > len(
        verdict.split.lift
    ):
        raise ValueError(
            "lifts: expected those of one split, `model.lift(X, policy=verdict)`, got "
            "lifts that differ from voter to voter"
        )
    return verdict.policy


def _settings(
    name: str,
    holdout_share: float,
    explore_share: float,
    budget: float,
    start_on: Any,
    days: int,
    capacity: Mapping[str, float] | None,
) -> PlanSettings:
    if not 0 < holdout_share < 1 or not 0 <= explore_share < 1 - holdout_share:
        raise ValueError(
            "expected holdout_share in (0, 1) and explore_share at least 0, together "
            f"below 1, got {holdout_share} and {explore_share}: a holdout is always "
            "kept"
        )
    if not (np.isfinite(budget) and budget > 0):
        raise ValueError(f"budget: expected USD above 0, got {budget}")
    if not isinstance(days, int) or days < 1:
        raise ValueError(f"days: expected a whole number from 1, got {days!r}")
    most = dict(capacity or {})
    strange = sorted(set(most) - set(CHANNELS))
    if strange:
        raise ValueError(
            f"capacity: expected channels {', '.join(CHANNELS)}, got {strange[0]!r}"
        )
    return PlanSettings(
        salt=name, holdout_share=holdout_share, explore_share=explore_share,
        budget_usd=float(budget), start_on=pd.Timestamp(start_on).normalize(),
        days=days, capacity=most, capacity_per_day=None,
    )  # fmt: skip

"""`plan`: lifts, prices and a budget → contacts and assignments with propensities."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.api.arguments import (
    confidence_of,
    day_of,
    number_of,
    usd_of,
    whole_number,
)
from hustings.experiments.api.frames import (
    as_pandas,
    costs_of,
    mapping_of,
    names_of,
    numbers_of,
)
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
from hustings.serving.plan import PlanSettings, require_holdout
from hustings.training.policy_value.policies import Options, Policy

_NAMES, _NUMBERS, _MODEL = (
    ("voter_id", "message_id", "channel"),
    ("lift", "se"),
    "model_id",
)


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
            "explore. No other plan for this money could be predicted to do more than "
            f"{max(100 * self.gap, 0.01):.2g} % better."
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
    capacity: Any = None,
    confidence: float = 0.5,
    name: str = "campaign",
    random_state: int = 0,
) -> PlannedContacts:
    """The best contacts for the money, with a randomised holdout, as `hustings plan`.

    Permissions, rules of law and the ledger are a campaign's: here `allowed` says who
    may get what, and nothing is recorded.

    Args:
        lifts: From `LiftModel.lift`: a row for each voter and arm.
        cost: USD of a contact: one price, or a mapping or series by message, by
            channel, or by (message, channel).
        budget: USD in all.
        start_on: First day; a day has no time zone.
        days: How many.
        policy: A verdict on the model of the lifts, whose champion is delivered; None
            for personalising.
        holdout_share: Never contacted, in (0, 1); somebody has to be drawn.
        explore_share: Drawn to get a random arm or nothing.
        cluster: Who decides and is held out together, a value for each voter in the
            order of `lifts`; None for each alone.
        allowed: True or false for each row of `lifts`; None for everybody.
        capacity: Channel → contacts a day, a mapping or a series; None for no limit.
        confidence: Certainty at which a lift is valued; .5 is its mean.
        name: Fixes who is held out: the same name, the same holdout.
        random_state: Seed of the draws.

    Raises:
        ValueError: If an argument is not as expected, limits contradict each other, or
            the draw holds out nobody, as may happen with few voters.
    """
    table = as_pandas(lifts, "lifts").reset_index(drop=True)
    ids, arms, rows = _layout(table)
    n = len(ids)
    lift, error = (_matrix(table, c, rows, n, len(arms)) for c in _NUMBERS)
    valued = campaign_value(
        lift, error, None, confidence=confidence_of(confidence), block=False
    )
    is_allowed = _allowed(allowed, table, rows, n, len(arms))
    chosen = _policy(policy, table)
    seed = whole_number(random_state, "random_state", 0)
    left = chosen.of(Options(valued.worth, is_allowed), arms)
    unit = ids if cluster is None else names_of(cluster, "cluster", n)
    settings = _settings(
        name, holdout_share, explore_share, budget, start_on, days, capacity
    )
    inputs = inputs_of(
        ids, unit, left.value, left.allowed, arms, costs_of(cost, arms), settings,
        [seed, n], Belief((EXPERIMENT,) * len(arms), NO_MODEL), predicted=lift,
    )  # fmt: skip
    planned = planned_again(inputs)
    designed = designed_again(inputs, planned)
    held = (designed.assignments["role"] == "holdout").to_numpy()
    require_holdout(held, unit, settings.holdout_share)
    best = planned.over_everybody
    return PlannedContacts(
        name,
        planned.contacts,
        designed.assignments,
        designed.designs,
        settings.budget_usd,
        settings.holdout_share,
        settings.start_on,
        pd.Series(unit, index=ids),
        (best.bound - best.value) / best.bound if best.bound > 0 else 0.0,
    )


def _layout(table: pd.DataFrame) -> tuple[Objects, tuple[Arm, ...], Any]:
    """Voters and arms of long lifts, and where each row goes.

    Raises:
        ValueError: If columns or rows are lacking, or a name or channel is none.
    """
    expected = (*_NAMES, *_NUMBERS)
    missing = [name for name in expected if name not in table]
    if missing:
        raise ValueError(
            f"lifts: expected columns {', '.join(expected)}, got none named "
            f"{missing[0]!r}"
        )
    if table.empty:
        raise ValueError("lifts: expected a row for each voter and arm, got none")
    voter_id, message, channel = (
        names_of(table[name], f"lifts, {name}", len(table)) for name in _NAMES
    )
    voter, ids = pd.factorize(voter_id)
    arm, options = pd.factorize(pd.MultiIndex.from_arrays([message, channel]))
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
    """Numbers of every voter and arm, shape (n, A).

    Raises:
        ValueError: If one is missing or no number, or a standard error is below 0.
    """
    values = numbers_of(table[column], f"lifts, {column}", len(table)).to_numpy()
    is_wrong = np.isnan(values) | ((values < 0) & (column == "se"))
    if is_wrong.any():
        k = int(np.argmax(is_wrong))
        expected = "numbers from 0" if column == "se" else "numbers"
        raise ValueError(
            f"lifts, {column}: expected {expected}, got {values[k]:g} in row {k} "
            f"({int(is_wrong.sum()):,} such rows)"
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


def _policy(verdict: PolicyVerdict | None, table: pd.DataFrame) -> Policy:
    """What is delivered.

    Args:
        verdict: None for personalising.
        table: Lifts, which state the model that they are of.

    Raises:
        ValueError: If the lifts are not those that the verdict is on.
    """
    if verdict is None:
        return Policy("personalised")
    if verdict.policy is None or not verdict.model_id:
        raise ValueError(
            "policy: expected a verdict of `LiftModel.evaluate`, got one of a campaign "
            f"whose champion is {verdict.champion!r}; `hustings plan` plans it"
        )
    if _MODEL not in table:
        raise ValueError(
            f"lifts: expected the column {_MODEL} of `LiftModel.lift`, by which they "
            "are known to be of the model that the verdict is on, got none"
        )
    given = sorted(set(names_of(table[_MODEL], f"lifts, {_MODEL}", len(table))))
    if given == [verdict.lifts_id]:
        return verdict.policy
    if {name.partition("/")[0] for name in given} == {verdict.model_id}:
        raise ValueError(
            f"lifts: expected those that the champion {verdict.champion!r} goes by, "
            "`model.lift(X, policy=verdict)`, got others of the same model"
        )
    raise ValueError(
        f"policy: expected a verdict on the model of the lifts ({', '.join(given)}), "
        f"got one on {verdict.judged_model}"
    )


def _settings(
    name: str,
    holdout_share: Any,
    explore_share: Any,
    budget: Any,
    start_on: Any,
    days: Any,
    capacity: Any,
) -> PlanSettings:
    """The terms of a plan, checked.

    Raises:
        ValueError: Naming the argument, what was expected and what came.
    """
    number_of(
        holdout_share, "holdout_share", "one in (0, 1): a holdout is always kept",
        lambda x: 0 < x < 1,
    )  # fmt: skip
    number_of(explore_share, "explore_share", "one in [0, 1)", lambda x: 0 <= x < 1)
    if not explore_share < 1 - holdout_share:
        raise ValueError(
            "expected holdout_share and explore_share together below 1, got "
            f"{holdout_share} and {explore_share}"
        )
    budget, days = usd_of(budget, "budget"), whole_number(days, "days", 1)
    most = {} if capacity is None else mapping_of(capacity, "capacity")
    if most is None:
        raise ValueError(
            f"capacity: expected a mapping from channel to contacts, got {capacity!r}"
        )
    strange = sorted(set(most) - set(CHANNELS))
    if strange:
        raise ValueError(
            f"capacity: expected channels {', '.join(CHANNELS)}, got {strange[0]!r}"
        )
    for channel, contacts in most.items():
        most[channel] = number_of(
            contacts, f"capacity of {channel!r}", "contacts a day, at least 0",
            lambda x: x >= 0,
        )  # fmt: skip
    return PlanSettings(
        salt=name, holdout_share=float(holdout_share),
        explore_share=float(explore_share),
        budget_usd=budget, start_on=day_of(start_on, "start_on"),
        days=days, capacity=most, capacity_per_day=None,
    )  # fmt: skip

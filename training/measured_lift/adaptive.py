"""Lift from adaptively assigned data, such as those of a daily loop.

Where today's probabilities depend on yesterday's outcomes, means over all days are
biased and not normal, most of all where arms are equally good: an arm that looked bad
by chance is given less, so that chance is never corrected. Every day is itself an
experiment with known chances; days are combined with weights that make each day's noise
as large as any other's, known before its outcomes, so that the sum over days is normal
whatever the days before did.

Notation: n voters decided, A arms, column 0 is nothing, T days.

Source: Zhang, Janson & Murphy (2020), "Inference for Batched Bandits"; Hadad,
Hirshberg, Zhan, Wager & Athey (2021), "Confidence intervals for policy evaluation in
adaptive experiments"; Zhan, Hadad, Hirshberg & Athey (2021) for covariates.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Ints
from hustings.training.estimators.metrics import (
    Interval,
    aipw_scores,
    clustered_covariance,
)

RIDGE = 1.0
"""Pull of the response's coefficients to 0, in voters of one SD."""
N_FOLDS = 5
MIN_OBSERVED_PROBABILITY = 0.1
SMALL_SIDE = 20
"""Voters of a side of a day, below which its own share of answers is chance."""


@dataclass(frozen=True)
class Decisions:
    """Decisions: day, arm, assignment probabilities and outcome of each.

    Attributes:
        day: When decided, any whole numbers that grow with time, shape (n,).
        arm: What was assigned, 0 for nothing, shape (n,).
        propensities: Chance of nothing and of every arm given a decision, as known
            when deciding, 0 where it could not be, shape (n, 1 + A).
        Y: Outcome, NaN where missing, shape (n,).
        cluster: Household as a code from 0, whose days belong together, shape (n,).
        intended: Arm that the plan alone would have sent, 0 for none, shape (n,);
            None where nobody planned.
        exact_propensity: Exact chance of what was assigned, where it is known better
            than `propensities` (which then only weigh the days), shape (n,).
        survey_weight: How many of the population each row stands for: 1 / chance that a
            voter in the pool is decided, shape (n,); None where all count the same.
    """

    day: Ints
    arm: Ints
    propensities: Floats
    Y: Floats
    cluster: Ints
    intended: Ints | None = None
    exact_propensity: Floats | None = None
    survey_weight: Floats | None = None

    def __post_init__(self) -> None:
        """Refuse shapes and chances that no experiment has."""
        n = len(self.Y)
        if self.propensities.ndim != 2 or len(self.propensities) != n:
            raise ValueError(
                f"expected propensities of shape ({n}, 1 + A), got "
                f"{self.propensities.shape}"
            )
        taken = self.own_propensity
        if n and not (taken > 0).all():
            raise ValueError(
                f"expected a propensity above 0 of what was assigned, got {taken.min()}"
            )

    @property
    def own_propensity(self) -> Floats:
        """Probability of the assigned arm, shape (n,)."""
        if self.exact_propensity is not None:
            return self.exact_propensity
        return np.asarray(self.propensities[np.arange(len(self.arm)), self.arm])

    @property
    def weight(self) -> Floats:
        """Survey weight of each row, 1 where all count the same, shape (n,)."""
        return (
            np.ones(len(self.Y)) if self.survey_weight is None else self.survey_weight
        )

    @property
    def observed(self) -> Bools:
        """Whether each outcome has been observed, shape (n,)."""
        return ~np.isnan(self.Y)

    @property
    def observed_share(self) -> Floats:
        """Share of the day's outcomes that are in, shape (n,)."""
        return _share_within(self.day, self.observed)

    @property
    def reported(self) -> Bools:
        """Rows of days whose outcomes are in on both sides, shape (n,).

        Outcomes that hardly anybody has given yet say nothing of those who will: a day
        counts once at least `MIN_OBSERVED_PROBABILITY` of voters who were sent an arm,
        and of voters who were sent nothing, have answered. Of few voters the share over
        all days is taken: which of them have answered is chance.
        """
        is_sent = (self.arm > 0).astype(np.int64)
        side = 2 * np.unique(self.day, return_inverse=True)[1] + is_sent
        by_side = np.where(
            np.bincount(side)[side] < SMALL_SIDE,
            _share_within(is_sent, self.observed),
            _share_within(side, self.observed),
        )
        silent = np.minimum(by_side, self.observed_share) < MIN_OBSERVED_PROBABILITY
        return ~np.isin(self.day, self.day[silent])

    def take(self, rows: Bools | Ints) -> Self:
        """Some of the rows."""
        names = ("day", "arm", "propensities", "Y", "cluster")
        maybe = ("intended", "exact_propensity", "survey_weight")
        taken = {name: getattr(self, name)[rows] for name in names}
        for name in maybe:
            column = getattr(self, name)
            taken[name] = None if column is None else column[rows]
        return replace(self, **taken)


@dataclass(frozen=True)
class Estimates:
    """Estimates of k quantities with their covariance.

    Attributes:
        value: Shape (k,); NaN where no day could compare.
        covariance: Clustered by household over all days, shape (k, k).
        n_rows: Rows that took part, shape (k,).
        n_days: Days that took part, shape (k,): the information, every day counting
            alike.
    """

    value: Floats
    covariance: Floats
    n_rows: Ints
    n_days: Ints

    @property
    def se(self) -> Floats:
        """Standard errors, shape (k,)."""
        return np.sqrt(np.diag(self.covariance))

    def intervals(self) -> list[Interval]:
        """Two-sided 95 % for one look at one quantity, length k."""
        return [Interval.of(v, se=s) for v, s in zip(self.value, self.se, strict=True)]


def _share_within(group: Ints, member: Bools) -> Floats:
    """Share of the members of each row's group, shape (n,)."""
    code = np.unique(group, return_inverse=True)[1]
    return np.asarray((np.bincount(code, weights=member) / np.bincount(code))[code])


def day_weights(day: Ints, variance: Floats) -> Floats:
    """Weight of every row so that each day's sum is as noisy as any other's, (n,).

    1 / √(Σ of the day's variances): each day adds the same to the variance of the sum,
    which is what makes the studentised sum normal.

    Args:
        day: Codes from 0, shape (n,).
        variance: Of every row's score up to a factor, from the design alone (what was
            known before the outcomes), 0 for who takes no part, shape (n,).

    >>> day_weights(np.array([0, 0, 1]), np.array([2.0, 2.0, 1.0])).tolist()
    [0.5, 0.5, 1.0]
    """
    total = np.bincount(day, weights=variance)
    weight = np.divide(1.0, np.sqrt(total), out=np.zeros_like(total), where=total > 0)
    return np.asarray(weight[day])


def combined(
    score: Floats, variance: Floats, day: Ints, cluster: Ints, weight: Floats
) -> Estimates:
    """Mean scores, days weighted by `day_weights`, clustered over all days.

    Args:
        score: Unbiased score of every row for k quantities, shape (n, k).
        variance: Of the scores by design, 0 where a row takes no part, shape (n, k).
        day: Shape (n,).
        cluster: Codes from 0, shape (n,).
        weight: Survey weight of each row, shape (n,).
    """
    codes = np.unique(day, return_inverse=True)[1]
    k = score.shape[1]
    value, influence = np.full(k, np.nan), np.zeros((len(day), k))
    n_rows, n_days = np.zeros(k, dtype=np.int64), np.zeros(k, dtype=np.int64)
    for j in range(k):
        part = variance[:, j] > 0
        of_day = day_weights(codes, np.where(part, weight**2 * variance[:, j], 0.0))
        row = of_day * weight * part
        n_rows[j], n_days[j] = part.sum(), len(np.unique(codes[part]))
        if part.any():
            value[j] = row @ np.where(part, score[:, j], 0.0) / row.sum()
            off = np.where(part, score[:, j] - value[j], 0.0)
            influence[:, j] = row * off / row.sum()
    return Estimates(value, clustered_covariance(influence, cluster), n_rows, n_days)


def lift_scores(
    decisions: Decisions, mu: Floats, observed_probability: Floats | None = None
) -> Floats:
    """Γ_a − Γ_0 of every row and arm, by the known chances, shape (n, A).

    Args:
        decisions: What was decided.
        mu: Predicted outcome under nothing and every arm, that did not see the row's
            household nor later days (`predicted_response`), shape (n, 1 + A).
        observed_probability: Of the outcome being observed, shape (n,), or None.
    """
    propensities = decisions.propensities.copy()
    rows = np.arange(len(decisions.arm))
    propensities[rows, decisions.arm] = decisions.own_propensity
    scores = aipw_scores(
        decisions.Y, decisions.arm, mu, propensities,
        observed_probability=observed_probability,
    )  # fmt: skip
    lifts: Floats = scores[:, 1:] - scores[:, :1]
    return lifts


def design_variance(decisions: Decisions) -> Floats:
    """Variance of every row's score for every arm, up to a factor, shape (n, A).

    (1/e_a + 1/e_0) / share of the day's outcomes that are in; 0 where the arm cannot be
    compared with nothing, and on days that have not `reported`: they take no part.
    """
    propensities = decisions.propensities
    inverse = np.divide(
        1.0, propensities, out=np.zeros_like(propensities), where=propensities > 0
    )
    compared = (propensities[:, 1:] > 0) & (propensities[:, :1] > 0)
    compared &= decisions.reported[:, None]
    share = np.maximum(decisions.observed_share, MIN_OBSERVED_PROBABILITY)
    variance = (inverse[:, 1:] + inverse[:, :1]) / share[:, None]
    return np.where(compared, variance, 0.0)


def population_lifts(
    decisions: Decisions, mu: Floats, observed_probability: Floats | None = None
) -> Estimates:
    """Lift of every arm over those who could have got it, k = A.

    The mean over days of the day's population (weighted as `day_weights` says): the
    lift if everybody in it were sent the arm, against nobody.

    Args:
        decisions: Of all days whose outcomes are due.
        mu: From `predicted_response`, shape (n, 1 + A).
        observed_probability: Shape (n,), or None where nothing is missing.
    """
    score = lift_scores(decisions, mu, observed_probability)
    return combined(
        score, design_variance(decisions), decisions.day, decisions.cluster,
        decisions.weight,
    )  # fmt: skip


def delivered_lifts(
    decisions: Decisions,
    mu: Floats,
    group: Ints,
    n_groups: int,
    observed_probability: Floats | None = None,
) -> Estimates:
    """Lift of planned messages among the voters they were planned for, by group.

    Planned against held out among people with the same intended arm: intent to treat,
    what the plan really brought.

    Args:
        decisions: With `intended`.
        mu: From `predicted_response`, shape (n, 1 + A).
        group: Message, segment or both of every row, -1 for none, shape (n,).
        n_groups: Groups, k.
        observed_probability: Shape (n,), or None where nothing is missing.

    Raises:
        ValueError: If the decisions do not say what was intended.
    """
    if decisions.intended is None:
        raise ValueError("expected decisions that say what was intended, got none")
    planned = decisions.intended > 0
    at = np.where(planned, decisions.intended - 1, 0)
    rows = np.arange(len(at))
    score = lift_scores(decisions, mu, observed_probability)[rows, at]
    variance = np.where(planned, design_variance(decisions)[rows, at], 0.0)
    inside = group[:, None] == np.arange(n_groups)
    return combined(
        np.repeat(score[:, None], n_groups, axis=1), inside * variance[:, None],
        decisions.day, decisions.cluster, np.ones(len(at)),
    )  # fmt: skip


# --- what is predicted besides: never from the own household, never from later ---


def predicted_response(
    X: Floats,
    decisions: Decisions,
    *,
    fold: Ints,
    target: Floats | None = None,
) -> Floats:
    """Outcome under nothing and every arm by a ridge, shape (n, 1 + A).

    Fitted for each day on that day and those before it, without the row's own fold of
    households: what it says of a row was known before its outcome, so that the
    scores keep their mean whatever was learned since.

    Args:
        X: Features known before, shape (n, p); p of some tens.
        decisions: What was decided.
        fold: Codes from 0; no household is in two, shape (n,).
        target: What is predicted in place of the outcome, NaN where it is not known,
            shape (n,).
    """
    y = decisions.Y if target is None else target
    n_arms = decisions.propensities.shape[1]
    spread = X.std(axis=0)
    base = np.column_stack([np.ones(len(X)), (X - X.mean(axis=0)) / np.where(
        spread > 0, spread, 1.0
    )])  # fmt: skip
    Z = np.column_stack([base, np.eye(n_arms)[decisions.arm][:, 1:]])
    mu = np.zeros((len(X), n_arms))
    folds, days = np.unique(fold), np.unique(decisions.day)
    gram = {f: np.zeros((Z.shape[1],) * 2) for f in folds}
    pull = {f: np.zeros(Z.shape[1]) for f in folds}
    for d in days:
        today = decisions.day == d
        for f in folds:
            rows = today & (fold == f) & ~np.isnan(y)
            gram[f] += Z[rows].T @ Z[rows]
            pull[f] += Z[rows].T @ y[rows]
        for f in folds:
            other_folds = [g for g in folds if g != f]
            A = sum((gram[g] for g in other_folds), np.zeros_like(gram[f]))
            b = sum((pull[g] for g in other_folds), np.zeros_like(pull[f]))
            coefficient = _ridge(A, b)
            rows = today & (fold == f)
            control = base[rows] @ coefficient[: base.shape[1]]
            of_arm = np.append(0.0, coefficient[base.shape[1] :])
            mu[rows] = control[:, None] + of_arm
    return mu


def _ridge(gram: Floats, pull: Floats) -> Floats:
    penalty = np.full(len(pull), RIDGE)
    penalty[0] = 1e-6  # the mean itself is not pulled
    return np.asarray(np.linalg.solve(gram + np.diag(penalty), pull))


def observed_probability(
    X: Floats, decisions: Decisions, *, fold: Ints
) -> Floats | None:
    """Chance that each row's outcome is observed, shape (n,); None where all are.

    The share of the day whose outcomes are in, moved by features and by what was
    assigned as the same ridge says; kept within [`MIN_OBSERVED_PROBABILITY`, 1].
    Answers of the last days are still to come: a probability common to all days would
    count those who have answered for voters of other days.
    """
    seen = decisions.observed
    if seen.all():
        return None
    share = decisions.observed_share
    spread = share * (1.0 - share)
    moved = np.divide(
        seen - share, spread, out=np.full(len(seen), np.nan), where=spread > 0
    )
    fitted = predicted_response(X, decisions, fold=fold, target=moved)
    probability = share + spread * fitted[np.arange(len(seen)), decisions.arm]
    return np.asarray(np.clip(probability, MIN_OBSERVED_PROBABILITY, 1.0))


# --- chances of the shared design ---


def decided_propensities(
    planned: Ints,
    explored: Floats,
    *,
    holdout: float | Floats,
    survival: Floats,
    epsilon: Floats,
) -> tuple[Floats, Floats]:
    """Probabilities of nothing and every arm given a decision, and of a decision.

    A voter in the pool is held out (for good), or drawn to explore with chance ε, or
    else sent what the plan says. Who is held out is never drawn, so that the longer
    the pool has been explored, the more of those left in it are held out.

    Args:
        planned: Arm of the plan, 0 for none, shape (n,).
        explored: Chances when exploring, of nothing and every arm, (n, 1 + A).
        holdout: Share h held out, one or shape (n,).
        survival: Chance not to have been drawn on the days before, Π(1 − ε), (n,).
        epsilon: Chance ε to be drawn on the day, shape (n,).

    Returns:
        Propensities, shape (n, 1 + A), and the chance that a voter in the pool is
        decided, shape (n,), whose inverse is `Decisions.survey_weight`.

    >>> e, decided = decided_propensities(
    ...     np.array([1]), np.array([[0.5, 0.5]]), holdout=0.2,
    ...     survival=np.ones(1), epsilon=np.array([0.1]),
    ... )
    >>> e.round(3).tolist(), decided.round(9).tolist()
    ([[0.24, 0.76]], [1.0])
    """
    free = (1.0 - holdout) * survival
    total = (free * epsilon)[:, None] * explored
    rows = np.arange(len(planned))
    has_plan = planned > 0
    total[rows, planned] += np.where(has_plan, free * (1.0 - epsilon), 0.0)
    total[:, 0] += np.where(has_plan, holdout, 0.0)
    decided = total.sum(axis=1)
    return total / decided[:, None], decided / (holdout + free)

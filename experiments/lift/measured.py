"""Measured lift: as delivered and over the population, compared with the prediction."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy import stats

from hustings.experiments.lift.rows import (
    DecidedRows,
    LiftSettings,
    codes,
    decided_rows,
    delivered,
    explored,
)
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.tables import CONTROL, SMALLEST_CELL
from hustings.training.estimators.anytime_valid import (
    always_valid,
    claimed_alpha,
    e_bh,
    e_values,
)
from hustings.training.estimators.compliance import Compliance, compliance
from hustings.training.estimators.metrics import (
    Interval,
    attrition_p_value,
    clustered_covariance,
    clustered_means,
)
from hustings.training.estimators.sample_ratio import holm
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.average_effects import shrink
from hustings.training.measured_lift.adaptive import (
    Decisions,
    Estimates,
    combined,
    delivered_lifts,
    design_variance,
    lift_scores,
    observed_probability,
    population_lifts,
    predicted_response,
)
from hustings.training.measured_lift.repeats import CarryOver, carry_over
from hustings.training.measured_lift.surrogate import Link, fit_link

N_FOLDS = 5
RATIO_ALARM, ATTRITION_ALARM = 0.001, 0.001
MIN_EXPECTED = 20
"""Of a role, below which its share is not looked at."""
ALL = ""
NOT_VOTED = "not_voted"
"""Estimand: the lift among voters who had not voted when they were assigned."""
"""In a row: over all messages, or all segments."""


class Row(NamedTuple):
    """One measured lift.

    Attributes:
        estimand: `delivered` (planned against held out among those whom the plan
            chose), `not_voted` (the same among voters who had not voted yet when they
            were assigned), `population` (all who could get the arm, by exploration),
            `surrogate` (delivered, on the surrogate, in its own units).
        message_id: Empty for all.
        channel: Empty for all.
        segment: Empty for all.
        n_sent: Voters sent it, with an outcome in.
        n_compared: Voters compared with, with an outcome in.
        fixed_sample: 95 % for one look at one row.
        anytime_valid: 95 % at all looks together.
        claimed: Whether it is claimed to differ from 0, among all rows of its
            estimand: at most 5 % of such claims are false, at any look.
        claimed_interval: At the level of the claims, None where not claimed.
        shrunken: After empirical Bayes over the messages (of a segment): what a fresh
            sample would show.
        predicted: Mean predicted lift of the same voters; NaN over a population.
    """

    estimand: str
    message_id: str
    channel: str
    segment: str
    n_sent: int
    n_compared: int
    fixed_sample: Interval
    anytime_valid: Interval
    claimed: bool
    claimed_interval: Interval | None
    shrunken: Interval
    predicted: float

    def with_scale_error(self, relative: float) -> Self:
        """Widen every interval for an error of the outcome's scale.

        A scale moves no lift across 0: what is claimed stays claimed.
        """
        claimed = self.claimed_interval
        return self._replace(
            fixed_sample=self.fixed_sample.with_scale_error(relative),
            anytime_valid=self.anytime_valid.with_scale_error(relative),
            claimed_interval=claimed and claimed.with_scale_error(relative),
            shrunken=self.shrunken.with_scale_error(relative),
        )


class LiftCalibration(NamedTuple):
    """Predicted and measured lift of the voters whom the plan chose.

    Attributes:
        predicted: Mean predicted lift.
        less: Measured less predicted, at all looks together.
        slope: Measured per predicted, within messages: 1 is calibrated.
        drifted: Whether `less` lies on one side of 0: the champion says what is not.
    """

    predicted: float
    less: Interval
    slope: Interval
    drifted: bool


class Ratio(NamedTuple):
    """Check of the shares of nothing, the plan's arm and other arms by the designs.

    Attributes:
        overall_p: Over all plans.
        plans: Failing plans, by Holm's correction.
        by_plan: p-value of every plan.
        alarm: Nothing below can be trusted.
    """

    overall_p: float
    plans: tuple[str, ...]
    by_plan: dict[str, float]
    alarm: bool


@dataclass(frozen=True)
class MeasuredLift:
    """Measured lift of the campaign's plans so far.

    Attributes:
        as_of: When looked at.
        n_decided: Voters decided, held-out shadows among them.
        n_due: Of them whose outcome is due.
        n_in: Of them whose outcome is in.
        n_waiting: Of those due, voters of plans that hardly anybody has answered yet:
            they take no part.
        n_repeats: Later decisions left out by the rule on repeats.
        n_voted_before: Voters decided who had voted when they were assigned.
        information: Days with outcomes, as a share of the declared horizon.
        overall: The row over all messages and segments.
        not_voted: The same among voters who had not voted when they were assigned;
            None where all had not, or too few outcomes are in.
        rows: All rows.
        calibration: None where too few outcomes are in.
        ratio: Sample ratio.
        attrition_p: p-value of equal shares of missing outcomes, planned and held out.
        gained: Outcome units brought to all whom answered plans sent something.
        link: Of the surrogate, None where there is none.
        converted: Lift of the outcome by the surrogate, None without a link that holds.
        repeats: Effects of two contacts, None where the rule is `first`.
        reached: Lift of the voters really reached, over plans and channels that
            reported back; None where none did.
    """

    as_of: pd.Timestamp
    n_decided: int
    n_due: int
    n_in: int
    n_waiting: int
    n_repeats: int
    n_voted_before: int
    information: float
    overall: Row | None
    not_voted: Row | None
    rows: tuple[Row, ...]
    calibration: LiftCalibration | None
    ratio: Ratio
    attrition_p: float
    gained: Interval | None
    link: Link | None
    converted: Interval | None
    repeats: CarryOver | None
    reached: Compliance | None

    @property
    def trusted(self) -> bool:
        """Whether no alarm forbids to read the lifts as lifts."""
        return not self.ratio.alarm and self.attrition_p >= ATTRITION_ALARM


class _MeasuredRows(NamedTuple):
    """Rows of one estimand with what was predicted besides."""

    rows: pd.DataFrame
    decisions: Decisions
    mu: Floats
    seen: Floats | None

    @property
    def link_error(self) -> float:
        """Relative error, one SD, of the probabilities of the links of the answers."""
        error = float(self.rows["link_error"].mean())
        return error if np.isfinite(error) else 0.0


def measured_lift(
    decisions: pd.DataFrame,
    designs: pd.DataFrame,
    responses: pd.DataFrame,
    contacts: pd.DataFrame,
    voters: pd.DataFrame,
    settings: LiftSettings,
    *,
    features: pd.DataFrame,
) -> MeasuredLift:
    """Lift of a campaign's plans, valid though they learned and are looked at daily.

    Args:
        decisions: ASSIGNMENTS with plan_id, decided_on and voted_before (whether the
            voter had voted when the plan was drawn), of voters who were decided.
        designs: DESIGNS of the plans' blocks, named as in the decisions.
        responses: RESPONSES.
        contacts: What came of the contacts: voter_id, plan_id, channel, delivered.
            Where a plan's channel reported, a contact that is not named was not made.
        voters: voter_id; household_id and segment where known.
        settings: Terms declared.
        features: Numbers known before the campaign, indexed by voter_id; they make
            intervals narrower and move no lift. No columns where nothing is known.

    Raises:
        TableError: If assignments, designs and terms contradict each other.
    """
    decided = decided_rows(decisions, designs, responses, voters, settings)
    first = decided.take((decided.rows["nth"] == 0).to_numpy())
    planned = first.take(first.meant_or_nothing)
    messages = tuple(sorted(planned.rows["intended_message_id"].unique()))
    all_due = first.take(first.rows["due"].to_numpy(dtype=bool))
    due = planned.take(planned.rows["due"].to_numpy(dtype=bool))
    due = due.take(delivered(due, messages).reported)
    information = due.days / settings.horizon_days
    ratio = _sample_ratio(first)
    lifts: list[Row] = []
    overall, calibration, attrition, gained = None, None, 1.0, None
    reached = None
    if _comparable(due.rows, due.got > 0):
        delivered_rows = _measured_rows(
            due, delivered(due, messages), features, settings
        )
        attrition = _attrition(delivered_rows.decisions)
        lifts, estimates = _delivered(
            delivered_rows, messages, information, estimand="delivered"
        )
        overall = lifts[0]
        calibration = _calibration(delivered_rows, estimates, information)
        error = delivered_rows.link_error
        gained = _gained(delivered_rows, information).with_scale_error(error)
        reached = _reached(delivered_rows, contacts)
    of_not_voted = _not_voted(due, messages, features, settings)
    lifts = [*lifts, *of_not_voted, *_population(first, features, settings)]
    link, converted, early = _surrogate(planned, messages, features, settings)
    return MeasuredLift(
        as_of=settings.as_of,
        n_decided=len(first.rows),
        n_due=int(first.rows["due"].sum()),
        n_in=int(first.rows["Y"].notna().sum()),
        n_waiting=int((~explored(all_due).reported).sum()),
        n_repeats=len(decided.rows) - len(first.rows),
        n_voted_before=int(first.rows["voted_before"].sum()),
        information=information,
        overall=overall,
        not_voted=of_not_voted[0] if of_not_voted else None,
        rows=(*lifts, *early),
        calibration=calibration,
        ratio=ratio,
        attrition_p=attrition,
        gained=gained,
        link=link,
        converted=converted,
        repeats=_repeats(decided) if settings.repeats == "carry_over" else None,
        reached=reached,
    )


def _not_voted(
    due: DecidedRows,
    messages: tuple[str, ...],
    features: pd.DataFrame,
    settings: LiftSettings,
) -> list[Row]:
    """Rows among voters who had not voted when they were assigned; the first over all.

    Who had voted by then is known before the draw, of those held out as of others.
    Whoever votes later stays in: that vote may be what the plan brought.
    """
    had_voted = due.rows["voted_before"].to_numpy(dtype=bool)
    not_voted = due.take(~had_voted)
    if not had_voted.any() or not _comparable(not_voted.rows, not_voted.got > 0):
        return []
    measured = _measured_rows(
        not_voted, delivered(not_voted, messages), features, settings
    )
    information = not_voted.days / settings.horizon_days
    rows, _ = _delivered(measured, messages, information, estimand=NOT_VOTED)
    return rows


def _comparable(rows: pd.DataFrame, sent: Bools) -> bool:
    """Whether enough people with outcomes stand on both sides."""
    observed = rows["Y"].notna().to_numpy()
    sides = ((observed & sent).sum(), (observed & ~sent).sum())
    return bool(min(sides) >= SMALLEST_CELL)


def _measured_rows(
    decided: DecidedRows,
    decisions: Decisions,
    features: pd.DataFrame,
    settings: LiftSettings,
) -> _MeasuredRows:
    """Nuisances of rows, from features where there are any."""
    X = _features(decided.rows, features)
    fold = _folds(decided.rows, settings)
    mu = predicted_response(X, decisions, fold=fold)
    seen = observed_probability(X, decisions, fold=fold)
    return _MeasuredRows(decided.rows, decisions, mu, seen)


def _features(rows: pd.DataFrame, features: pd.DataFrame) -> Floats:
    if features.shape[1] == 0 or rows.empty:
        return np.zeros((len(rows), features.shape[1]))
    X = features.reindex(rows["voter_id"]).to_numpy(dtype=np.float64)
    observed = ~np.isnan(X)
    # the mean of a column, 0 where nobody has a value: who left the file has none
    total = np.where(observed, X, 0.0).sum(axis=0)
    usual = total / np.maximum(observed.sum(axis=0), 1)
    return np.where(observed, X, usual)


def _folds(rows: pd.DataFrame, settings: LiftSettings) -> Ints:
    return unit_folds(
        rows["household"].to_numpy(dtype=object), N_FOLDS, salt=f"lift-{settings.seed}"
    )


# --- as delivered ---


def _delivered(
    measured: _MeasuredRows,
    messages: tuple[str, ...],
    information: float,
    *,
    estimand: str,
) -> tuple[list[Row], Estimates]:
    """Rows over all, by message, by segment, and by both; the first is over all."""
    rows, sent = measured.rows, measured.decisions.arm > 0
    cells = [
        (message, segment)
        for segment in (ALL, *sorted(rows["segment"].unique()))
        for message in (ALL, *messages)
    ]
    # one segment alone is everybody again
    if rows["segment"].nunique() < 2:
        cells = [cell for cell in cells if cell[1] == ALL]
    groups: list[Ints] = []
    compared_cells: list[tuple[str, str]] = []
    for message, segment in cells:
        inside = ((rows["segment"] == segment) | (segment == ALL)) & (
            (rows["intended_message_id"] == message) | (message == ALL)
        )
        if _comparable(rows[inside], sent[inside.to_numpy()]):
            groups.append(np.where(inside, len(compared_cells), -1))
            compared_cells.append((message, segment))
    estimates = _weighted(measured, groups, _scores(measured))
    predicted = rows["predicted_lift"].to_numpy(dtype=np.float64)
    predicted_means = _weighted(measured, groups, predicted).value
    table = _judged(
        estimand, [(m, ALL, s) for m, s in compared_cells], estimates, information,
        [_sides(measured, group >= 0) for group in groups],
    )  # fmt: skip
    table = [
        row._replace(predicted=float(mean)).with_scale_error(measured.link_error)
        for row, mean in zip(table, predicted_means, strict=True)
    ]
    return table, estimates


def _scores(measured: _MeasuredRows) -> Floats:
    """Doubly robust score of every row: its intended arm against nothing, (n,)."""
    d = measured.decisions
    assert d.intended is not None
    rows = np.arange(len(d.arm))
    return lift_scores(d, measured.mu, measured.seen)[rows, d.intended - 1]


def _weighted(measured: _MeasuredRows, groups: list[Ints], values: Floats) -> Estimates:
    """Means of groups that overlap, days weighted alike, with their covariance."""
    d = measured.decisions
    assert d.intended is not None
    variance = design_variance(d)[np.arange(len(d.arm)), d.intended - 1]
    inside = np.column_stack([g >= 0 for g in groups])
    return combined(
        np.repeat(values[:, None], len(groups), axis=1), inside * variance[:, None],
        d.day, d.cluster, np.ones(len(d.arm)),
    )  # fmt: skip


def _gained(measured: _MeasuredRows, information: float) -> Interval:
    """Sum over the plans' days of the voters sent something by the plan times the lift.

    Every voter counts once here, where the measured lift weighs days by their noise:
    days of many voters and days of few may differ in what they bring.
    """
    day = np.unique(measured.decisions.day, return_inverse=True)[1]
    planned = (measured.rows["role"] == "plan").to_numpy(dtype=np.float64)
    n_rows = np.bincount(day)
    per_row = (np.bincount(day, weights=planned) / n_rows)[day]
    score = _scores(measured)
    off = score - (np.bincount(day, weights=score) / n_rows)[day]
    covariance = clustered_covariance(
        (per_row * off)[:, None], measured.decisions.cluster
    )
    total, se = float(per_row @ score), float(np.sqrt(covariance[0, 0]))
    return always_valid(total, se, information=information)


def _sides(measured: _MeasuredRows, inside: Bools) -> tuple[int, int]:
    seen = inside & measured.decisions.observed
    sent = measured.decisions.arm > 0
    return int((seen & sent).sum()), int((seen & ~sent).sum())


def _judged(
    estimand: str,
    row_names: list[tuple[str, str, str]],
    estimates: Estimates,
    information: float,
    sides: list[tuple[int, int]],
) -> list[Row]:
    """Rows with intervals, claims and shrunken values."""
    value, se = estimates.value, estimates.se
    v = np.full(len(value), information)
    evidence = e_values(value / np.where(se > 0, se, np.inf), v)
    claims = e_bh(evidence)
    level = claimed_alpha(int(claims.sum()), len(claims))
    shrunken = _shrunken(row_names, estimates)
    return [
        Row(
            estimand, *name, *sides[k],
            fixed_sample=Interval.of(value[k], se=se[k]),
            anytime_valid=always_valid(value[k], se[k], information=information),
            claimed=bool(claims[k]),
            claimed_interval=always_valid(
                value[k], se[k], information=information, alpha=level
            ) if claims[k] else None,
            shrunken=shrunken[k],
            predicted=np.nan,
        )
        for k, name in enumerate(row_names)
    ]  # fmt: skip


def _shrunken(
    row_names: list[tuple[str, str, str]], estimates: Estimates
) -> list[Interval]:
    """Messages move to the mean of the messages (of their segment)."""
    value, se = estimates.value.copy(), estimates.se.copy()
    of_message = np.array([bool(message) for message, _, _ in row_names])
    at = np.flatnonzero(of_message & np.isfinite(value))
    if len(at):
        covariance = estimates.covariance[np.ix_(at, at)]
        groups = [row_names[i][2] for i in at]
        value[at], se[at] = shrink(value[at], covariance, groups)
    return [Interval.of(v, se=s) for v, s in zip(value, se, strict=True)]


def _calibration(
    measured: _MeasuredRows, estimates: Estimates, information: float
) -> LiftCalibration:
    predicted = measured.rows["predicted_lift"].to_numpy(dtype=np.float64)
    d = measured.decisions
    # the scores of a world in which what was predicted had come true are 0
    foretold = np.where(d.arm > 0, predicted, 0.0)
    assert d.intended is not None
    less = replace(d, Y=d.Y - foretold)
    group = np.zeros(len(d.Y), dtype=np.int64)
    shifted = measured.mu.copy()
    rows = np.arange(len(d.Y))
    shifted[rows, d.intended] -= predicted
    unforetold = delivered_lifts(less, shifted, group, 1, measured.seen)
    gap = always_valid(unforetold.value[0], unforetold.se[0], information=information)
    # what the links' probabilities may be off by is of the measured lift, not the gap
    lift = float(estimates.value[0])
    wide = Interval(
        lift, lift - (gap.value - gap.low), lift + (gap.high - gap.value)
    ).with_scale_error(measured.link_error)
    gap = Interval(
        gap.value, gap.value - (lift - wide.low), gap.value + (wide.high - lift)
    )
    score = lift_scores(d, measured.mu, measured.seen)[rows, d.intended - 1]
    slope = _slope(score, predicted, d).with_scale_error(measured.link_error)
    return LiftCalibration(
        float(estimates.value[0] - unforetold.value[0]), gap, slope, gap.excludes_zero
    )


def _slope(score: Floats, predicted: Floats, d: Decisions) -> Interval:
    """Slope of the score on the prediction, within intended messages, clustered."""
    assert d.intended is not None
    n = np.bincount(d.intended)
    x, y = (
        v - (np.bincount(d.intended, weights=v) / np.maximum(n, 1))[d.intended]
        for v in (predicted, score)
    )
    spread = float(x @ x)
    if spread <= 1e-12 * len(x):
        return Interval(np.nan, -np.inf, np.inf)
    slope = float(x @ y) / spread
    totals = np.bincount(d.cluster, weights=x * (y - slope * x))
    return Interval.of(slope, se=float(np.sqrt((totals**2).sum()) / spread))


def _reached(measured: _MeasuredRows, contacts: pd.DataFrame) -> Compliance | None:
    """Intent to treat, share reached, and the lift of the voters who were reached.

    Over voters whose plan would have used a channel that reported back: whether it did
    does not depend on what the voter was assigned.
    """
    rows, d = measured.rows, measured.decisions
    channel = [rows["plan_id"].astype(object), rows["intended_channel"].astype(object)]
    reporting = pd.MultiIndex.from_frame(
        contacts[["plan_id", "channel"]].astype(object)
    )
    inside = pd.MultiIndex.from_arrays(channel).isin(reporting)
    sent = d.arm > 0
    if not _comparable(rows[inside], sent[inside]):
        return None
    deliveries = contacts.loc[
        contacts["delivered"].astype(bool), ["voter_id", "plan_id"]
    ]
    of_plan = pd.MultiIndex.from_frame(rows[["voter_id", "plan_id"]].astype(object))
    was_reached = (
        of_plan.isin(pd.MultiIndex.from_frame(deliveries.astype(object))) & sent
    )
    weight = 1.0 / d.own_propensity
    if measured.seen is not None:
        weight = weight / measured.seen
    found = compliance(
        d.Y[inside], sent[inside], was_reached[inside], d.cluster[inside],
        weight[inside],
    )  # fmt: skip
    error = measured.link_error
    return found._replace(
        assigned=found.assigned.with_scale_error(error),
        reached=found.reached.with_scale_error(error),
    )


# --- over the population ---


def _population(
    first: DecidedRows, features: pd.DataFrame, settings: LiftSettings
) -> list[Row]:
    """Rows of every arm over all who could get it, by the designs' probabilities."""
    due = first.take(first.rows["due"].to_numpy(dtype=bool))
    due = due.take(explored(due).reported)
    if len(due.rows) < SMALLEST_CELL or not due.arms:
        return []
    measured = _measured_rows(due, explored(due), features, settings)
    estimates = population_lifts(measured.decisions, measured.mu, measured.seen)
    arm, seen = measured.decisions.arm, measured.decisions.observed
    n = np.bincount(arm[seen], minlength=1 + len(due.arms))
    enough = np.flatnonzero((n[1:] >= SMALLEST_CELL) & (n[0] >= SMALLEST_CELL))
    if not len(enough):
        return []
    compared = Estimates(
        estimates.value[enough], estimates.covariance[np.ix_(enough, enough)],
        estimates.n_rows[enough], estimates.n_days[enough],
    )  # fmt: skip
    rows = _judged(
        "population", [(*due.arms[k], ALL) for k in enough], compared,
        due.days / settings.horizon_days,
        [(int(n[k + 1]), int(n[0])) for k in enough],
    )  # fmt: skip
    return [row.with_scale_error(measured.link_error) for row in rows]


# --- what must hold ---


def _sample_ratio(first: DecidedRows) -> Ratio:
    """The plan's arm, nothing and other arms among voters with a plan, by household."""
    planned = first.take(first.intended > 0)
    if planned.rows.empty:
        return Ratio(1.0, (), {}, alarm=False)
    n = len(planned.got)
    meant = planned.design[np.arange(n), planned.intended]
    nothing = planned.design[:, 0]
    shares = np.column_stack([meant, nothing, 1.0 - meant - nothing])
    outcome = np.where(
        planned.got == 0, 1, np.where(planned.got == planned.intended, 0, 2)
    )
    off = np.eye(3)[outcome] - shares
    plan = planned.rows["plan_id"].to_numpy(dtype=object)
    unit = codes(planned.rows["household"])
    by_plan = {
        str(name): _off_p(off[plan == name], shares[plan == name], unit[plan == name])
        for name in pd.unique(plan)
    }
    overall = _off_p(off, shares, unit)
    failing = holm(np.array(list(by_plan.values())), alpha=0.01)
    names = tuple(p for p, bad in zip(by_plan, failing, strict=True) if bad)
    return Ratio(overall, names, by_plan, alarm=overall < RATIO_ALARM or bool(names))


def _off_p(off: Floats, shares: Floats, unit: Ints) -> float:
    """Wald test of shares that are off by nothing, clustered by household.

    A share of which too few are expected is not looked at.
    """
    enough = np.flatnonzero(shares[:, 1:].sum(axis=0) >= MIN_EXPECTED) + 1
    at = np.unique(unit, return_inverse=True)[1]
    if not len(enough) or at.max() < MIN_EXPECTED:
        return 1.0
    mean, V = clustered_means(off[:, enough], at)
    # the spread by design, where chance (or a fault) left none in the data
    design = (shares * (1 - shares))[:, enough].sum(axis=0) / len(off) ** 2
    V[np.diag_indices(len(enough))] = np.maximum(np.diag(V), 0.5 * design)
    return float(stats.chi2.sf(mean @ np.linalg.solve(V, mean), len(enough)))


def _attrition(d: Decisions) -> float:
    assert d.intended is not None
    rows = np.arange(len(d.arm))
    sides = np.column_stack([d.propensities[:, 0], d.propensities[rows, d.intended]])
    arm = (d.arm > 0).astype(np.int64)
    return attrition_p_value(d.observed, arm, sides, d.cluster)


# --- what comes early, and what comes twice ---


def _surrogate(
    planned: DecidedRows,
    messages: tuple[str, ...],
    features: pd.DataFrame,
    settings: LiftSettings,
) -> tuple[Link | None, Interval | None, list[Row]]:
    """The surrogate's own lift, the link, and what it converts to where that holds."""
    if settings.surrogate is None:
        return None, None, []
    early = planned.take(planned.rows["S"].notna().to_numpy())
    rows = early.rows
    if not _comparable(rows.assign(Y=rows["S"]), early.got > 0):
        return None, None, []
    d = delivered(early, messages)
    fold, X = _folds(rows, settings), _features(rows, features)
    half = unit_folds(
        rows["household"].to_numpy(dtype=object), 2, salt=f"link-{settings.seed}"
    )
    S = rows["S"].to_numpy(dtype=np.float64)
    link = fit_link(d, S, X, half == 0, fold)
    information = early.days / settings.horizon_days
    early_rows = _measured_rows(early, replace(d, Y=S), features, settings)
    group = np.zeros(len(S), dtype=np.int64)
    index_lifts = delivered_lifts(early_rows.decisions, early_rows.mu, group, 1)
    surrogate_rows = _judged(
        "surrogate", [(ALL, ALL, ALL)], index_lifts, information,
        [_sides(early_rows, np.ones(len(S), dtype=bool))],
    )  # fmt: skip
    if not link.holds:
        return link, None, surrogate_rows
    lift = index_lifts.intervals()[0]
    index = Interval.of(link.slope * lift.value, se=abs(link.slope) * lift.se)
    return link, link.converted(index), surrogate_rows


def _repeats(decided: DecidedRows) -> CarryOver | None:
    """Effects of two contacts on those decided twice, whatever the message."""
    rows = decided.rows
    # who was drawn to explore got nothing, or an arm that the plan did not choose
    drawn = (rows["role"] != "explore") | (rows["message_id"] == CONTROL)
    planned_contacts = rows[
        drawn & (rows["intended_message_id"] != CONTROL) & rows["due"]
    ]
    planned_contacts = planned_contacts[planned_contacts["nth"] < 2].sort_values(
        ["voter_id", "nth"], kind="stable"
    )
    decided_twice = planned_contacts[
        planned_contacts.groupby("voter_id")["nth"].transform("size") == 2
    ]
    one, two = (
        decided_twice[decided_twice["nth"] == 0],
        decided_twice[decided_twice["nth"] == 1],
    )
    sent = [(part["message_id"] != CONTROL).to_numpy() for part in (one, two)]
    cells = np.bincount(2 * sent[0] + sent[1], minlength=4)
    if cells.min() < SMALLEST_CELL:
        return None
    held = (one["role"] == "holdout").to_numpy()
    # who is held out once is so for good: the second time adds no chance
    again = two["propensity"].to_numpy() / (1 - two["h"].to_numpy())
    return carry_over(
        two["Y"].to_numpy(dtype=np.float64), sent[0], sent[1],
        one["propensity"].to_numpy(dtype=np.float64), np.where(held, 1.0, again),
        codes(two["household"]),
    )  # fmt: skip

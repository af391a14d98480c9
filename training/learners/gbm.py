"""The LightGBM lift model for several messages.

τ_m(x) = ᾱ_m + s_m (w_c C(x) + w_d D_m(x)): the shrunken average effect of the message,
a heterogeneity C that all messages share and one D_m of its own. C and D_m minimise
the R-loss (Nie & Wager 2021) with the known propensities as weights, so that a rare
arm's noise is known to the trees; w and s come from held-out predictions against
doubly robust scores (the best linear predictor of Chernozhukov et al.): what the data
do not support shrinks to the average effect of the message.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import lightgbm as lgb
import numpy as np
from scipy.optimize import nnls

from hustings.features.arrays import Bools, Floats, Floats32, Ints, Objects
from hustings.features.message import MessageFeatures
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import calibration_slope, weighted_rows
from hustings.training.learners.average_effects import (
    Nuisances,
    doubly_robust_scores,
    fit_nuisances,
    offered_lifts,
    sharpest_lifts,
)
from hustings.training.learners.boosting import FoldBoosters, binned, boost, predicted
from hustings.training.learners.lift_model import Lifts

DEFAULT_PARAMS: Mapping[str, Any] = {
    "n_trees": 40, "learning_rate": 0.1, "num_leaves": 8, "min_child_samples": 400,
    "lambda_l2": 10.0, "feature_fraction": 0.8,
}  # fmt: skip
SLOPE_SPREAD = 0.2
"""How far the slopes of messages differ from 1 as a rule."""
TAUS = np.linspace(0.05, 3.0, 30)
MIN_SENT = 300
"""A message observed on fewer people than this gets no heterogeneity of its own."""


@dataclass(frozen=True)
class ScoreCalibration:
    """Weights and slopes that shrink the predictions of the trees.

    Attributes:
        centre: Mean of C and of every D_m, shape (1 + M,).
        weight: w_c and w_d, shape (2,), in [0, 1].
        slope: s_m, shape (M,).
        slope_se: Its standard error, shape (M,).
        unexplained: Variance of lift that the trees do not follow, shape (M,).
    """

    centre: Floats
    weight: Floats
    slope: Floats
    slope_se: Floats
    unexplained: Floats

    def heterogeneity(self, C: Floats, D: Floats) -> tuple[Floats, Floats]:
        """Deviation from the average effect, and its variance, shape (n, M) each."""
        deviation = self.weight[0] * (C - self.centre[0])[:, None]
        deviation = deviation + self.weight[1] * (D - self.centre[1:])
        variance = (deviation * self.slope_se) ** 2 + self.unexplained
        return deviation * self.slope, variance


@dataclass(frozen=True)
class GbmLift:
    """A fitted model; voters are routed to the fold that never saw their unit.

    Attributes:
        ground: Nuisances and average effects.
        common: C.
        message_trees: D_m, None for a message with too few people.
        calibration: How far they are believed.
    """

    nuisances: Nuisances
    common: FoldBoosters
    message_trees: tuple[FoldBoosters | None, ...]
    calibration: ScoreCalibration

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lift of every message for every voter.

        Args:
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,): a voter who may have
                been trained on meets the trees that never saw its unit. None for
                voters known to be new, who get the mean of all trees.
        """
        deviation, variance = self.deviation(X, unit_id)
        lift = self.nuisances.effects.shrunken + deviation
        se = np.sqrt(variance + self.nuisances.effects.shrunken_se**2)
        return Lifts.within_range(self.nuisances, X, unit_id, lift, se)

    def deviation(
        self, X: Floats32, unit_id: Objects | None = None
    ) -> tuple[Floats, Floats]:
        """Lift less the average effect, and its variance, shape (n, M) each."""
        fold = None if unit_id is None else self.nuisances.folds(unit_id)
        C, D = _trees(self.common, self.message_trees, X, fold)
        return self.calibration.heterogeneity(C, D)

    def save(self, folder: Path) -> None:
        """Write JSON and LightGBM's text format: nothing executable."""
        self.nuisances.save(folder)
        self.common.save(folder, "common")
        for m, trees in enumerate(self.message_trees):
            if trees is not None:
                trees.save(folder, f"own_{m}")
        stored = {k: v.tolist() for k, v in vars(self.calibration).items()}
        (folder / "calibration.json").write_text(json.dumps(stored, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks the trees.
        """
        nuisances = Nuisances.load(folder)
        common = FoldBoosters.load(folder, "common")
        if common is None:
            raise FileNotFoundError(f"{folder}: expected common.0.lgb.txt")
        stored = json.loads((folder / "calibration.json").read_text())
        message_trees = [
            FoldBoosters.load(folder, f"own_{m}")
            for m in range(len(nuisances.messages))
        ]
        calibration = ScoreCalibration(**{k: np.array(v) for k, v in stored.items()})
        return cls(nuisances, common, tuple(message_trees), calibration)


@dataclass(frozen=True)
class Prepared:
    """A test with everything that does not depend on the trees' settings.

    Attributes:
        test: Arms merged by message, n voters, M messages.
        data: Features binned.
        fold: Shape (n,).
        ground: Nuisances and average effects.
        scores: Γ by message, shape (n, 1 + M); see `effects.offered_lifts`.
        lift: Lift of each message by the design's mix of channels as a score whose
            noise is least, centred, shape (n, M).
        residual: Y less the expected outcome of the voter's own arm, 0 where missing.
        weight: 1 / P(observed), 0 where missing, times the survey weight, shape (n,).
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        texts: What the messages say, for learners that read it; None where nobody
            read them.
        derived: What learners derive from it once for all settings, by a key of theirs.
    """

    test: MessageTest
    data: lgb.Dataset
    fold: Ints
    nuisances: Nuisances
    scores: Floats
    lift: Floats
    residual: Floats
    weight: Floats
    categorical: tuple[int, ...]
    issue_of: Mapping[str, str]
    texts: MessageFeatures | None = None
    derived: dict[Any, Any] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )


def prepare(
    test: MessageTest,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    *,
    seed: int,
    texts: MessageFeatures | None = None,
    nuisances: Nuisances | None = None,
) -> Prepared:
    """Bin, cross-fit the nuisances and score, once for all settings of the trees.

    Args:
        test: The experiment, arms as sent.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        seed: Folds and LightGBM.
        texts: Features of at least its messages, for learners that read them.
        nuisances: Of this very test, where they were fitted before.
    """
    data = binned(test.X, categorical)
    if nuisances is None:
        nuisances = fit_nuisances(test, data, issue_of, seed=seed)
    merged, fold = test.by_message(), nuisances.folds(test.unit_id)
    response = nuisances.response(test)
    seen = nuisances.observed_probability(test)
    scores = doubly_robust_scores(merged, response, seen)
    # own arm's mean with the shrunken effects: what is left is heterogeneity and noise
    effect = nuisances.effects.shrunken
    added = np.concatenate([[0.0], effect])[merged.arm]
    weight = test.observed / (np.ones(len(test.Y)) if seen is None else seen)
    if test.survey_weight is not None:
        weight = weight * test.survey_weight
    control = response - merged.propensities[:, 1:] @ effect
    return Prepared(
        test=merged,
        data=data,
        fold=fold,
        nuisances=nuisances,
        scores=_comparable(scores, merged.propensities, merged.wave),
        lift=sharpest_lifts(test, nuisances.effects, response, seen),
        residual=np.where(test.observed, test.Y - control - added, 0.0),
        weight=weight,
        categorical=tuple(categorical),
        issue_of=dict(issue_of),
        texts=texts,
    )


def _comparable(scores: Floats, propensities: Floats, wave: Ints | None) -> Floats:
    """Scores whose difference to control is that of `effects.offered_lifts`."""
    lift = offered_lifts(scores, propensities, wave)
    return np.column_stack([scores[:, 0], scores[:, :1] + lift])


def fit_gbm(
    prepared: Prepared, params: Mapping[str, Any] = DEFAULT_PARAMS, *, seed: int
) -> GbmLift:
    """Fit the trees of every fold and calibrate them on what they did not see.

    Args:
        prepared: The test.
        params: `n_trees` and LightGBM's own.
        seed: For LightGBM.

    Raises:
        ValueError: If no outcome was observed.
    """
    test, fold = prepared.test, prepared.fold
    common, *message_trees = (
        _fit_goal(prepared, g, params, seed) for g in _goals(prepared)
    )
    if common is None:
        raise ValueError(
            f"experiment {test.experiment_id}: expected observed outcomes, got none"
        )
    C, D = _trees(common, message_trees, test.X, fold)
    calibration = calibrate(prepared.scores, C, D, test.cluster, test.survey_weight)
    return GbmLift(prepared.nuisances, common, tuple(message_trees), calibration)


def _fit_goal(
    prepared: Prepared, goal: "_Goal | None", params: Mapping[str, Any], seed: int
) -> FoldBoosters | None:
    if goal is None:
        return None
    return FoldBoosters.fit(
        prepared.data, goal.rows, goal.target, goal.weight, prepared.fold, params,
        seed=seed,
    )  # fmt: skip


class _Goal(NamedTuple):
    """R-loss of one contrast as a weighted regression."""

    rows: Bools
    target: Floats
    weight: Floats


def _goals(prepared: Prepared) -> Iterator[_Goal | None]:
    """Any message against control, then each message against control."""
    test, e = prepared.test, prepared.test.propensities
    yield _goal(prepared, test.arm >= 0, test.arm > 0, 1.0 - e[:, 0])
    for m in range(1, e.shape[1]):
        sent = test.arm == m
        if (sent & test.observed).sum() < MIN_SENT:
            yield None
        else:
            among = e[:, m] / (e[:, 0] + e[:, m])
            yield _goal(prepared, sent | (test.arm == 0), sent, among)


def _goal(
    prepared: Prepared,
    among: Bools,
    sent: Bools,
    propensity: Floats,
) -> _Goal:
    """Min Σ w (residual − (sent − e) h)²: target residual / (sent − e)."""
    surprise = sent - propensity
    # e is 0 or 1 where an arm was not offered or everybody got it: no contrast there
    rows = among & prepared.test.observed & (np.abs(surprise) > 1e-9)
    rows &= (propensity > 0) & (propensity < 1)
    target = np.divide(
        prepared.residual, surprise, out=np.zeros(len(surprise)), where=rows
    )
    # scaled so that a row's Hessian is about 1 whatever the arm's share
    scale = np.mean(surprise[rows] ** 2) if rows.any() else 1.0
    return _Goal(rows, target, prepared.weight * surprise**2 / scale)


def _trees(
    common: FoldBoosters,
    message_trees: Sequence[FoldBoosters | None],
    X: Floats32,
    fold: Ints | None,
) -> tuple[Floats, Floats]:
    """C, shape (n,), and D, shape (n, M), 0 for a message without trees."""
    D = np.zeros((len(X), len(message_trees)))
    for m, trees in enumerate(message_trees):
        if trees is not None:
            D[:, m] = trees.predict(X, fold)
    return common.predict(X, fold), D


def calibrate(
    scores: Floats,
    C: Floats,
    D: Floats,
    cluster: Ints,
    survey: Floats | None = None,
) -> ScoreCalibration:
    """Weights and slopes from held-out predictions against doubly robust scores.

    Args:
        scores: Γ by message, shape (n, 1 + M).
        C: Held-out common heterogeneity, shape (n,).
        D: Held-out heterogeneity of every message, shape (n, M).
        cluster: Shape (n,).
        survey: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    lift = scores[:, 1:] - scores[:, :1]
    lift = lift - np.average(lift, axis=0, weights=survey)
    middle = np.average(C, weights=survey)
    centre = np.concatenate([[middle], np.average(D, axis=0, weights=survey)])
    c, d = (C - centre[0])[:, None], D - centre[1:]
    weight = _shared_weights(*(weighted_rows(part, survey) for part in (lift, c, d)))
    combined = weight[0] * c + weight[1] * d
    slope, slope_se = slopes(lift, combined, cluster, survey)
    c, d = weighted_rows(c, survey), weighted_rows(d, survey)
    # E[(τ − ŝ h)²] = w(1 − w) Var(h) where h is the truth plus independent noise
    spread = weight[0] * (1 - weight[0]) * np.var(c)
    message_variance = d.var(axis=0)
    # a message without trees of its own differs as much as the others do, unseen
    unseen = (
        weight[1] * message_variance[message_variance > 0].mean()
        if (message_variance > 0).any()
        else 0.0
    )
    unexplained = spread + np.where(
        message_variance > 0, weight[1] * (1 - weight[1]) * message_variance, unseen
    )
    return ScoreCalibration(centre, weight, slope, slope_se, unexplained)


def _shared_weights(lift: Floats, c: Floats, d: Floats) -> Floats:
    """Non-negative least squares of all messages together, clipped to 1."""
    n_messages = lift.shape[1]
    precision = 1.0 / np.maximum(lift.var(axis=0), 1e-300)
    gram, moment = np.zeros((2, 2)), np.zeros(2)
    for m in range(n_messages):
        Z = np.column_stack([c[:, 0], d[:, m]])
        gram += precision[m] * Z.T @ Z
        moment += precision[m] * Z.T @ lift[:, m]
    scale = max(float(np.trace(gram)), 1e-300)
    root = np.linalg.cholesky(gram / scale + 1e-9 * np.eye(2))
    weight: Floats = nnls(root.T, np.linalg.solve(root, moment / scale))[0]
    return np.clip(weight, 0.0, 1.0)


def slopes(
    lift: Floats, combined: Floats, cluster: Ints, survey: Floats | None = None
) -> tuple[Floats, Floats]:
    """Slope of each message, pulled to 1 as far as its own is uncertain.

    Args:
        lift: Γ_m − Γ_0, centred by message, shape (n, M).
        combined: Held-out deviation from the average effect, shape (n, M).
        cluster: Shape (n,).
        survey: Survey weights of mean 1, shape (n,); None where all count the same.

    Returns:
        Slope and its posterior SD, shape (M,) each; 0 where nothing was predicted.
    """
    n_messages = lift.shape[1]
    fitted = [
        calibration_slope(lift[:, [m]], combined[:, [m]], cluster, survey)
        for m in range(n_messages)
    ]
    raw, se = np.array([f.value for f in fitted]), np.array([f.se for f in fitted])
    slope, slope_sd = np.ones(n_messages), np.zeros(n_messages)
    is_estimated = se > 0
    slope[is_estimated], slope_sd[is_estimated] = _around_one(
        raw[is_estimated], se[is_estimated]
    )
    return np.where(is_estimated, np.clip(slope, 0.0, 1.5), 0.0), slope_sd


def _around_one(raw: Floats, se: Floats) -> tuple[Floats, Floats]:
    """Posterior mean and SD of slopes that are N(1, τ²), τ half-normal.

    The doubt about τ is part of the SD.
    """
    prior = (SLOPE_SPREAD * TAUS[:, None]) ** 2
    total = prior + se**2
    log = -0.5 * ((raw - 1.0) ** 2 / total + np.log(total)).sum(axis=1) - TAUS**2 / 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    each = 1.0 + (raw - 1.0) * prior / total
    mean = weight @ each
    variance = weight @ (prior * se**2 / total + (each - mean) ** 2)
    return mean, np.sqrt(variance)


def r_loss_steps(
    prepared: Prepared, params: Mapping[str, Any], *, hold: int, seed: int
) -> Iterator[float]:
    """Held-out R-loss of each contrast, relative to no heterogeneity, for tuning.

    Yields after every contrast the running mean of (loss − loss of 0) / loss of 0 on
    fold `hold`, by trees fitted on the other folds: below 0 is better than nothing.
    """
    relative_losses = []
    for goal in _goals(prepared):
        if goal is None:
            continue
        train = goal.rows & (prepared.fold != hold)
        held = goal.rows & (prepared.fold == hold)
        trees = boost(prepared.data, train, goal.target, goal.weight, params, seed=seed)
        h = predicted(trees, prepared.test.X[held])
        h = h * _best_scale(goal, h, held)
        error = goal.weight[held] * (goal.target[held] - h) ** 2
        none = goal.weight[held] * goal.target[held] ** 2
        relative_losses.append(float((error.sum() - none.sum()) / none.sum()))
        yield float(np.mean(relative_losses))


def _best_scale(goal: _Goal, h: Floats, held: Bools) -> float:
    """Slope in [0, 1]: calibration comes later, so tuning judges the shape alone."""
    w, z = goal.weight[held], goal.target[held]
    norm = float((w * h * h).sum())
    return min(max(float((w * h * z).sum()) / norm, 0.0), 1.0) if norm > 0 else 0.0

"""Linear terms and trees together, believed as far as held-out voters support them.

τ_m(x) = ᾱ_m + s_m (w_1 L_m(x) + w_2 G_m(x)): the shrunken average effect of the
message, what the linear model and the trees predict of the voter's deviation from it,
weights w that all messages share and a slope s_m of the message, near 1. Weights and
slopes come from predictions for voters that the fits never saw, against their doubly
robust scores. Trees stay only where they lower the held-out loss: they
cost a hundred times as much to score.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from hustings.features.arrays import Floats, Floats32, Ints, Objects
from hustings.training.estimators.metrics import clustered_means, weighted_rows
from hustings.training.learners.arm_trees import (
    DEFAULT_ARM_TREES,
    ArmTrees,
    fit_arm_trees,
)
from hustings.training.learners.average_effects import (
    Nuisances,
    believable_noise,
    pools,
)
from hustings.training.learners.boosting import N_FOLDS
from hustings.training.learners.gbm import Prepared, slopes
from hustings.training.learners.lift_model import Lifts
from hustings.training.learners.linear import DEFAULT_LINEAR, LinearFit, fit_linear

LINEAR_FOLDS = 2 * N_FOLDS
"""A linear fit is cheap once its moments are summed: more folds leave more to learn."""
MOST = 1.5
"""No part is believed more than this many times."""
LEAST_WEIGHT = 0.05
"""Trees of less weight are not worth their time."""
EXPECTED_WEIGHT, WEIGHT_SD = (1.0, 0.0), (0.3, 0.4)
"""Weights of the linear part, a posterior, and of trees beside it, before they are
judged, and how far they are wrong as a rule."""


@dataclass(frozen=True)
class StackBelief:
    """Weights and slopes that shrink the parts of a stack.

    Attributes:
        weight: Of every part, shape (n_parts,).
        weight_sd: Posterior SD of the weight of the linear part, shape ().
        slope: s_m, shape (M,).
        slope_se: Its posterior SD, shape (M,).
        unexplained: Variance of lift for what of the trees is not believed, (M,).
    """

    weight: Floats
    weight_sd: Floats
    slope: Floats
    slope_se: Floats
    unexplained: Floats

    def combine(self, parts: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Believed deviation from the average effect, and its variance, (n, M) each.

        The variance is what belief itself adds to that of the parts.
        """
        total = _combined(self.weight, parts)
        # also of what a weight of nil throws away
        of_weight = (self.weight_sd * parts[0]) ** 2
        variance = (total * self.slope_se) ** 2 + of_weight + self.unexplained
        return total * self.slope, variance


@dataclass(frozen=True)
class StackLift:
    """A fitted stack; voters are routed to the folds that never saw their unit.

    Attributes:
        ground: Nuisances and average effects.
        linear: Linear heterogeneity.
        trees: Over features and message, None where they do not earn their cost.
        belief: How far each is believed.
    """

    nuisances: Nuisances
    linear: LinearFit
    trees: ArmTrees | None
    belief: StackBelief

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lift of every message for every voter, as `GbmLift.predict`."""
        fold = None if unit_id is None else self._linear_fold(unit_id)
        linear, of_linear = self.linear.moments(X, fold)
        deviation, doubt = self.belief.combine([linear, *self._of_trees(X, unit_id)])
        lift = self.nuisances.effects.shrunken + deviation
        variance = of_linear + doubt
        se = np.sqrt(variance + self.nuisances.effects.shrunken_se**2)
        return Lifts.within_range(self.nuisances, X, unit_id, lift, se)

    def _linear_fold(self, unit_id: Objects) -> Ints:
        return self.nuisances.folds(unit_id, self.linear.n_folds)

    def _of_trees(self, X: Floats32, unit_id: Objects | None) -> list[Floats]:
        if self.trees is None:
            return []
        fold = None if unit_id is None else self.nuisances.folds(unit_id)
        return [self.trees.deviation(X, fold)]

    def save(self, folder: Path) -> None:
        """Write JSON and LightGBM's text format: nothing executable."""
        self.nuisances.save(folder)
        (folder / "linear.json").write_text(json.dumps(self.linear.to_json()))
        belief = {k: v.tolist() for k, v in vars(self.belief).items()}
        (folder / "belief.json").write_text(json.dumps(belief, indent=1))
        if self.trees is not None:
            self.trees.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks a part.
        """
        linear = LinearFit.from_json(json.loads((folder / "linear.json").read_text()))
        belief = json.loads((folder / "belief.json").read_text())
        return cls(
            Nuisances.load(folder),
            linear,
            ArmTrees.load(folder),
            StackBelief(
                **{k: np.array(v, dtype=np.float64) for k, v in belief.items()}
            ),
        )


def fit_stack(
    prepared: Prepared, settings: Mapping[str, Any], *, seed: int
) -> StackLift:
    """Fit both parts, weigh them on held-out predictions, keep what pays.

    Args:
        prepared: The test.
        settings: Of the linear model (`screen`, `order`, `max_columns`)
            and of the trees (`n_trees` and LightGBM's own); `trees` false leaves the
            trees out. What is not named takes its default.
        seed: For LightGBM.
    """
    test = prepared.test
    linear = linear_part(prepared, settings)
    fold = prepared.nuisances.folds(test.unit_id, linear.n_folds)
    held = linear.deviation(test.X, fold)
    scored = prepared.scores[:, 1:] - prepared.scores[:, :1]
    scored = scored - np.average(scored, axis=0, weights=test.survey_weight)
    if settings.get("trees", True):
        of_trees = {k: settings.get(k, v) for k, v in DEFAULT_ARM_TREES.items()}
        trees, deviation = fit_arm_trees(prepared, of_trees, seed=seed)
        parts = [held, deviation]
        if _trees_earn(scored, parts, prepared.fold, test.cluster, test.survey_weight):
            belief = believe(scored, parts, test.cluster, test.survey_weight)
            if belief.weight[1] >= LEAST_WEIGHT:
                return StackLift(prepared.nuisances, linear, trees, belief)
    belief = believe(scored, [held], test.cluster, test.survey_weight)
    return StackLift(prepared.nuisances, linear, None, belief)


def linear_part(
    prepared: Prepared, settings: Mapping[str, Any], *, only: int | None = None
) -> LinearFit:
    """The linear model of a test, cross-fitted.

    Args:
        prepared: The test.
        settings: See `fit_stack`.
        only: A fold that is left out of the one fit there is, for tuning, which asks
            for no variance.
    """
    test, lift, starts = prepared.test, prepared.lift, None
    fold = prepared.nuisances.folds(test.unit_id, LINEAR_FOLDS)
    if only is not None:
        training = prepared.fold != only
        test, lift, fold = (
            test.take(training),
            lift[training],
            np.zeros(training.sum(), np.int64),
        )
        starts = prepared.derived.setdefault(("linear", only), {})
    params = {k: settings.get(k, v) for k, v in DEFAULT_LINEAR.items()}
    issues = [prepared.issue_of[m] for m in test.messages]
    _, covariance = clustered_means(lift, test.cluster, test.survey_weight)
    noise = believable_noise(test, covariance, pools(issues)) * len(test.Y)
    return fit_linear(
        test.X,
        lift,
        noise,
        fold,
        issues,
        prepared.categorical,
        params,
        test.survey_weight,
        1 if only is not None else LINEAR_FOLDS,
        test.affinity_columns,
        outcome_sd=float(np.nanstd(test.Y)),
        with_variance=only is None,
        starts=starts,
    )


def believe(
    scored: Floats,
    parts: Sequence[Floats],
    cluster: Ints,
    survey: Floats | None = None,
) -> StackBelief:
    """Weights and slopes from held-out predictions against doubly robust scores.

    Args:
        scored: Γ_m − Γ_0, centred by message, shape (n, M).
        parts: Held-out deviations, shape (n, M) each.
        cluster: Shape (n,).
        survey: Survey weights of mean 1, shape (n,); None where all count the same.
    """
    centred = [part - np.average(part, axis=0, weights=survey) for part in parts]
    weight, weight_sd = _weights(
        weighted_rows(scored, survey),
        [weighted_rows(part, survey) for part in centred],
        cluster,
    )
    slope, slope_se = slopes(scored, _combined(weight, centred), cluster, survey)
    # of w h the share 1 − w is not the truth; the linear part has a posterior instead
    unexplained = np.zeros(scored.shape[1])
    for w, part in zip(weight[1:], centred[1:], strict=True):
        unexplained += abs(w * (1.0 - w)) * part.var(axis=0)
    return StackBelief(weight, np.array(weight_sd), slope, slope_se, unexplained)


def _combined(weight: Floats, parts: Sequence[Floats]) -> Floats:
    total = np.zeros_like(parts[0])
    for w, part in zip(weight, parts, strict=True):
        total += w * part
    return total


def _weights(
    scored: Floats, parts: Sequence[Floats], cluster: Ints
) -> tuple[Floats, float]:
    """Posterior means of the parts' weights, and the first one's SD.

    One weight of a part for all messages.

    The held-out regression of scores on parts has an error of its own, and what comes
    first is a posterior already, whose weight is 1 but for what its model gets wrong.
    """
    k = len(parts)
    precision = 1.0 / np.maximum(scored.var(axis=0), 1e-300)
    gram, moment = np.zeros((k, k)), np.zeros(k)
    for a in range(k):
        moment[a] = (precision * parts[a] * scored).sum()
        for b in range(k):
            gram[a, b] = (precision * parts[a] * parts[b]).sum()
    mean, sd = np.array(EXPECTED_WEIGHT[:k]), np.array(WEIGHT_SD[:k])
    if not np.trace(gram) > 0:
        return mean, float(sd[0])
    # held-out errors of a cluster and of the messages add: gram alone understates them
    residual = scored - _combined(mean, parts)
    of_cluster = np.column_stack(
        [
            np.bincount(cluster, (precision * part * residual).sum(axis=1))
            for part in parts
        ]
    )
    noise = of_cluster.T @ of_cluster
    scale = max(float(np.trace(noise) / np.trace(gram)), 1e-300)
    posterior = gram / scale + np.diag(1.0 / sd**2)
    weight: Floats = mean + np.linalg.solve(posterior, (moment - gram @ mean) / scale)
    doubt = np.sqrt(np.linalg.inv(posterior)[0, 0])
    return np.clip(weight, 0.0, MOST), float(doubt)


def _trees_earn(
    scored: Floats,
    parts: Sequence[Floats],
    fold: Ints,
    cluster: Ints,
    survey: Floats | None,
) -> bool:
    """Whether trees lower the held-out loss, by weights chosen on other folds.

    By more than the standard error of the difference: trees of no use are not kept.
    """
    scored = weighted_rows(scored, survey)
    parts = [weighted_rows(part, survey) for part in parts]
    precision = 1.0 / np.maximum(scored.var(axis=0), 1e-300)
    gained = np.zeros(len(scored))
    for k in np.unique(fold):
        in_fold, out_of_fold = fold == k, fold != k
        loss = []
        for weighed in (parts[:1], parts):
            weight, _ = _weights(
                scored[out_of_fold],
                [part[out_of_fold] for part in weighed],
                cluster[out_of_fold],
            )
            h = _combined(weight, [part[in_fold] for part in weighed])
            loss.append(((scored[in_fold] - h) ** 2) @ precision)
        gained[in_fold] = loss[0] - loss[1]
    of_cluster = np.bincount(cluster, gained)
    return bool(gained.sum() > np.sqrt((of_cluster**2).sum()))

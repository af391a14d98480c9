"""Nuisances, doubly robust scores and average effects of one message test."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np

from hustings.features.arrays import Bools, Floats, Floats32, Ints, Objects
from hustings.features.prior_evidence import PriorEvidence
from hustings.features.training_set import Arm, EffectPrior, MessageTest
from hustings.training.estimators.metrics import Interval, aipw_scores, clustered_means
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.boosting import N_FOLDS
from hustings.training.learners.channels import Multipliers, channel_multipliers
from hustings.training.learners.cross_fits import CROSS_FOLDS, CrossFits, cross_fit
from hustings.training.learners.forecasts import MessageEstimates, expected_effects
from hustings.training.learners.priors import combine_with_prior
from hustings.training.learners.text_prior import even_noise

PROPENSITY_FLOOR = 1e-3
"""No score divides by less: one outcome in a thousand would outweigh all others."""
MOST_BELOW_FLOOR = 0.05
"""Share of the weight that may hang on chances below the floor."""
NOISIEST = 4.0
"""Rows noisier than this many times those of the quietest wave count less."""
MIN_MEASURED = 2
"""A message observed on fewer people than this says nothing of its own effect."""
FEW_PEOPLE = 100
"""A message observed on fewer people than this hardly knows its own noise: the fewer,
the more it takes that of its pool."""
MIN_POOLED = 3
"""Fewer messages than this do not say how far messages differ: each is shrunken towards
no effect by what is known of such effects."""
USUAL_EFFECT = 0.05
"""Usual size of a message's effect, as a share of the SD of the outcome: 1 to 5 points
of support, or of turnout (Coppock, Hill & Vavreck 2020; Kalla & Broockman 2018)."""
USUAL_EFFECTS = np.tan(np.linspace(0.0, np.pi / 2, 202)[1:-1])
"""Quantiles of a half-Cauchy distribution of scale 1."""
MIN_POOLED_IN_ISSUE = 5
MAX_CHANNEL_SE = 0.2
"""Channels whose multipliers are known worse than this are not distinguished."""


def _arm_means(response: Floats, effect: Floats, propensities: Floats) -> Floats:
    """Expected outcome under control and every arm, shape (n, 1 + A).

    The response is E[Y | x] over the design's mix, so control lies below it by what
    the mix adds.

    Args:
        response: Shape (n,).
        effect: Average effect of every arm, shape (A,).
        propensities: Shape (n, 1 + A).
    """
    control = response - propensities[:, 1:] @ effect
    return np.column_stack([control, control[:, None] + effect])


def _plain_effects(test: MessageTest, response: Floats) -> Floats:
    """Weighted difference in mean residual of every arm against control, (A,)."""
    seen = test.observed
    assigned_propensity = floored(test.propensities)[np.arange(len(test.arm)), test.arm]
    weight = np.where(
        seen, row_precision(test.propensities, test.wave) / assigned_propensity, 0.0
    )
    if test.weight is not None:
        weight = weight * test.weight
    residual = np.where(seen, test.Y - response, 0.0)
    n_arms = test.propensities.shape[1]
    total = np.bincount(test.arm, weights=weight, minlength=n_arms)
    mean = np.bincount(test.arm, weights=weight * residual, minlength=n_arms)
    mean = np.divide(mean, total, out=np.zeros(n_arms), where=total > 0)
    effect: Floats = mean[1:] - mean[0]
    return effect


def doubly_robust_scores(
    test: MessageTest, response: Floats, observed_probability: Floats | None
) -> Floats:
    """Γ of control and every arm, shape (n, 1 + A), from a cross-fitted response."""
    mu = _arm_means(response, _plain_effects(test, response), test.propensities)
    return aipw_scores(
        test.Y, test.arm, mu, floored(test.propensities),
        observed_probability=observed_probability,
    )  # fmt: skip


# --- precision: rows and waves of unequal probabilities are weighted ---


def floored(propensities: Floats) -> Floats:
    """Propensities of what was offered, none below `PROPENSITY_FLOOR`, (n, 1 + A).

    Below the floor a score leans on the predicted response, which its row's small
    weight (`row_precision`) makes harmless; `overlap` says how much depends on it.
    """
    return np.where(propensities > 0, np.maximum(propensities, PROPENSITY_FLOOR), 0.0)


def _quietest(variance: Floats, counted: Bools, wave: Ints) -> float:
    """Least median over waves of the design's variance of a row's score."""
    medians = [
        float(np.median(variance[counted & (wave == w)]))
        for w in np.unique(wave[counted])
    ]
    return min(medians, default=1.0)


def _believed(variance: Floats, counted: Bools, wave: Ints) -> Floats:
    """1 for rows up to `NOISIEST` times as noisy as the quietest wave, less beyond."""
    limit = NOISIEST * _quietest(variance, counted, wave)
    return np.where(counted, np.minimum(1.0, limit / variance), 0.0)


def row_precision(propensities: Floats, wave: Ints | None) -> Floats:
    """Weight of a row in policy values, by its assignment probabilities, (n,).

    The mean inverse propensity of what was offered is the variance of the row's scores
    but for a factor, known before any outcome. Rows up to `NOISIEST` times as noisy as
    the quietest wave count 1, noisier ones in proportion to their precision.

    Args:
        propensities: Shape (n, 1 + A).
        wave: See `MessageTest.wave`.

    >>> even, rare = np.array([0.5, 0.5]), np.array([0.999, 0.001])
    >>> row_precision(np.array([even, even, even, rare]), None).round(3).tolist()
    [1.0, 1.0, 1.0, 0.016]
    """
    offered = propensities > 0
    n_offered = np.maximum(offered.sum(axis=1), 1)
    inverse = np.divide(
        1.0, floored(propensities), out=np.zeros(propensities.shape), where=offered
    )
    variance = np.maximum(inverse.sum(axis=1) / n_offered, 1e-12)
    waves = np.zeros(len(variance), dtype=np.int64) if wave is None else wave
    return _believed(variance, np.ones(len(variance), dtype=bool), waves)


def judging_weight(test: MessageTest) -> Floats | None:
    """Survey weight times `row_precision`, mean 1, (n,); None where all are equal."""
    precision = row_precision(test.propensities, test.wave)
    if (precision == 1.0).all():
        return test.survey_weight
    if test.survey_weight is not None:
        precision = precision * test.survey_weight
    return np.asarray(precision / precision.mean())


def precision_weights(propensities: Floats, wave: Ints | None = None) -> Floats:
    """Weight of every row in each arm's average lift, columns sum to 1, (n, A).

    Within a wave every row counts the same but where its chances are so small that its
    score is mostly noise. The waves that were decided after the experiment are weighted
    so that each adds the same noise (their chances may depend on outcomes before them;
    so weighted, their sum stays normal), and together they join the experiment by
    inverse variance. All is by the design, known before the outcomes, and a wave more
    never makes the variance larger.

    Args:
        propensities: Shape (n, 1 + A).
        wave: See `MessageTest.wave`.

    Source: Hadad, Hirshberg, Zhan, Wager & Athey (2021); see `measured_lift.adaptive`.
    """
    n = len(propensities)
    chance = floored(propensities)
    waves = np.zeros(n, dtype=np.int64) if wave is None else wave
    weights = np.zeros((n, propensities.shape[1] - 1))
    for a in range(weights.shape[1]):
        offered = (chance[:, 1 + a] > 0) & (chance[:, 0] > 0)
        if not offered.any():
            continue
        variance = np.ones(n)
        variance[offered] = 1.0 / chance[offered, 1 + a] + 1.0 / chance[offered, 0]
        believed = _believed(variance, offered, waves)
        share = _wave_shares(believed, variance, waves)
        total = np.bincount(waves, weights=believed)
        each = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
        weights[:, a] = believed * each[waves]
    return weights


def _wave_shares(believed: Floats, variance: Floats, wave: Ints) -> Floats:
    """Share of every wave in an average, sums to 1, shape (n_waves,)."""
    total = np.bincount(wave, weights=believed)
    noise = np.bincount(wave, weights=believed**2 * variance)
    root = np.divide(total, np.sqrt(noise), out=np.zeros_like(total), where=total > 0)
    later = root[1:]
    n_later = int((later > 0).sum())
    first_precision = root[0] ** 2
    later_precision = later.sum() ** 2 / n_later if n_later else 0.0
    share = np.zeros_like(root)
    share[0] = first_precision / (first_precision + later_precision)
    if n_later:
        share[1:] = (1.0 - share[0]) * later / later.sum()
    return share


@dataclass(frozen=True)
class Overlap:
    """Share of an estimate that rests on probabilities below the floor.

    Attributes:
        ok: Whether at most `MOST_BELOW_FLOOR` of the weight does.
        share: Of the weight of the rows.
        least: Smallest propensity of anything offered.
        block: Name (or code) of the block that holds most of that weight; "" for none.
    """

    ok: bool
    share: float
    least: float
    block: str

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return dict(vars(self))


def overlap(test: MessageTest) -> Overlap:
    """Whether assignment probabilities are large enough, block by block.

    Args:
        test: The experiment, arms as sent.
    """
    offered = test.propensities > 0
    least = np.where(offered, test.propensities, np.inf).min(axis=1)
    weight = row_precision(test.propensities, test.wave)
    below = np.where(least < PROPENSITY_FLOOR, weight, 0.0)
    of_block = np.bincount(test.block, weights=below)
    share, worst = float(below.sum() / weight.sum()), int(of_block.argmax())
    name = ""
    if share > 0:
        name = test.block_names[worst] if test.block_names else f"block {worst}"
    return Overlap(share <= MOST_BELOW_FLOOR, share, float(least.min()), name)


def offered_lifts(
    scores: Floats, propensities: Floats, wave: Ints | None = None
) -> Floats:
    """Γ_a − Γ_0 of every arm as scores whose plain mean is the average lift, (n, A).

    Who could not have got the arm, or control, has a model's guess for a score. Its
    place takes the mean of those who could, and theirs are stretched about it by their
    weight (`precision_weights`), so that means, slopes and their errors are those of
    the compared, each by its precision.

    Args:
        scores: From `doubly_robust_scores`, shape (n, 1 + A).
        propensities: Shape (n, 1 + A).
        wave: See `MessageTest.wave`.
    """
    lift = scores[:, 1:] - scores[:, :1]
    weights = precision_weights(propensities, wave)
    if np.allclose(weights * len(lift), 1.0, rtol=0.0, atol=1e-12):
        return lift
    mean = (weights * lift).sum(axis=0)
    stretched: Floats = mean + len(lift) * weights * (lift - mean)
    return stretched


@dataclass(frozen=True)
class AverageEffects:
    """Effect of every message over everyone, and how channels multiply it.

    Attributes:
        raw: AIPW estimate, shape (M,).
        raw_se: Its clustered standard error, shape (M,).
        shrunken: Partially pooled estimate, shape (M,): the winner's curse corrected.
        shrunken_se: Its posterior standard deviation, shape (M,).
        channel: Multiplier of every channel, 1 on average over the design, shape (C,).
        channel_se: Its posterior standard deviation, shape (C,).
        informed: Estimates with declared priors, before they are pooled; of the
            messages of the test, shape (M,).
        informed_covariance: Shape (M, M).
        usual_effect: Usual size of an effect, outcome units, shape ().
    """

    raw: Floats
    raw_se: Floats
    shrunken: Floats
    shrunken_se: Floats
    channel: Floats
    channel_se: Floats
    informed: Floats
    informed_covariance: Floats
    usual_effect: Floats

    def intervals(self, *, shrunken: bool) -> list[Interval]:
        """Interval of every message."""
        value = self.shrunken if shrunken else self.raw
        se = self.shrunken_se if shrunken else self.raw_se
        return [Interval.of(v, se=s) for v, s in zip(value, se, strict=True)]


def average_effects(
    test: MessageTest,
    arm_scores: Floats,
    issue_of: Mapping[str, str],
    prior: EffectPrior | None = None,
) -> AverageEffects:
    """Average effects from the scores of a test.

    What is known from elsewhere joins the data before messages are pooled; the raw
    effects stay those of the data alone. Where outcomes came through links, an error of
    their probability is one of the scale of every effect: it is added last.

    Args:
        test: The experiment, arms as sent (message × channel).
        arm_scores: From `doubly_robust_scores` of the same test, shape (n, 1 + A).
        issue_of: Issue of every message.
        prior: Known from elsewhere, by message.
    """
    lift = offered_lifts(arm_scores, test.propensities, test.wave)
    arm_mean, arm_covariance = clustered_means(lift, test.cluster, test.survey_weight)
    share = test.propensities[:, 1:].mean(axis=0)
    # the mix of channels within a message is the design's own
    mix = np.zeros((len(test.messages), len(test.arms)))
    mix[test.message_of_arm[1:] - 1, np.arange(len(test.arms))] = share
    mix /= mix.sum(axis=1, keepdims=True)
    raw, covariance = mix @ arm_mean, mix @ arm_covariance @ mix.T
    groups = pools([issue_of[m] for m in test.messages])
    covariance = believable_noise(test, covariance, groups)
    informed, spread = _with_prior(test, raw, covariance, prior)
    usual_effect = USUAL_EFFECT * float(np.nanstd(test.Y))
    if test.evidence is None or usual_effect == 0:
        shrunken, shrunken_se = shrink(
            informed, spread, groups,
            prior_scale=_prior_scale(test, prior, usual_effect),
        )  # fmt: skip
    else:
        rows = test.evidence.rows(test.messages)
        shrunken, shrunken_se, *_ = expected_effects(
            test.evidence, [MessageEstimates(rows, informed, spread)], rows,
            usual_effect=usual_effect,
        )  # fmt: skip
    multipliers = _channel_multipliers(test, arm_mean, arm_covariance, share)
    raw_se = np.sqrt(np.diag(covariance))
    error = test.link_error
    return AverageEffects(
        raw, np.hypot(raw_se, error * raw), shrunken,
        np.hypot(shrunken_se, error * shrunken), multipliers.mean, multipliers.se,
        informed, spread, np.array(usual_effect),
    )  # fmt: skip


def believable_noise(
    test: MessageTest, covariance: Floats, groups: Sequence[str]
) -> Floats:
    """Covariance of the estimates, not understated for messages with few people.

    Args:
        test: The experiment.
        covariance: Of its messages' estimates, shape (M, M).
        groups: Pool of every message.
    """
    people = _people(test)
    if (people >= FEW_PEOPLE).all():
        return covariance
    measured, even = (
        np.diag(covariance),
        np.diag(even_noise(covariance, groups, people)),
    )
    believed_share = np.minimum(people / FEW_PEOPLE, 1.0)
    return covariance + np.diag((1.0 - believed_share) * (even - measured))


def _people(test: MessageTest) -> Ints:
    """Number of people with an observed outcome by message, shape (M,)."""
    message = test.message_of_arm[test.arm[test.observed]]
    return np.bincount(message, minlength=1 + len(test.messages))[1:]


def _with_prior(
    test: MessageTest, raw: Floats, covariance: Floats, prior: EffectPrior | None
) -> tuple[Floats, Floats]:
    """Estimates and their covariance, combined with priors of other studies."""
    if prior is None:
        return raw, covariance
    # nobody observed: the score is a model's guess, however small its error looks
    unseen = (_people(test) < MIN_MEASURED) & np.isfinite(prior.mean)
    spread = covariance + np.diag(np.where(unseen, np.inf, 0.0))
    combined = combine_with_prior(raw, spread, prior.mean, prior.variance)
    return combined.mean, combined.covariance


def _prior_scale(
    test: MessageTest, prior: EffectPrior | None, usual_effect: float
) -> Floats:
    """Usual size of the effects of messages of which no prior is declared, (M,)."""
    scale = np.full(len(test.messages), usual_effect)
    return scale if prior is None else np.where(np.isfinite(prior.mean), np.inf, scale)


def pools(issues: Sequence[str]) -> list[str]:
    """Messages are pooled within an issue that has enough of them, else together."""
    return [i if issues.count(i) >= MIN_POOLED_IN_ISSUE else "" for i in issues]


def shrink(
    estimate: Floats,
    covariance: Floats,
    groups: Sequence[str],
    *,
    prior_scale: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Empirical Bayes within groups: noisy estimates move to the mean of their group.

    Args:
        estimate: Shape (k,).
        covariance: Of the estimates (they share controls), shape (k, k).
        groups: Group of each.
        prior_scale: Usual size of an effect, by which estimates in groups of fewer than
            `MIN_POOLED` are shrunken towards 0; infinite, as without, leaves one as it
            is. Shape (k,).

    Returns:
        Posterior mean and standard deviation, shape (k,) each.

    Source: DerSimonian & Laird (1986); Morris (1983).
    """
    mean, sd = estimate.copy(), np.sqrt(np.diag(covariance))
    for group in set(groups):
        at = np.flatnonzero([g == group for g in groups])
        if len(at) >= MIN_POOLED:
            mean[at], sd[at] = _posterior(estimate[at], covariance[np.ix_(at, at)])
        elif prior_scale is not None:
            for i in at:
                mean[i], sd[i] = towards_nothing(estimate[i], sd[i], prior_scale[i])
    return mean, sd


def towards_nothing(estimate: float, se: float, scale: float) -> tuple[float, float]:
    """Posterior mean and SD of an effect of which only its usual size is known.

    The effect is N(0, τ²) and τ half-Cauchy with the usual size as its scale: an
    estimate that its noise may explain moves to 0, one that it cannot explain stays.
    The doubt about τ is part of the SD.

    Args:
        estimate: Of the data alone.
        se: Its standard error.
        scale: Usual size of an effect; infinite leaves the estimate as it is.

    Source: Polson & Scott (2012).

    >>> five_people, thousands = towards_nothing(6, 7, 1.0), towards_nothing(6, 0.5, 1)
    >>> round(five_people[0], 1), round(thousands[0], 1)
    (0.5, 5.9)
    """
    if not np.isfinite(scale) or scale <= 0 or se <= 0:
        return estimate, se
    prior = (scale * USUAL_EFFECTS) ** 2
    total = prior + se**2
    log_likelihood = -0.5 * (estimate**2 / total + np.log(total))
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    each = estimate * prior / total
    mean = float(weight @ each)
    variance = float(weight @ (prior * se**2 / total + (each - mean) ** 2))
    return mean, float(np.sqrt(variance))


def _posterior(estimate: Floats, S: Floats) -> tuple[Floats, Floats]:
    k, one = len(estimate), np.ones(len(estimate))
    centre = np.eye(k) - 1.0 / k
    tau2 = (estimate @ centre @ estimate - np.trace(centre @ S)) / (k - 1)
    # a floor of 1 % of the noise keeps messages apart where the data cannot tell
    tau2 = max(float(tau2), 0.01 * float(np.trace(S)) / k, 1e-12)
    inverse = np.linalg.pinv(S + tau2 * np.eye(k))
    variance_of_mean = 1.0 / (one @ inverse @ one)
    grand = variance_of_mean * (one @ inverse @ estimate)
    shrinkage = tau2 * inverse
    pulled = one - shrinkage @ one
    variance = np.diag(tau2 * np.eye(k) - tau2 * shrinkage)
    variance = variance + pulled**2 * variance_of_mean
    return grand + shrinkage @ (estimate - grand), np.sqrt(np.maximum(variance, 0.0))


def _channel_multipliers(
    test: MessageTest, mean: Floats, covariance: Floats, share: Floats
) -> Multipliers:
    """How much more a channel does than the average one, by the arms that were sent."""
    channels = test.channels
    of_arm = np.array([channels.index(arm.channel) for arm in test.arms])
    people = np.bincount(test.arm[test.observed], minlength=1 + len(test.arms))[1:]
    # of an arm that nobody got there is a model's guess, however sure it looks
    at = np.flatnonzero(people >= MIN_MEASURED)
    return channel_multipliers(
        mean[at],
        covariance[np.ix_(at, at)],
        test.message_of_arm[1:][at] - 1,
        of_arm[at],
        np.bincount(of_arm, share, minlength=len(channels)).astype(np.float64),
    )


def sharpest_lifts(
    test: MessageTest,
    effects: AverageEffects,
    response: Floats,
    observed_probability: Floats | None,
) -> Floats:
    """Lift of every message by the design's mix of channels, with the least noise.

    A channel that does κ times as much says κ times as much of a message's lift: the
    scores of a message's arms are combined with weights κ_a e_a / Σ κ_b² e_b. Where
    there is one channel, or what channels do is not known well, it is Γ_m − Γ_0.

    Args:
        test: The experiment, arms as sent.
        effects: Its average effects.
        response: Cross-fitted E[Y | x], shape (n,).
        observed_probability: Shape (n,), or None.

    Returns:
        Centred by message (over the population of the test), shape (n, M).
    """
    scores = doubly_robust_scores(test, response, observed_probability)
    arm_lift = offered_lifts(scores, test.propensities, test.wave)
    share = test.propensities[:, 1:].mean(axis=0)
    kappa = np.ones(len(test.arms))
    if len(test.channels) > 1 and (effects.channel_se < MAX_CHANNEL_SE).all():
        of_arm = [test.channels.index(arm.channel) for arm in test.arms]
        kappa = np.maximum(effects.channel, 0.0)[of_arm]
    combine = np.zeros((len(test.arms), len(test.messages)))
    combine[np.arange(len(test.arms)), test.message_of_arm[1:] - 1] = kappa * share
    scale = (combine * kappa[:, None]).sum(axis=0)
    lift = arm_lift @ np.divide(combine, scale, out=combine, where=scale > 0)
    centred: Floats = lift - np.average(lift, axis=0, weights=test.survey_weight)
    return centred


@dataclass(frozen=True)
class Nuisances:
    """Cross-fitted nuisances and average effects that all lift models of a test share.

    Attributes:
        messages: In the order of every message axis, length M.
        channels: In the order of `effects.channel`.
        salt: Of the folds.
        nuisance: Cross-fitted.
        effects: Average effects.
        share: Share of every message in the design, shape (M,).
        outcome_range: Lowest and highest value of the outcome: as declared, else as
            seen.
    """

    messages: tuple[str, ...]
    channels: tuple[str, ...]
    salt: str
    cross_fits: CrossFits
    effects: AverageEffects
    share: Floats
    outcome_range: tuple[float, float]

    def folds(self, unit_id: Objects, n_folds: int = N_FOLDS) -> Ints:
        """Fold of every voter, whose fit never saw the voter's unit, shape (n,).

        Args:
            unit_id: Coarsest unit of every voter, shape (n,).
            n_folds: A multiple of `N_FOLDS` splits each of its folds further.
        """
        return unit_folds(unit_id, n_folds, salt=self.salt)

    def baseline(self, X: Floats32, unit_id: Objects | None, lift: Floats) -> Floats:
        """Outcome without any message: the response less what the mix added, (n,).

        Args:
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,); None for voters known to
                be new.
            lift: Of every message, shape (n, M).
        """
        fold = None if unit_id is None else self.folds(unit_id, CROSS_FOLDS)
        control = self.cross_fits.response.predict(X, fold) - lift @ self.share
        return np.asarray(np.clip(control, *self.outcome_range))

    def response(self, test: MessageTest) -> Floats:
        """E[Y | x] under the design's mix of arms by fits without the unit, (n,)."""
        fold = self.folds(test.unit_id, CROSS_FOLDS)
        return self.cross_fits.response.predict(test.X, fold)

    def observed_probability(self, test: MessageTest) -> Floats | None:
        """P(observed | arm, x) by fits without the unit, (n,); None: all observed."""
        fold = self.folds(test.unit_id, CROSS_FOLDS)
        return self.cross_fits.observed_probability(test, fold)

    def scores(self, test: MessageTest) -> Floats:
        """Doubly robust scores of a test by these nuisances, shape (n, 1 + A)."""
        return doubly_robust_scores(
            test, self.response(test), self.observed_probability(test)
        )

    def policy_scores(self, test: MessageTest) -> Floats:
        """`scores` times `judging_weight`, so that means are of the population."""
        scores, weight = self.scores(test), judging_weight(test)
        return scores if weight is None else np.asarray(scores * weight[:, None])

    def option_values(self, lift: Floats, arms: Sequence[Arm]) -> Floats:
        """Lift of every arm: that of its message times what its channel does, (n, A).

        Args:
            lift: Shape (n, M).
            arms: What could be sent, length A; a channel never tried counts as 1.
        """
        message = [self.messages.index(arm.message_id) for arm in arms]
        channel = dict(zip(self.channels, self.effects.channel, strict=True))
        multiplier = np.array([channel.get(arm.channel, 1.0) for arm in arms])
        values: Floats = lift[:, message] * multiplier
        return values

    def save(self, folder: Path) -> None:
        """Write JSON and LightGBM's text format: nothing executable."""
        self.cross_fits.save(folder)
        stored = {
            "messages": self.messages,
            "channels": self.channels,
            "salt": self.salt,
            "share": self.share.tolist(),
            "outcome_range": self.outcome_range,
            "effects": {k: v.tolist() for k, v in vars(self.effects).items()},
        }
        (folder / "ground.json").write_text(json.dumps(stored, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks the response model.
        """
        stored = json.loads((folder / "ground.json").read_text())
        effects = {k: np.array(v) for k, v in stored["effects"].items()}
        return cls(
            tuple(stored["messages"]),
            tuple(stored["channels"]),
            stored["salt"],
            CrossFits.load(folder),
            AverageEffects(**effects),
            np.array(stored["share"]),
            tuple(stored["outcome_range"]),
        )


def fit_nuisances(
    test: MessageTest, data: lgb.Dataset, issue_of: Mapping[str, str], *, seed: int
) -> Nuisances:
    """Cross-fit the nuisances of a test and estimate its average effects.

    Args:
        test: The experiment, arms as sent.
        data: Its features binned.
        issue_of: Issue of every message.
        seed: Folds and LightGBM.
    """
    salt = f"folds-{seed}"
    fold = unit_folds(test.unit_id, CROSS_FOLDS, salt=salt)
    cross_fits, response = cross_fit(test, data, fold, seed=seed)
    seen = cross_fits.observed_probability(test, fold)
    scores = doubly_robust_scores(test, response, seen)
    effects = average_effects(test, scores, issue_of, test.prior)
    share = test.by_message().propensities[:, 1:].mean(axis=0)
    seen_range = (cross_fits.response.least, cross_fits.response.most)
    return Nuisances(
        test.messages, test.channels, salt, cross_fits, effects, share,
        test.outcome_range or seen_range,
    )  # fmt: skip


def estimates_of(evidence: PriorEvidence, nuisances: Nuisances) -> MessageEstimates:
    """Estimates of a test, for `expected_effects`.

    A message that the campaign has no more is left out.

    Args:
        evidence: Of the campaign.
        nuisances: Of the test.
    """
    effects, n = nuisances.effects, len(nuisances.effects.informed)
    at = [k for k, m in enumerate(nuisances.messages[:n]) if m in evidence.ids]
    return MessageEstimates(
        evidence.rows(tuple(nuisances.messages[k] for k in at)),
        effects.informed[at],
        effects.informed_covariance[np.ix_(at, at)],
    )

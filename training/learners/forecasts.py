"""Effects of messages by tests, forecasts, earlier campaigns and texts together.

One Gaussian model for all that is known. The effect of message r in test d is

    e_rd = μ + a_d + s_d (i_issue(r) + Σ_k b_kd z_rk + f_r + u_r + v_rd),

μ the overall level, a_d that of the test, i of the issue, b_kd how far forecaster k is
to be believed in the test (most of it common to all tests), z_rk the standardised
forecast, f a ridge regression on the text, u what is the message's own and v what it is
in this test alone; s_d lets messages differ more in one test than in another. Estimates
are e + ε with the known covariance of ε. Slopes, levels and effects are integrated
exactly; the SD τ of u + v, and the sizes of a, i and f as multiples of τ, over a grid.
An estimate is used once: the posterior of a tested message is that of the joint model,
and no prior was fitted to it beforehand.

Sources: Morris (1983); Robinson (1991); Gelman et al., Bayesian Data Analysis (2013),
chapter 5; Hewitt et al. (2024) for forecasts of message tests.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.prior_evidence import PriorEvidence
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.text_prior import far_from

TAU_GRID = np.geomspace(0.05, 30.0, 24)
"""SD of messages' own effects, in usual effects."""
TEST_GRID = (1.0, 3.0)
"""SD of the levels of tests, in τ; nothing where there is one test."""
ISSUE_GRID = (0.3, 1.0, 3.0)
"""SD of the levels of issues, in τ; nothing where there is one issue."""
TEXT_GRID = (0.0, 0.3, 1.0, 3.0)
"""SD of what texts tell, in τ."""
LEVEL_SD = 4.0
"""Prior SD of the overall level, in usual effects: field effects average near 0."""
OF_TEST_ALONE = 0.25
"""Part of the variance of a slope, and of a message's own effect, that another test of
another channel or other people does not share."""
SCALE_MESSAGES = 10
"""A test's spread counts in full against that of all from so many messages on."""


class MessageEstimates(NamedTuple):
    """Estimated effects of the messages of one test of the campaign.

    Attributes:
        message: Positions in the evidence, shape (M,).
        estimate: Outcome units, higher is better, shape (M,).
        covariance: Of the estimates, shape (M, M).
    """

    message: Ints
    estimate: Floats
    covariance: Floats


class ForecasterSlope(NamedTuple):
    """How far a forecaster is believed.

    Attributes:
        forecaster: Its name.
        slope: SDs of the effects per SD of its forecasts, the others' held fixed.
        n_tested: Messages with a forecast that the campaign tested.
        n_past: Messages with a forecast that earlier campaigns tested.
    """

    forecaster: str
    slope: Interval
    n_tested: int
    n_past: int

    @property
    def noise_share(self) -> float:
        """Share of the variance of its forecasts that tells nothing of effects."""
        return max(0.0, 1.0 - self.slope.value**2)


class Expected(NamedTuple):
    """Effects of messages by all that is known of them.

    Attributes:
        mean: Outcome units, shape (k,).
        se: Posterior standard deviation, shape (k,).
        outside: Whether the message lies outside of what was tested: of an issue
            never tested, or with a text far from all tested ones. Its mean is that of
            all messages, its deviation that between messages and issues, shape (k,).
        slopes: Of every forecaster.
    """

    mean: Floats
    se: Floats
    outside: Bools
    slopes: tuple[ForecasterSlope, ...]


class _Side(NamedTuple):
    """Effects that the model relates: message, test, and what is known of each."""

    message: Ints
    test: Ints
    issue: Ints
    z: Floats
    missing: Floats
    scale: Floats
    text: Floats


class _Kernels(NamedTuple):
    """Covariances of the model's parts per unit of weight; τ² and s multiply the last.

    `shared` holds slopes and what is the message's own, whose weights are known.
    """

    test: Floats
    issue: Floats
    shared: Floats
    text: Floats
    scale: Floats

    def weighted(self, level: float, tau: float, sizes: tuple[float, ...]) -> Floats:
        of_test, of_issue, of_text = (size**2 for size in sizes)
        inner = of_issue * self.issue + self.shared + of_text * self.text
        return level**2 + tau**2 * (of_test * self.test + self.scale * inner)


def expected_effects(
    evidence: PriorEvidence,
    tests: Sequence[MessageEstimates],
    messages: Ints,
    *,
    usual_effect: float,
    text: Sequence[Floats] = (),
) -> Expected:
    """Posterior of messages' effects in the campaign's first test, tested or not.

    Args:
        evidence: What others know of R messages.
        tests: The campaign's own tests; none before its first.
        messages: Positions of the k messages in the evidence, shape (k,).
        usual_effect: Usual size of an effect, outcome units, above 0.
        text: Blocks of features of the texts of the R messages, shape (R, d_b) each;
            the first is the one in which distance is measured. NaN where there is no
            text. None where texts are not read.

    Raises:
        ValueError: If `usual_effect` is not above 0.
    """
    if not usual_effect > 0:
        raise ValueError(f"expected a usual effect above 0, got {usual_effect}")
    y, S, row, test = _stacked(evidence, tests)
    scale = _test_scales(y, S, test)
    here = 0 if tests else -1
    is_known = np.isin(np.array(evidence.issue, dtype=object),
                       [evidence.issue[r] for r in row])  # fmt: skip
    kernel_text, far = _text_features(evidence, text, row)
    outside = (~is_known | far)[messages]
    sent = _side(evidence, row, test, scale[test], kernel_text)
    new = _side(
        evidence, messages, np.full(len(messages), here),
        np.full(len(messages), scale[0] if tests else 1.0), kernel_text,
    )  # fmt: skip
    new = _without_domain(new, outside)
    among = _kernels(sent, sent, evidence.slope_sd)
    cross = _kernels(new, sent, evidence.slope_sd)
    alone = _own_kernels(new, evidence.slope_sd)
    of_slope = _slope_covariance(sent, here, evidence.slope_sd)
    absent = np.where(np.isin(messages, row)[:, None], 0.0, new.missing)
    sizes = product(
        TEST_GRID if len(np.unique([*test, here])) > 1 else (0.0,),
        ISSUE_GRID if len(set(evidence.issue)) > 1 else (0.0,),
        TEXT_GRID if text else (0.0,),
    )
    level = LEVEL_SD * usual_effect
    mixture = _Mixture(len(messages), len(evidence.forecasts.forecasters))
    for size, ratio in product(sizes, TAU_GRID):
        tau = float(ratio * usual_effect)
        solved = _Solved.of(S + among.weighted(level, tau, size), y)
        gain = cross.weighted(level, tau, size)
        of_slopes = tau * of_slope
        slope_covariance = evidence.slope_sd**2 * np.eye(len(of_slopes))
        slope_covariance -= of_slopes @ solved.times(of_slopes.T)
        slope = of_slopes @ solved.pull
        squared_slope = slope**2 + np.diag(slope_covariance)
        # b is in τ: the effects' SD is larger by what forecasts and texts explain
        explained = float(squared_slope.sum()) + size[2] ** 2
        # what an absent forecast would have told of a message never tested
        untold = absent @ (squared_slope - evidence.slope_sd**2)
        mixture.add(
            solved.log_likelihood - np.log1p(ratio**2) + np.log(ratio),
            gain @ solved.pull,
            alone.weighted(level, tau, size)
            + (tau * new.scale) ** 2 * untold
            - (gain * solved.times(gain.T).T).sum(axis=1),
            slope / np.sqrt(1.0 + explained),
            np.diag(slope_covariance) / (1.0 + explained),
        )
    mean, se, slopes, slopes_se = mixture.moments()
    return Expected(
        mean, se, outside, _forecaster_slopes(evidence, tests, slopes, slopes_se)
    )


def _stacked(
    evidence: PriorEvidence, tests: Sequence[MessageEstimates]
) -> tuple[Floats, Floats, Ints, Ints]:
    """MessageEstimates, covariance, messages and tests of all that was measured."""
    past = evidence.past
    y = np.concatenate([*(t.estimate for t in tests), past.effect])
    row = np.concatenate([*(t.message for t in tests), past.message])
    code = [np.full(len(t.message), k) for k, t in enumerate(tests)]
    test = np.concatenate([*code, past.test + len(tests)])
    S = np.zeros((len(y), len(y)))
    start = 0
    for t in tests:
        stop = start + len(t.message)
        S[start:stop, start:stop] = _positive(t.covariance)
        start = stop
    S[start:, start:] = np.diag(past.se**2)
    return y, S, row, test


def _positive(covariance: Floats) -> Floats:
    """The covariance, mended where a share of borrowed noise made it indefinite."""
    if not len(covariance):
        return covariance
    least = float(np.linalg.eigvalsh(covariance)[0])
    return covariance + max(-least, 0.0) * np.eye(len(covariance))


def _test_scales(y: Floats, S: Floats, test: Ints) -> Floats:
    """How much more messages differ in each test than on average, (n_tests,).

    The variance between messages by moments, drawn to that of all tests the more, the
    fewer messages the test has.
    """
    n_tests = int(test.max()) + 1 if len(test) else 1
    between, n = np.zeros((2, n_tests))
    for d in range(n_tests):
        at = np.flatnonzero(test == d)
        if len(at) > 1:
            noise = S[np.ix_(at, at)]
            of_noise = (np.trace(noise) - noise.mean() * len(at)) / (len(at) - 1)
            between[d], n[d] = max(y[at].var(ddof=1) - of_noise, 0.0), len(at)
    total = float(n @ between)
    if total <= 0:
        return np.ones(n_tests)
    mean = total / float(n.sum())
    drawn = (n * between + SCALE_MESSAGES * mean) / (n + SCALE_MESSAGES)
    return np.asarray(np.sqrt(drawn / mean))


def _text_features(
    evidence: PriorEvidence, text: Sequence[Floats], row: Ints
) -> tuple[Floats, Bools]:
    """Features whose products are the covariance of f, and which texts are far.

    Centred by issue over the tested messages, every block as much as another, 1 on the
    diagonal on average over the tested.
    """
    nothing = np.zeros((len(evidence.ids), 0))
    far = np.zeros(len(evidence.ids), dtype=bool)
    if not text:
        return nothing, far
    has_text = np.isfinite(text[0].sum(axis=1))
    tested = np.unique(row[has_text[row]])
    if not len(tested):
        return nothing, far
    issue = np.unique(np.array(evidence.issue), return_inverse=True)[1]
    blocks = []
    for block in text:
        centred = np.zeros(block.shape)
        for code in np.unique(issue[tested]):
            of_issue = (issue == code) & has_text
            centre = block[np.intersect1d(tested, np.flatnonzero(of_issue))].mean(
                axis=0
            )
            centred[of_issue] = block[of_issue] - centre
        spread = centred[tested].std(axis=0)
        used = spread > 1e-6
        width = np.sqrt(max(int(used.sum()), 1) * len(text))
        blocks.append(centred[:, used] / (spread[used] * width))
    far[has_text] = far_from(text[0][has_text], text[0][tested])
    return np.column_stack(blocks), far


def _side(
    evidence: PriorEvidence, row: Ints, test: Ints, scale: Floats, text: Floats
) -> _Side:
    issue = np.unique(np.array(evidence.issue), return_inverse=True)[1]
    missing = 1.0 - evidence.forecasts.reliability
    z = evidence.forecasts.z
    return _Side(row, test, issue[row], z[row], missing[row], scale, text[row])


def _without_domain(side: _Side, outside: Bools) -> _Side:
    """The side on which forecasts and texts say nothing of messages outside."""
    of_text = side.text.copy()
    of_text[outside] = 0.0
    return side._replace(
        z=np.where(outside[:, None], 0.0, side.z),
        missing=np.where(outside[:, None], 1.0, side.missing),
        text=of_text,
    )


def _kernels(a: _Side, b: _Side, slope_sd: float) -> _Kernels:
    """Covariances of every effect of one side with every one of the other."""
    same_test = a.test[:, None] == b.test
    same_message = a.message[:, None] == b.message
    shared = (1.0 - OF_TEST_ALONE) + OF_TEST_ALONE * same_test
    of_slopes = shared * (a.z @ b.z.T) + same_message * a.missing.sum(axis=1)[:, None]
    return _Kernels(
        same_test.astype(np.float64),
        (a.issue[:, None] == b.issue).astype(np.float64),
        slope_sd**2 * of_slopes + same_message * shared,
        a.text @ b.text.T,
        a.scale[:, None] * b.scale,
    )


def _own_kernels(side: _Side, slope_sd: float) -> _Kernels:
    """Variance of every effect of a side, shape (k,) each."""
    one = np.ones(len(side.message))
    of_slopes = (side.z**2 + side.missing).sum(axis=1)
    # a text that is not read leaves open all that texts tell
    of_text = np.maximum((side.text**2).sum(axis=1), 1.0)
    return _Kernels(one, one, slope_sd**2 * of_slopes + 1.0, of_text, side.scale**2)


def _slope_covariance(sent: _Side, here: int, slope_sd: float) -> Floats:
    """Covariance of slopes with the effects, per τ, shape (K, n)."""
    shared = (1.0 - OF_TEST_ALONE) + OF_TEST_ALONE * (sent.test == here)
    return np.asarray(slope_sd**2 * sent.z.T * (shared * sent.scale))


class _Solved(NamedTuple):
    """The covariance of the data, solved."""

    factor: tuple[Floats, bool]
    pull: Floats
    log_likelihood: float

    @classmethod
    def of(cls, C: Floats, y: Floats) -> "_Solved":
        if not len(y):
            return cls((C, True), y, 0.0)
        factor = cho_factor(C, lower=True, check_finite=False)
        pull = cho_solve(factor, y, check_finite=False)
        determinant = 2.0 * float(np.log(np.diag(factor[0])).sum())
        return cls(factor, pull, -0.5 * (determinant + float(y @ pull)))

    def times(self, B: Floats) -> Floats:
        """C⁻¹ B."""
        if not len(self.pull):
            return B
        return np.asarray(cho_solve(self.factor, B, check_finite=False))


class _Mixture:
    """Moments of effects and slopes over the grid, weighted by the likelihood."""

    def __init__(self, n_messages: int, n_forecasters: int) -> None:
        self.log_weight: list[float] = []
        self.parts: list[tuple[Floats, Floats]] = []
        self.n_messages, self.n_forecasters = n_messages, n_forecasters

    def add(
        self,
        log_weight: float,
        mean: Floats,
        variance: Floats,
        slope: Floats,
        slope_variance: Floats,
    ) -> None:
        """Add a point of the grid."""
        self.log_weight.append(log_weight)
        both = np.concatenate([mean, slope])
        self.parts.append((both, np.concatenate([variance, slope_variance])))

    def moments(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Mean and standard deviation of the effects, then of the slopes."""
        weight = np.exp(np.array(self.log_weight) - max(self.log_weight))
        weight /= weight.sum()
        means = np.array([mean for mean, _ in self.parts])
        variances = np.array([variance for _, variance in self.parts])
        mean = weight @ means
        sd = np.sqrt(weight @ (np.maximum(variances, 0.0) + (means - mean) ** 2))
        k = self.n_messages
        return mean[:k], sd[:k], mean[k:], sd[k:]


def _forecaster_slopes(
    evidence: PriorEvidence, tests: Sequence[MessageEstimates], mean: Floats, se: Floats
) -> tuple[ForecasterSlope, ...]:
    tested = np.unique(
        np.concatenate([np.empty(0, dtype=np.int64), *(t.message for t in tests)])
    )
    past = np.unique(evidence.past.message)
    has_forecast = evidence.forecasts.reliability > 0
    return tuple(
        ForecasterSlope(
            name,
            Interval.of(mean[k], se=se[k]),
            int(has_forecast[tested, k].sum()),
            int(has_forecast[past, k].sum()),
        )
        for k, name in enumerate(evidence.forecasts.forecasters)
    )


def forecast_rows(
    evidence: PriorEvidence, test: MessageEstimates, *, usual_effect: float
) -> list[dict[str, Any]]:
    """How far every forecaster is believed in a test, as rows of the evaluation.

    Args:
        evidence: Of the campaign.
        test: MessageEstimates of the test.
        usual_effect: Usual size of an effect, outcome units; 0 for an outcome that
            never differs, which tells nothing of forecasters.
    """
    if not usual_effect > 0:
        return []
    no_messages = np.empty(0, dtype=np.int64)
    believed = expected_effects(
        evidence, [test], no_messages, usual_effect=usual_effect
    )
    return [
        {
            "forecaster": row.forecaster,
            "slope": row.slope.as_dict(),
            "noise_share": row.noise_share,
            "n_tested": row.n_tested,
            "n_past": row.n_past,
        }
        for row in believed.slopes
    ]

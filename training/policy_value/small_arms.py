"""Noise of arms that few of the judged voters got, beyond what those few show.

The error of a policy's value is read from the outcomes of the people who got what the
policy sends. Of an arm with a handful of people it says little, and of an arm that
nobody got it says that there is no error at all. What is missing is known from the
design: the score of an arm of propensity e has variance σ² / e.

Shapes: n judged voters, A arms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hustings.features.arrays import Floats, Ints
from hustings.features.training_set import MessageTest
from hustings.training.learners.average_effects import FEW_PEOPLE, floored

ERR_TOGETHER = 1.0 + 1.0 / np.pi
"""Variance of the mean of two halves, times that of independent ones: where noise alone
decides whether a half's policy sends an arm, the values of both halves are large where
both samples are, by E[x; x > 0]² / (E[x²] / 2) = 1 / pi of the variance."""
N_TERMS = 512
"""Terms of the sum that stand for the noise of an arm: its variance is kept to within
six in a hundred, and exactly where so many units or fewer were drawn."""


@dataclass(frozen=True)
class SmallArmNoise:
    """Noise that the few people of some arms do not show.

    Attributes:
        arms: Arms with few people, of 1 ... A, length k.
        sd: Standard deviation of a voter's score of each, beyond what was seen,
            shape (n, k).
        term: Term of the sum that a voter's noise goes to, shape (n,).
        sign: 1 or -1 by drawn unit, so that terms of several units add their
            variances, shape (n,).
        n_arms: A.
    """

    arms: tuple[int, ...]
    sd: Floats
    term: Ints
    sign: Floats
    n_arms: int

    def of(self, realised: Callable[[Floats], Floats]) -> Floats:
        """Noise of a policy as terms of a sum, shape (k × N_TERMS,).

        Two policies that send the same share the noise: their terms are subtracted.

        Args:
            realised: Scores of shape (n, 1 + A) → what the policy realises of them,
                less doing nothing, shape (n,).
        """
        terms: list[Floats] = [np.zeros(0)]
        for k, arm in enumerate(self.arms):
            scores = np.zeros((len(self.term), 1 + self.n_arms))
            scores[:, arm] = self.sd[:, k] * self.sign
            summed = np.bincount(self.term, realised(scores), minlength=N_TERMS)
            terms.append(summed.astype(np.float64))
        return np.concatenate(terms)


NO_SMALL_ARMS = SmallArmNoise(
    (), np.zeros((0, 0)), np.zeros(0, dtype=np.int64), np.zeros(0), 0
)


def small_arm_noise(
    test: MessageTest, response: Floats, weight: Floats | None
) -> SmallArmNoise:
    """Noise of the arms that fewer than `FEW_PEOPLE` of the judged got and answered.

    The fewer they are, the more of the design's variance takes the place of their own;
    never less than their own is left.

    Args:
        test: The judged, arms as sent.
        response: Predicted outcome by fits that saw none of them, shape (n,).
        weight: Of voters in policy values, mean 1, shape (n,); None where all are 1.
    """
    n_arms, seen = len(test.arms), test.observed
    people = np.bincount(test.arm[seen], minlength=1 + n_arms)
    arms = [a for a in range(1, 1 + n_arms) if people[a] < FEW_PEOPLE]
    if not arms or not seen.any():
        return NO_SMALL_ARMS
    residual = np.where(seen, test.Y - response, 0.0)
    residual[seen] -= residual[seen].mean()
    drawn = np.unique(test.drawn, return_inverse=True)[1].astype(np.int64)
    # outcomes of people who were drawn together are alike
    of_unit, size = np.bincount(drawn, residual), np.bincount(drawn, seen)
    sigma2 = float((of_unit**2).sum() / np.maximum((size**2).sum(), 1))
    survey = np.ones(len(drawn)) if weight is None else weight
    propensity, share_seen = floored(test.propensities), float(seen.mean())
    columns = []
    for a in arms:
        offered = propensity[:, a] > 0
        e = np.where(offered, propensity[:, a], 1.0)
        by_design = np.where(offered, survey**2 * sigma2 / (e * share_seen), 0.0)
        got = seen & (test.arm == a)
        # the arm's own mean is estimated from the same people
        off = residual - (residual[got].mean() if got.any() else 0.0)
        own_part = np.where(got, survey * off / (e * share_seen), 0.0)
        sd = np.sqrt(by_design)
        total = float((np.bincount(drawn, sd) ** 2).sum())
        of_people = float((np.bincount(drawn, own_part) ** 2).sum())
        unseen = max(ERR_TOGETHER * total - of_people, 0.0)
        missing = (1.0 - people[a] / FEW_PEOPLE) * unseen
        columns.append(sd * np.sqrt(missing / total if total > 0 else 0.0))
    sign = np.random.default_rng(0).choice([-1.0, 1.0], size=int(drawn.max()) + 1)
    return SmallArmNoise(
        tuple(arms), np.column_stack(columns), drawn % N_TERMS, sign[drawn], n_arms
    )

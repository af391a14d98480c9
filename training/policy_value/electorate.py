"""Whether the voters of a plan are like those who were tested.

A lift is measured on the tested. Where the planned differ from them in what is known of
both, the tested are weighted to stand for the planned, as far as they can; where hardly
anybody tested is like them, or they lack what the test knew, nothing personal is known.

Shapes: n tested, N planned voters, k features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy import stats

from hustings.features.arrays import Bools, Floats, Floats32, Ints, Objects
from hustings.features.stored import Stored
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.response import LinearColumns, fractional_logit

Likeness = Literal["alike", "reweighted", "refused"]
ALIKE: Likeness = "alike"
REWEIGHTED: Likeness = "reweighted"
REFUSED: Likeness = "refused"
N_FOLDS = 2
PENALTY = 1.0
AT_MOST = 40_000
"""Voters of a side that tell the two apart."""
ALIKE_AUC = 0.6
"""Below this the planned and the tested can hardly be told apart."""
ALIKE_EFFECTIVE = 0.8
"""Share of the tested that must be left, once weighted, for weights not to matter."""
LEAST_EFFECTIVE = 0.1
"""Weights that leave less of the tested lean on a few of them."""
LARGEST_SHARE = 0.1
"""One tested voter who stands for more of the planned decides too much."""
MOST_OUTSIDE = 0.25
"""Share of the planned that may lie where hardly any tested voter does."""
EDGE_OF_TESTED = 0.005
"""Share of the tested beyond whom a planned voter lies outside."""
MISSING_MORE = 0.4
"""A column is one of the tested alone where so much more of the planned lack it."""


@dataclass(frozen=True)
class LackedColumn:
    """A feature that the test knew and most of the planned lack.

    Attributes:
        name: Of the feature.
        tested: Share of the tested without a value.
        planned: The same of the planned.
    """

    name: str
    tested: float
    planned: float


@dataclass(frozen=True)
class ElectorateOverlap(Stored):
    """Overlap of the planned with the tested.

    Attributes:
        n_planned: Voters whom the plan may contact.
        n_tested: Tested voters of the present file.
        n_both: Planned voters who were tested.
        auc: How well the features tell a planned from a tested voter, on voters that
            taught nothing; .5 is not at all.
        effective_n: (Σ w)² / Σ w²: as many equally weighted tested voters would know
            as much of the planned.
        largest_share: Largest weight of a tested voter, of all weights.
        outside_share: Share of the planned where hardly any tested voter lies.
        lacked: Features that the test knew and most of the planned lack.
        verdict: `ALIKE`, `REWEIGHTED` or `REFUSED`.
    """

    n_planned: int
    n_tested: int
    n_both: int
    auc: float
    effective_n: float
    largest_share: float
    outside_share: float
    lacked: tuple[LackedColumn, ...]
    verdict: Likeness

    @classmethod
    def of_the_tested(cls, n: int) -> Self:
        """The overlap where the planned are the tested, n of them."""
        return cls(n, n, n, 0.5, float(n), 1.0 / n, 0.0, (), ALIKE)

    @property
    def reasons(self) -> list[str]:
        """Why nothing personal is known of the planned; empty where it is."""
        if self.verdict != REFUSED:
            return []
        reasons = [
            f"{column.name} is missing for {100 * column.planned:.0f} % of the planned "
            f"and for {100 * column.tested:.0f} % of the tested"
            for column in self.lacked
        ]
        if self.outside_share > MOST_OUTSIDE:
            reasons.append(
                f"{100 * self.outside_share:.0f} % of the planned resemble hardly "
                "anybody tested"
            )
        if self.effective_n < LEAST_EFFECTIVE * self.n_tested:
            reasons.append(
                f"weighted to stand for the planned, the {self.n_tested:,} tested are "
                f"worth {self.effective_n:,.0f}"
            )
        if self.largest_share > LARGEST_SHARE:
            reasons.append(
                f"one tested voter would stand for {100 * self.largest_share:.0f} % of "
                "the planned"
            )
        return reasons


def electorate_overlap(
    X: Floats32,
    is_tested: Bools,
    is_planned: Bools,
    unit_id: Objects,
    names: Sequence[str],
    categorical: Sequence[int],
    *,
    seed: int,
) -> tuple[ElectorateOverlap, Floats]:
    """Compare the planned with the tested, and weight the tested to stand for them.

    A ridge logistic regression tells the two sides apart, fitted on one half of the
    households and applied to the other; its odds are the weights.

    Args:
        X: Features of the voters of the file, as of one day, shape (n_voters, k).
        is_tested: Shape (n_voters,), somebody.
        is_planned: Shape (n_voters,), somebody.
        unit_id: Household, shape (n_voters,).
        names: Of the features, length k.
        categorical: Columns of X that hold category codes.
        seed: Halves, and who is sampled of many.

    Returns:
        The overlap; weights of the tested, mean 1, shape (n,).
    """
    tested, planned = np.flatnonzero(is_tested), np.flatnonzero(is_planned)
    n_both = int((is_tested & is_planned).sum())
    lacked = _lacked(X, tested, planned, names)
    (of_tested, of_planned), auc = _told_apart(
        X, tested, planned, unit_id, categorical, seed
    )
    weight = np.exp(of_tested - of_tested.max())
    weight /= weight.mean()
    effective_n = float(weight.sum() ** 2 / (weight**2).sum())
    edge = np.quantile(of_tested, 1.0 - EDGE_OF_TESTED)
    outside = float((of_planned > edge + 1e-9).mean())
    largest = float(weight.max() / weight.sum())
    verdict = _verdict(auc, effective_n / len(tested), largest, outside, lacked)
    overlap = ElectorateOverlap(
        len(planned), len(tested), n_both, auc, effective_n, largest, outside, lacked,
        verdict,
    )  # fmt: skip
    return overlap, weight


def _verdict(
    auc: float,
    effective_share: float,
    largest_share: float,
    outside_share: float,
    lacked: Sequence[LackedColumn],
) -> Likeness:
    if lacked or outside_share > MOST_OUTSIDE:
        return REFUSED
    if effective_share < LEAST_EFFECTIVE or largest_share > LARGEST_SHARE:
        return REFUSED
    is_alike = auc <= ALIKE_AUC and effective_share >= ALIKE_EFFECTIVE
    return ALIKE if is_alike else REWEIGHTED


def _lacked(
    X: Floats32, tested: Ints, planned: Ints, names: Sequence[str]
) -> tuple[LackedColumn, ...]:
    missing = [np.isnan(X[rows]).mean(axis=0) for rows in (tested, planned)]
    return tuple(
        LackedColumn(name, float(of_tested), float(of_planned))
        for name, of_tested, of_planned in zip(names, *missing, strict=True)
        if of_planned - of_tested > MISSING_MORE
    )


def _told_apart(
    X: Floats32,
    tested: Ints,
    planned: Ints,
    unit_id: Objects,
    categorical: Sequence[int],
    seed: int,
) -> tuple[tuple[Floats, Floats], float]:
    """Logits of being planned, of the tested and the planned; how well they tell."""
    rng = np.random.default_rng(seed)
    sampled = [sampled_rows(rows, rng) for rows in (tested, planned)]
    columns = LinearColumns.of(X[np.concatenate(sampled)], categorical)
    Z = [columns.matrix(X[rows]) for rows in (tested, sampled[1])]
    fold = [
        unit_folds(unit_id[rows], N_FOLDS, salt=f"electorate-{seed}")
        for rows in (tested, sampled[1])
    ]
    teaches = np.isin(tested, sampled[0])
    logits = [np.zeros(len(part)) for part in Z]
    aucs = []
    for k in range(N_FOLDS):
        learnt = [Z[0][(fold[0] != k) & teaches], Z[1][fold[1] != k]]
        n_tested, n_planned = (max(len(part), 1) for part in learnt)
        # both sides weigh the same, however many voters there are
        b = fractional_logit(
            np.vstack(learnt), np.repeat([0.0, 1.0], [len(p) for p in learnt]),
            np.repeat([1.0, n_tested / n_planned], [len(p) for p in learnt]),
            PENALTY,
        )  # fmt: skip
        for side in (0, 1):
            logits[side][fold[side] == k] = Z[side][fold[side] == k] @ b
        aucs.append(_auc(*(logits[side][fold[side] == k] for side in (0, 1))))
    return (logits[0], logits[1]), float(np.mean(aucs))


def sampled_rows(rows: Ints, rng: np.random.Generator) -> Ints:
    """At most `AT_MOST` of some rows, in order.

    Args:
        rows: Shape (n,).
        rng: Source of randomness.
    """
    if len(rows) <= AT_MOST:
        return rows
    return np.sort(rng.choice(rows, AT_MOST, replace=False))


def _auc(of_tested: Floats, of_planned: Floats) -> float:
    """Chance that a planned voter's logit is above a tested one's."""
    n, m = len(of_planned), len(of_tested)
    if not n or not m:
        return 0.5
    rank = stats.rankdata(np.concatenate([of_planned, of_tested]))
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m))

"""Baseline lift models: nobody, single best, best mix, one covariate.

Each is a lift that is the same for everyone, or for everyone on one side of a single
split, so all share a model class and the path that spends the money.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats, Floats32, Ints, Objects
from hustings.features.training_set import Arm
from hustings.features.voter import Encoding
from hustings.training.estimators.spend_path import whole_budget_path
from hustings.training.learners.average_effects import Nuisances
from hustings.training.learners.gbm import Prepared
from hustings.training.learners.lift_model import Lifts

QUANTILES = (0.25, 0.5, 0.75)
MAX_SPLIT_LEVELS = 8
MIN_CELL_SHARE = 0.05


@dataclass(frozen=True)
class CovariateSplit:
    """One question about one feature; a missing value answers no.

    Attributes:
        feature: Column of X.
        threshold: Asked value.
        categorical: Whether the question is "equal to" rather than "at most".
    """

    feature: int
    threshold: float
    categorical: bool

    def answers(self, X: Floats32) -> Bools:
        """Whether each voter answers yes, shape (n,)."""
        column = X[:, self.feature]
        answer: Bools = (
            column == self.threshold if self.categorical else column <= self.threshold
        )
        return answer

    def text(self, encoding: Encoding) -> str:
        """The question in words, such as "age at most 54" or "party is D".

        Args:
            encoding: Of the features.
        """
        name = encoding.names[self.feature]
        if self.categorical:
            return f"{name} is {encoding.levels[name][int(self.threshold)]}"
        return f"{name} at most {self.threshold:g}"


@dataclass(frozen=True)
class CellLift:
    """Lift by cell: one cell for everyone, or two sides of a split.

    Attributes:
        nuisances: Nuisances and average effects.
        split: The question, None for one cell.
        lift: Of every message, shape (n_cells, M); cell 1 answers yes.
        se: Its standard deviation, shape (n_cells, M).
    """

    nuisances: Nuisances
    split: CovariateSplit | None
    lift: Floats
    se: Floats

    def question(self, encoding: Encoding) -> str | None:
        """What the split asks, in words; None of one cell for everyone.

        Args:
            encoding: Of the features.
        """
        return None if self.split is None else self.split.text(encoding)

    def cells(self, X: Floats32) -> Ints:
        """Cell of every voter, shape (n,)."""
        if self.split is None:
            return np.zeros(len(X), dtype=np.int64)
        return self.split.answers(X).astype(np.int64)

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lift of every message for every voter, as `GbmLift.predict`."""
        cell = self.cells(X)
        lift, se = self.lift[cell], self.se[cell]
        return Lifts.of_groups(self.nuisances, X, unit_id, lift, se)

    def save(self, folder: Path) -> None:
        """Write JSON and LightGBM's text format: nothing executable."""
        self.nuisances.save(folder)
        stored = {
            "split": vars(self.split) if self.split else None,
            "lift": self.lift.tolist(),
            "se": self.se.tolist(),
        }
        (folder / "cells.json").write_text(json.dumps(stored, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        stored = json.loads((folder / "cells.json").read_text())
        split = CovariateSplit(**stored["split"]) if stored["split"] else None
        lift, se = np.array(stored["lift"]), np.array(stored["se"])
        return cls(Nuisances.load(folder), split, lift, se)


def untargeted(nuisances: Nuisances) -> CellLift:
    """The same lift for everyone: the shrunken average effects."""
    effects = nuisances.effects
    return CellLift(nuisances, None, effects.shrunken[None], effects.shrunken_se[None])


def with_spread(model: CellLift, X: Floats32, variance: Floats) -> CellLift:
    """Intervals that cover a voter's own lift, not only the mean of the cell.

    Args:
        model: Cells whose error is that of their means.
        X: Features of the voters it was fitted on, shape (n, n_features).
        variance: Of lift between voters, by message, shape (M,).
    """
    between = model.lift[model.cells(X)].var(axis=0)
    within = np.maximum(variance - between, 0.0)
    return replace(model, se=np.sqrt(model.se**2 + within))


def never_sent(nuisances: Nuisances) -> CellLift:
    """A model without lift above zero for any voter: the policy of sending nothing."""
    flat = untargeted(nuisances)
    return replace(flat, lift=np.minimum(flat.lift, 0.0))


def one_covariate(
    prepared: Prepared,
    categorical: Sequence[int],
    arms: Sequence[Arm],
    allowed: Bools,
    cost: Floats,
    *,
    spend: float,
) -> CellLift:
    """The best single split: the one whose plan promises most at the spend.

    Args:
        prepared: The test, n voters.
        categorical: Columns of X that hold category codes.
        arms: What could be sent, length A.
        allowed: Who may get which arm, shape (n, A).
        cost: Of every arm, shape (A,).
        spend: Money per voter.

    Returns:
        Two cells with shrunken effects, or one where no feature can be split.
    """
    best, best_value = untargeted(prepared.nuisances), -np.inf
    moments = _Moments.of(prepared)
    for split in _candidates(prepared.test.X, set(categorical)):
        model = _split_model(prepared, split, moments)
        yes = split.answers(prepared.test.X)
        reach = np.stack([allowed[~yes].sum(axis=0), allowed[yes].sum(axis=0)])
        value = reach * prepared.nuisances.option_values(model.lift, arms)
        path = whole_budget_path(value, reach * cost, allowed=reach > 0)
        promised = path.value_at(spend * len(yes))
        if promised > best_value:
            best, best_value = model, promised
    return best


def _candidates(X: Floats32, categorical: set[int]) -> Iterator[CovariateSplit]:
    for feature in range(X.shape[1]):
        column = X[:, feature]
        present = column[~np.isnan(column)]
        if len(present) == 0:
            continue
        levels = np.unique(present)
        if feature in categorical:
            thresholds = levels[:MAX_SPLIT_LEVELS]
        else:
            thresholds = np.unique(np.quantile(present, QUANTILES, method="lower"))
        for threshold in thresholds:
            split = CovariateSplit(feature, float(threshold), feature in categorical)
            share = split.answers(X).mean()
            if MIN_CELL_SHARE <= share <= 1 - MIN_CELL_SHARE:
                yield split


class _Moments(NamedTuple):
    """Scores less control, and their squares, for sums over any group of voters."""

    lift: Floats
    square: Floats
    survey: Floats | None

    @classmethod
    def of(cls, prepared: Prepared) -> Self:
        lift = prepared.scores[:, 1:] - prepared.scores[:, :1]
        return cls(lift, lift**2, prepared.test.survey_weight)

    def mean_and_noise(self, who: Bools) -> tuple[Floats, Floats]:
        """Mean of every message over some voters, and the variance of that mean."""
        if self.survey is not None:
            return self._of_population(who * self.survey)
        weight = who / who.sum()
        mean = weight @ self.lift
        return mean, (weight @ self.square - mean**2) / who.sum()

    def _of_population(self, survey: Floats) -> tuple[Floats, Floats]:
        """The same with survey weights."""
        weight = survey / survey.sum()
        mean, w2 = weight @ self.lift, weight**2
        return mean, w2 @ self.square - 2 * mean * (w2 @ self.lift) + w2.sum() * mean**2

    def share(self, who: Bools) -> float:
        """Share of the population that some voters represent."""
        return float(np.average(who, weights=self.survey))


def _split_model(
    prepared: Prepared, split: CovariateSplit, moments: _Moments
) -> CellLift:
    """Effects on both sides, their difference shrunken over the messages."""
    yes = split.answers(prepared.test.X)
    share = moments.share(yes)
    mean_yes, noise_yes = moments.mean_and_noise(yes)
    mean_no, noise_no = moments.mean_and_noise(~yes)
    difference, noise = mean_yes - mean_no, noise_yes + noise_no
    spread = max(float(np.mean(difference**2 - noise)), 0.0)
    signal_share = spread / (spread + noise)
    effects = prepared.nuisances.effects
    moved = signal_share * difference
    cells = effects.shrunken + np.stack([-share * moved, (1 - share) * moved])
    weight = np.array([[share], [1 - share]])
    se = np.sqrt(effects.shrunken_se**2 + weight**2 * signal_share * noise)
    return CellLift(prepared.nuisances, split, cells, se)

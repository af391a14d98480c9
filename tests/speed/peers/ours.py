"""What stands in the table beside the public tools: our learners and plain baselines.

Every one learns from the training half of a split alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hustings.features.arrays import Floats, Floats32
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import Z95
from hustings.training.learners.baselines import one_covariate, untargeted
from hustings.training.learners.gbm import Prepared, prepare
from hustings.training.learners.lift_model import Lifts
from hustings.training.learners.registry import fit_lift
from tests.speed.peers.data_sets import DataSet, Truth
from tests.speed.peers.peers import (
    THREADS,
    Predicted,
    Split,
    read_predicted,
    write_predicted,
)

NO_TARGETING = "no targeting"
ONE_COVARIATE = "one covariate"
DECILES = "deciles of the response score"
REFERENCE = "reference, a prior for each group"
POOLED_REFERENCE = "reference, one prior for all groups"
REFERENCES = (REFERENCE, POOLED_REFERENCE)
N_DECILES = 10
MOST_WEIGHTS = 1_000
"""Weights of the largest world that the references learn, all at once."""

MODELS = ("stack",)
OURS: Mapping[str, str] = {f"ours: {model}": model for model in MODELS}
"""Row of the table → model."""


def ours(
    test: MessageTest,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    X_eval: Floats32,
    *,
    model: str,
    seed: int,
) -> Lifts:
    """One of our learners, fitted on a test and asked about other voters.

    Args:
        test: Who is learnt from.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        X_eval: Features of the judged, shape (n_eval, n_features).
        model: One of `MODELS`.
        seed: Of folds and learner.
    """
    fitted = fit_ours(test, categorical, issue_of, model=model, seed=seed)
    found: Lifts = fitted.predict(X_eval)
    return found


def fit_ours(
    test: MessageTest,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    *,
    model: str,
    seed: int,
) -> Any:
    """The fitted learner of `ours`, nuisances included."""
    prepared = prepare(test, categorical, issue_of, seed=seed)
    return fit_lift(prepared, {"model": model}, seed=seed)


@dataclass(frozen=True)
class Learning:
    """The two sides of a split, prepared once for the baselines.

    Attributes:
        split: What is learnt from and judged.
    """

    split: Split

    @property
    def data(self) -> DataSet:
        """The set that is split."""
        return self.split.data

    @cached_property
    def train(self) -> MessageTest:
        """Who is learnt from."""
        return self.data.test.take(self.split.trained)

    @cached_property
    def held(self) -> MessageTest:
        """Who is judged."""
        return self.data.test.take(~self.split.trained)

    @cached_property
    def prepared(self) -> Prepared:
        """The training half with nuisances, scores and average effects."""
        data, seed = self.data, self.split.seed
        return prepare(self.train, data.categorical, data.issue_of, seed=seed)


class Found(NamedTuple):
    """Lift of the judged, shape (n_held, M), and its SE where one is claimed."""

    lift: Floats
    se: Floats | None = None


Predict = Callable[[], Found]


def rows_of(data: DataSet) -> tuple[str, ...]:
    """Rows of ours that a data set has."""
    known = data.truth is not None and data.truth.weights.size <= MOST_WEIGHTS
    references = REFERENCES if known else ()
    return (*OURS, NO_TARGETING, ONE_COVARIATE, DECILES, *references)


def our_file(name: str, split: Split) -> Path:
    """Where a prediction of ours is kept."""
    return split.cached(name, source_hash())


def predict_by_ours(name: str, learning: Learning) -> Predicted:
    """Lifts of the judged voters by a row of ours, from the cache or by a fit."""
    file = our_file(name, learning.split)
    if not file.exists():
        started = time.process_time()
        predict = _fit(name, learning)
        fitted = time.process_time()
        lift, se = predict()
        seconds = fitted - started, time.process_time() - fitted, float(THREADS)
        margin = None if se is None else Z95 * se
        low, high = (None, None) if margin is None else (lift - margin, lift + margin)
        write_predicted(file, Predicted(lift, low, high, seconds))
    return read_predicted(file)


@cache
def source_hash() -> str:
    """Hash of what settles our predictions: features, training and this file."""
    found, root = sha256(), Path(__file__).parents[3]
    files = [*root.glob("training/**/*.py"), *root.glob("features/**/*.py")]
    for file in [*sorted(files), Path(__file__)]:
        found.update(file.read_bytes())
    return found.hexdigest()


def _fit(name: str, learning: Learning) -> Predict:
    if name in OURS:
        data, split = learning.data, learning.split
        model = fit_ours(
            learning.train, data.categorical, data.issue_of,
            model=OURS[name], seed=split.seed,
        )  # fmt: skip
        return lambda: Found(*_ask(model, learning)[:2])
    if name in REFERENCES:
        return _reference(learning, pooled=name == POOLED_REFERENCE)
    if name == DECILES:
        return _deciles(learning)
    flat = untargeted(learning.prepared.nuisances)
    model = flat if name == NO_TARGETING else _one_covariate(learning)
    return lambda: Found(_ask(model, learning).lift)


def _ask(model: Any, learning: Learning) -> Lifts:
    found: Lifts = model.predict(learning.held.X)
    return found


def _one_covariate(learning: Learning) -> Any:
    """The split that promises most at the middle one of the declared spends."""
    data, train = learning.data, learning.train
    allowed = np.ones((len(train.Y), len(data.cost)), dtype=bool)
    return one_covariate(
        learning.prepared, data.categorical, train.arms, allowed, data.cost,
        spend=data.spends[len(data.spends) // 2],
    )  # fmt: skip


def _deciles(learning: Learning) -> Predict:
    """What campaigns do: the measured effect in each decile of the expected outcome."""
    prepared, train = learning.prepared, learning.train
    score = _expected(prepared, train)
    edges = np.quantile(score, np.linspace(0, 1, N_DECILES + 1)[1:-1])
    decile = np.searchsorted(edges, score)
    lift = prepared.scores[:, 1:] - prepared.scores[:, :1]
    size = np.maximum(np.bincount(decile, minlength=N_DECILES), 1)
    by_decile = np.column_stack(
        [np.bincount(decile, weights=column, minlength=N_DECILES) for column in lift.T]
    )
    means = by_decile / size[:, None]
    held = learning.held
    return lambda: Found(means[np.searchsorted(edges, _expected(prepared, held))])


def _expected(prepared: Prepared, test: MessageTest) -> Floats:
    """Expected outcome without a message, by the fold that never saw the voter."""
    flat = untargeted(prepared.nuisances)
    return flat.predict(test.X, test.unit_id).baseline


def _reference(learning: Learning, *, pooled: bool) -> Predict:
    """Bayesian linear R-learner on the groups that lifts really are sums of.

    Every weight of a group has a normal prior with the moments of the generator's own
    weights: more than any learner can know. Residuals Y − E[Y | x] are regressed on
    (1[W = m] − e_m) × group, all messages at once.

    Args:
        learning: A split of a set whose truth is known.
        pooled: Whether the moments are those of all weights together, not of each
            group's over the messages.
    """
    truth, points = learning.data.truth, learning.data.points
    if truth is None:
        raise ValueError(f"{learning.data.name}: expected a known truth, got none")
    train, prepared, trained = learning.train, learning.prepared, learning.split.trained
    response = prepared.nuisances.response(train)
    seen = train.observed
    mean, covariance = posterior(
        truth.groups[trained][seen],
        _surprise(train)[seen],
        points * (train.Y - response)[seen],
        prior_moments(truth, pooled=pooled),
    )
    held = truth.groups[~trained]

    def predict() -> Found:
        variance = np.einsum("nk,mkl,nl->nm", held, covariance, held, optimize=True)
        return Found(held @ mean.T / points, np.sqrt(variance) / points)

    return predict


def prior_moments(truth: Truth, *, pooled: bool) -> Floats:
    """Prior mean and variance of every group's weight, shape (2, K)."""
    weights = truth.weights
    if pooled:
        one = np.array([[weights.mean()], [max(weights.var(), 1e-8)]])
        return np.repeat(one, len(weights), axis=1)
    # a group that moves by no message is known not to
    variance = np.maximum(weights.var(axis=1), 1e-8)
    return np.stack([weights.mean(axis=1), variance])


def _surprise(test: MessageTest) -> Floats:
    """1[W = m] less its probability, shape (n, M)."""
    e = test.propensities[:, 1:]
    sent = test.arm[:, None] == np.arange(1, e.shape[1] + 1)
    return np.asarray(sent - e, dtype=np.float64)


def posterior(
    groups: Floats, surprise: Floats, residual: Floats, prior: Floats
) -> tuple[Floats, Floats]:
    """Posterior of every message's weights.

    Args:
        groups: Shape (n, K).
        surprise: 1[W = m] less its probability, shape (n, M).
        residual: Outcome less what is expected of the voter, shape (n,).
        prior: Mean and variance of a group's weight, shape (2, K).

    Returns:
        Mean (M, K) and covariance (M, K, K).
    """
    n_groups, n_messages = groups.shape[1], surprise.shape[1]
    mean, precision = np.tile(prior[0], n_messages), np.tile(1 / prior[1], n_messages)
    noise = residual.var()
    gram, moment = np.diag(precision), precision * mean
    for part in np.array_split(np.arange(len(residual)), 20):
        design = surprise[part, :, None] * groups[part, None, :]
        Z = design.reshape(len(part), -1)
        gram += Z.T @ Z / noise
        moment += Z.T @ residual[part] / noise
    covariance = np.linalg.inv(gram)
    own = covariance.reshape(n_messages, n_groups, n_messages, n_groups)
    return (
        (covariance @ moment).reshape(n_messages, n_groups),
        np.stack([own[m, :, m] for m in range(n_messages)]),
    )

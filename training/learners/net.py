"""The PyTorch lift model for several messages, those never sent among them.

τ_m(x) = ᾱ_m + s_m (w_c C(x) + w_d D_m(x)): the average effect of the message, pooled
within issue and informed by its text where that is shown to say something
(`message_prior`), and the deviation h_m(x) = ⟨v(x), u_m⟩ of the two towers: C is what
messages share of it, D_m the rest. As in `gbm`, w and s come from held-out predictions
against doubly robust scores: what the data do not support shrinks to the average.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from hustings.features.arrays import Floats, Floats32, Ints, Objects
from hustings.features.message import MessageFeatures
from hustings.training.estimators.metrics import (
    Interval,
    calibration_slope,
    clustered_means,
)
from hustings.training.learners import boosting
from hustings.training.learners.average_effects import (
    Nuisances,
    estimates_of,
    pools,
)
from hustings.training.learners.forecasts import expected_effects
from hustings.training.learners.gbm import Prepared, ScoreCalibration, calibrate
from hustings.training.learners.lift_model import Lifts
from hustings.training.learners.text_prior import (
    MessagePrior,
    TextPosterior,
    even_noise,
    fit_message_prior,
)
from hustings.training.learners.towers import (
    DEFAULT_PARAMS,
    InputColumns,
    TowerData,
    message_vectors,
    train_towers,
    voter_vectors,
)

CHUNK = 4096
"""Voters at a time: what a chunk needs stays in the cache."""
LEAST_RELIABLE = 0.2
"""Below this share of signal in h the members cannot say how much is missing."""


class Deviations(NamedTuple):
    """Predictions of the towers before calibration.

    Attributes:
        h: Deviation from the average effect, mean of the members, shape (n, M).
        disagreement: Variance between the members, shape (n, M).
        unknown: Variance for what is a message's own, 0 where it was sent, (n, M).
    """

    h: Floats
    disagreement: Floats
    unknown: Floats


@dataclass(frozen=True)
class Vocabulary:
    """How a message enters the message tower.

    Attributes:
        names: Of the text features, length d.
        centre: Their means over the messages sent, length d.
        scale: What they are divided by, length d; 0 for a feature that never varied.
        issues: Issues of the messages sent, each once.
        pool_of: Pool of each issue: itself, or "" where it is pooled with others.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    issues: tuple[str, ...]
    pool_of: Mapping[str, str]

    @classmethod
    def of(cls, messages: MessageFeatures) -> Self:
        """Build from the messages of the test."""
        text = messages.matrix.astype(np.float64)
        spread = text.std(axis=0)
        used = spread > 1e-6
        meaning = np.array([n.startswith("embedding_") for n in messages.names])
        # the many columns of the embedding together weigh as much as the readable ones
        for block in (meaning, ~meaning):
            spread[block] *= np.sqrt(max((used & block).sum(), 1))
        return cls(
            messages.names,
            tuple(text.mean(axis=0).tolist()),
            tuple(np.where(used, spread, 0.0).tolist()),
            tuple(dict.fromkeys(messages.issue)),
            dict(zip(messages.issue, pools(messages.issue), strict=True)),
        )

    def text(self, messages: MessageFeatures) -> Floats32:
        """Standardised, shape (k, d).

        Raises:
            ValueError: If the messages were read with other features.
        """
        if messages.names != self.names:
            raise ValueError(
                f"expected messages with the {len(self.names)} text features of the "
                f"fit, got {len(messages.names)}; read them by features.message"
            )
        scale = np.array(self.scale)
        standardised = np.divide(
            messages.matrix - np.array(self.centre), scale,
            out=np.zeros(messages.matrix.shape), where=scale > 0,
        )  # fmt: skip
        return np.asarray(standardised, dtype=np.float32)

    def issue(self, messages: MessageFeatures) -> Floats32:
        """One-hot, zeros for an issue never sent, shape (k, I)."""
        rows = [[i == sent_issue for sent_issue in self.issues] for i in messages.issue]
        return np.array(rows, dtype=np.float32).reshape(-1, len(self.issues))

    def pool(self, messages: MessageFeatures) -> list[str]:
        """Pool of every message; one that does not exist for an issue never sent."""
        return [self.pool_of.get(i, f"unknown: {i}") for i in messages.issue]


@dataclass(frozen=True)
class NetLift:
    """A fitted model; voters are routed to the network that never saw their unit.

    Attributes:
        nuisances: Nuisances and average effects, informed by text where it passed.
        columns: How a voter enters.
        vocabulary: How a message enters.
        weights: Of the towers, leading axis the fold.
        sent: Text and issue of the messages sent, as they enter, (M, d) and (M, I).
        calibration: How far the towers are believed.
        disagreement: Mean variance between members by message, shape (M,).
        prior: Average effects of messages by pool and text.
    """

    nuisances: Nuisances
    columns: InputColumns
    vocabulary: Vocabulary
    weights: Mapping[str, npt.NDArray[Any]]
    sent: tuple[Floats32, Floats32]
    calibration: ScoreCalibration
    disagreement: Floats
    prior: MessagePrior

    def predict(self, X: Floats32, unit_id: Objects | None = None) -> Lifts:
        """Lift of every message for every voter, all messages in one pass.

        Args:
            X: Features, shape (n, n_features).
            unit_id: Coarsest unit of every voter, shape (n,); None for voters known
                to be new, who get the mean of all networks.
        """
        fold = None if unit_id is None else self.nuisances.folds(unit_id)
        uncalibrated = self._deviations(X, fold, *self.sent, were_sent=True)
        C, D = _split(uncalibrated.h, self.nuisances.share)
        deviation, variance = self.calibration.heterogeneity(C, D)
        # the calibration says how much is unexplained, the members where
        local = _local(uncalibrated.disagreement, self.disagreement)
        variance = variance + self.calibration.unexplained * (local - 1.0)
        lift = self.nuisances.effects.shrunken + deviation
        se = np.sqrt(variance + self.nuisances.effects.shrunken_se**2)
        return Lifts.within_range(self.nuisances, X, unit_id, lift, se)

    def predict_new(
        self,
        X: Floats32,
        unit_id: Objects | None,
        messages: MessageFeatures,
    ) -> Lifts:
        """Lift of messages that were never sent.

        The interval holds what texts do not explain of the differences between
        messages. A lift and its deviation are NaN, an abstention, where the text says
        nothing: it did not rank messages held out, or the message speaks of an issue
        of which none was sent, or its text lies far from all that were.

        Args:
            X: Features, shape (n, n_features).
            unit_id: As in `predict`.
            messages: The new messages, k of them.

        Raises:
            ValueError: If the messages were read with other features.
        """
        fold = None if unit_id is None else self.nuisances.folds(unit_id)
        vocabulary = self.vocabulary
        text, issue = vocabulary.text(messages), vocabulary.issue(messages)
        uncalibrated = self._deviations(X, fold, text, issue, were_sent=False)
        of_sent = self._deviations(X, fold, *self.sent, were_sent=True).h
        C, _ = _split(of_sent, self.nuisances.share)
        average = self.average_of_new(messages)
        spread = self.calibration
        deviation = spread.weight[0] * (C - spread.centre[0])[:, None]
        deviation = deviation + spread.weight[1] * (uncalibrated.h - C[:, None])
        local = _local(
            uncalibrated.disagreement, np.full(len(text), self.disagreement.mean())
        )
        variance = (deviation * _typical(spread.slope_se)) ** 2
        variance += spread.unexplained.max() * local
        variance += spread.weight[1] ** 2 * uncalibrated.unknown
        lift = average.mean + deviation
        sent = (
            self.nuisances.effects.shrunken
            + spread.heterogeneity(*_split(of_sent, self.nuisances.share))[0]
        )
        se = np.sqrt(variance + average.se**2)
        return Lifts.within_range(self.nuisances, X, unit_id, lift, se, sent)

    def average_of_new(self, messages: MessageFeatures) -> TextPosterior:
        """Average effects of messages never sent, NaN for an abstention, (k,) each.

        Args:
            messages: The new messages, k of them.
        """
        text = np.column_stack(messages.blocks)
        return self.prior.of_new(text, self.vocabulary.pool(messages))

    def _deviations(
        self,
        X: Floats32,
        fold: Ints | None,
        text: Floats32,
        issue: Floats32,
        *,
        were_sent: bool,
    ) -> Deviations:
        """Deviations of every voter by the network of its fold, or by all networks."""
        numbers, codes = self.columns.numbers(X), self.columns.codes(X)
        n_folds = len(self.weights["voter.centre"])
        folds = [np.full(len(X), k) for k in range(n_folds)] if fold is None else [fold]
        by_network = [
            deviations(
                self.weights, numbers, codes, which, text, issue, were_sent=were_sent
            )
            for which in folds
        ]
        return Deviations(
            *(np.mean(parts, axis=0) for parts in zip(*by_network, strict=True))
        )

    def save(self, folder: Path) -> None:
        """Write JSON, safetensors and LightGBM's text format: nothing executable."""
        self.nuisances.save(folder)
        arrays = {f"tower.{name}": array for name, array in self.weights.items()}
        arrays |= {f"prior.{name}": a for name, a in self.prior.arrays().items()}
        arrays |= {f"calibration.{k}": v for k, v in vars(self.calibration).items()}
        arrays |= {
            "sent.text": self.sent[0], "sent.issue": self.sent[1],
            "disagreement": self.disagreement,
        }  # fmt: skip
        # safetensors writes the memory as it lies
        plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(plain, folder / WEIGHTS)
        stored = {
            "columns": asdict(self.columns),
            "vocabulary": asdict(self.vocabulary),
            "pools": self.prior.pools,
        }
        (folder / "net.json").write_text(json.dumps(stored, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If the folder lacks the weights.
        """
        if not (folder / WEIGHTS).exists():
            raise FileNotFoundError(f"{folder}: expected {WEIGHTS}")
        arrays = load_file(folder / WEIGHTS)
        stored = json.loads((folder / "net.json").read_text())

        def with_prefix(prefix: str) -> dict[str, npt.NDArray[Any]]:
            matching = {k: v for k, v in arrays.items() if k.startswith(prefix)}
            return {k.removeprefix(prefix): v for k, v in matching.items()}

        def lists(part: str) -> dict[str, Any]:
            pairs = stored[part].items()
            return {k: tuple(v) if isinstance(v, list) else v for k, v in pairs}

        return cls(
            nuisances=Nuisances.load(folder),
            columns=InputColumns(**lists("columns")),
            vocabulary=Vocabulary(**lists("vocabulary")),
            weights=with_prefix("tower."),
            sent=(arrays["sent.text"], arrays["sent.issue"]),
            calibration=ScoreCalibration(**with_prefix("calibration.")),
            disagreement=arrays["disagreement"],
            prior=MessagePrior.from_arrays(stored["pools"], with_prefix("prior.")),
        )


WEIGHTS = "net.safetensors"


def fit_net(
    prepared: Prepared,
    messages: MessageFeatures,
    params: Mapping[str, Any] = DEFAULT_PARAMS,
    *,
    seed: int,
) -> NetLift:
    """Train the towers of every fold and calibrate them on what they did not see.

    Args:
        prepared: The test.
        messages: Features of at least its messages.
        params: Over `towers.DEFAULT_PARAMS`.
        seed: Of everything that is drawn.

    Raises:
        KeyError: If a message of the test has no features.
    """
    test, share = prepared.test, prepared.nuisances.share
    sent = messages.of(test.messages)
    columns = InputColumns.of(test.X, boosting.categorical_columns(prepared.data))
    vocabulary = Vocabulary.of(sent)
    text, issue = vocabulary.text(sent), vocabulary.issue(sent)
    data = _tower_data(prepared, columns, text, issue)
    weights = train_towers(data, params, seed=seed, n_threads=boosting.N_THREADS)
    weights = _centred(weights, data)
    uncalibrated = deviations(
        weights, data.numbers, data.codes, data.fold, text, issue, were_sent=True
    )
    C, D = _split(uncalibrated.h, share)
    prior = _prior(prepared, sent, seed)
    return NetLift(
        nuisances=_informed(prepared, messages, prior),
        columns=columns,
        vocabulary=vocabulary,
        weights=weights,
        sent=(text, issue),
        calibration=_calibrated(prepared, C, D, uncalibrated),
        disagreement=uncalibrated.disagreement.mean(axis=0),
        prior=prior,
    )


def _tower_data(
    prepared: Prepared, columns: InputColumns, text: Floats32, issue: Floats32
) -> TowerData:
    test = prepared.test
    contrast = -test.propensities[:, 1:].astype(np.float32)
    sent = np.flatnonzero(test.arm > 0)
    contrast[sent, test.arm[sent] - 1] += 1.0
    return TowerData(
        numbers=columns.numbers(test.X),
        codes=columns.codes(test.X),
        n_levels=columns.n_rows,
        text=text,
        issue=issue,
        contrast=contrast,
        residual=prepared.residual.astype(np.float32),
        weight=prepared.weight.astype(np.float32),
        fold=prepared.fold,
        unit=test.unit,
    )


def _centred(
    weights: Mapping[str, npt.NDArray[Any]], data: TowerData
) -> dict[str, npt.NDArray[Any]]:
    """Weights whose voter vectors are centred on the held-out fold.

    So that h is a deviation also for a message that is not there yet.
    """
    centre = np.zeros_like(weights["voter.centre"])
    for k in range(len(centre)):
        rows = np.flatnonzero(data.fold == k)
        for at in _chunks(rows):
            v = _voters(weights, data.numbers, data.codes, k, at)
            centre[k] += v.sum(axis=1, keepdims=True) / max(len(rows), 1)
    return {**weights, "voter.centre": centre}


def deviations(
    weights: Mapping[str, npt.NDArray[Any]],
    numbers: Floats32,
    codes: Ints,
    fold: Ints,
    text: Floats32,
    issue: Floats32,
    *,
    were_sent: bool,
) -> Deviations:
    """Deviation h of every voter and message by the network of the voter's fold.

    Args:
        weights: Of the towers.
        numbers: Shape (n, p).
        codes: Shape (n, c).
        fold: Shape (n,).
        text: Standardised text of the messages, shape (M, d).
        issue: Their issues, shape (M, I).
        were_sent: Whether they are the messages that were sent, which have a part of
            their own; for others it is unknown.
    """
    shape = (len(numbers), len(text))
    uncalibrated = Deviations(np.empty(shape), np.empty(shape), np.zeros(shape))
    for k in np.unique(fold):
        w = {name: array[[k]] for name, array in weights.items()}
        free = w["message.free"] if were_sent else np.float32(0.0)
        u = message_vectors(w, text, issue, free)[0]
        for at in _chunks(np.flatnonzero(fold == k)):
            v = _voters(weights, numbers, codes, int(k), at)
            h = v @ u.swapaxes(1, 2)
            uncalibrated.h[at] = h.mean(axis=0)
            uncalibrated.disagreement[at] = h.var(axis=0)
            if not were_sent:
                norm = (v**2).sum(axis=2).mean(axis=0)
                prior = issue @ w["message.prior_log_sd"][0, 0]
                uncalibrated.unknown[at] = norm[:, None] * np.exp(2.0 * prior[:, 0])
    return uncalibrated


def _chunks(rows: Ints) -> list[Ints]:
    return np.split(rows, range(CHUNK, len(rows), CHUNK)) if len(rows) else []


def _voters(
    weights: Mapping[str, npt.NDArray[Any]],
    numbers: Floats32,
    codes: Ints,
    k: int,
    rows: Ints,
) -> Floats32:
    """Vectors of some voters by the network of fold k, shape (K, B, R)."""
    w = {name: array[[k]] for name, array in weights.items()}
    w["voter.fold"] = np.zeros(1, dtype=np.int64)
    vectors: Floats32 = voter_vectors(w, numbers[rows][None], codes[rows][None])[0]
    return vectors


def _split(h: Floats, share: Floats) -> tuple[Floats, Floats]:
    """The shared part of messages, (n,), and the part of each message, (n, M)."""
    C = h @ (share / share.sum())
    return C, h - C[:, None]


def _calibrated(
    prepared: Prepared, C: Floats, D: Floats, uncalibrated: Deviations
) -> ScoreCalibration:
    """Calibrate as `gbm.calibrate`, shrunken where noise could give as much.

    A part of weight w and standard error s keeps 1 − (s / w)² of it (the positive part
    of James & Stein 1961), so that noise hardly ever gives a spread. Of a smoother that
    keeps a share k of the signal, members on resampled units disagree by (1 − k) Var(h)
    and the signal it misses is (1 − k) / k Var(h): the first tells the second.
    """
    scores, cluster = prepared.scores, prepared.test.cluster
    survey = prepared.test.survey_weight
    plain = calibrate(scores, C, D, cluster, survey)
    parts = (np.broadcast_to(C[:, None], D.shape), D)
    lift = scores[:, 1:] - scores[:, :1]
    doubted = [
        w * _doubt(calibration_slope(lift, w * part, cluster, survey))
        for w, part in zip(plain.weight, parts, strict=True)
    ]
    calibration = replace(plain, weight=np.array(doubted))
    noise = uncalibrated.disagreement.mean(axis=0).sum()
    signal_share = 1.0 - noise / max(float(uncalibrated.h.var(axis=0).sum()), 1e-300)
    missed = 1.0 / max(signal_share, LEAST_RELIABLE) - 1.0
    spread = calibration.heterogeneity(C, D)[0].var(axis=0)
    return replace(
        calibration, unexplained=np.maximum(plain.unexplained, missed * spread)
    )


def _doubt(slope: Interval) -> float:
    return max(0.0, 1.0 - (slope.se / slope.value) ** 2) if slope.value > 0 else 0.0


def _local(disagreement: Floats, mean: Floats) -> Floats:
    """What is unexplained of a voter over the mean, shape (n, M).

    Halfway between equal for all and in proportion to the members' disagreement.
    """
    ratio = np.divide(
        disagreement, mean, out=np.ones_like(disagreement),
        where=np.broadcast_to(mean > 0, disagreement.shape),
    )  # fmt: skip
    return 0.5 + 0.5 * np.minimum(ratio, 3.0)


def _typical(se: Floats) -> float:
    return float(np.sqrt(np.mean(se**2)))


def _prior(prepared: Prepared, sent: MessageFeatures, seed: int) -> MessagePrior:
    test, pool = prepared.test, pools(sent.issue)
    lift = prepared.scores[:, 1:] - prepared.scores[:, :1]
    _, covariance = clustered_means(lift, test.cluster, test.survey_weight)
    people = np.bincount(test.arm[test.observed], minlength=1 + len(pool))[1:]
    return fit_message_prior(
        prepared.nuisances.effects.raw, even_noise(covariance, pool, people), pool,
        sent.blocks, rng=np.random.default_rng(seed),
    )  # fmt: skip


def _informed(
    prepared: Prepared, messages: MessageFeatures, prior: MessagePrior
) -> Nuisances:
    """Nuisances with effects informed by the texts, where the text test passes.

    Forecasts and earlier campaigns inform the effects as well, where there are any.
    """
    nuisances, evidence = prepared.nuisances, prepared.test.evidence
    if not prior.test.passed:
        return nuisances
    effects = nuisances.effects
    if evidence is None or effects.usual_effect == 0:
        mean, se = prior.of_sent()
    else:
        test = estimates_of(evidence, nuisances)
        mean, se, *_ = expected_effects(
            evidence, [test], test.message, usual_effect=float(effects.usual_effect),
            text=messages.blocks_of(evidence.ids),
        )  # fmt: skip
    effects = replace(effects, shrunken=mean, shrunken_se=se)
    return replace(nuisances, effects=effects)

"""`LiftModel`: learn what each message does to whom, and judge whether it pays."""

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from hustings.experiments.api.arguments import (
    confidence_of,
    name_text,
    number_of,
    seed_of,
    unit_per_point_of,
    usd_of,
    whole_number,
)
from hustings.experiments.api.frames import (
    as_fitted,
    costs_of,
    features_of,
    like,
    long_lifts,
    mapping_of,
    names_of,
    voter_ids,
)
from hustings.experiments.api.randomised import EXPERIMENT, GivenTest, read_test
from hustings.experiments.api.verdict import PolicyVerdict, average_lifts
from hustings.experiments.report.markup import html_table, joined, paragraph
from hustings.experiments.stages.learnable import learnable
from hustings.experiments.stages.plan_limits import campaign_value
from hustings.features.arrays import Bools, Floats32, Objects
from hustings.features.training_set import (
    MessageTest,
    message_tests,
    with_affinity_columns,
)
from hustings.features.voter import Encoding, segments
from hustings.training.learners.baselines import (
    CellLift,
    one_covariate,
    with_spread,
)
from hustings.training.learners.lift_model import (
    FittedLift,
    load_lift,
    variance_between,
)
from hustings.training.learners.registry import loss_steps
from hustings.training.policy_value.chosen_policies import chosen_policies
from hustings.training.policy_value.held_out_halves import (
    HALVES,
    judge_halves,
    training_half,
)
from hustings.training.policy_value.policies import ONE_COVARIATE, VoterFacts
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import evaluate, message_rows
from hustings.training.registry.learn import Hours, Learnt, Lesson, learn
from hustings.training.registry.tune import Search

ALL = "all"


class AssumptionWarning(UserWarning):
    """Something that nobody declared was assumed, or some data were set aside."""


class LiftModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What each message does to each voter, learnt from a randomised test.

    It fits the learners that `hustings run` fits, tunes them alike, and is judged by
    the same functions: cross-fitted, doubly robust, against the best mix of messages
    and the best single split, by a gate.

    Args:
        model: Kind of learner: "stack" (linear terms pooled over messages, and trees),
            "linear" or "gbm".
        control: Name in `arm` of the people who were sent nothing.
        n_trials: Settings tried on each part of the test, the defaults first; with 1
            the defaults are taken.
        issue_of: Message → issue, a mapping or a series: messages of one issue are
            pooled. None for one issue each.
        outcome_range: Lowest and highest value that y can have. None for 0 to 1 where y
            is 0 or 1, else for any value.
        unit_per_point: Outcome units in what verdicts call a point; None for .01 where
            y is 0 or 1, else 1.
        outcome: What verdicts call y.
        random_state: Seed of folds and learner, as scikit-learn takes it.

    Attributes:
        arms_: Message and channel of every arm that is learnt from, in order.
        messages_: Messages, in order.
        average_lift_: Average effect of each message, with its 95 % interval.
        settings_: Settings of the learner.
        notes_: What was set aside or assumed, a sentence each.
        seed_: Seed that was used.
        model_id_: Digest of what was learnt from and how; lifts and verdicts state it.
        n_features_in_, feature_names_in_: As scikit-learn has them.

    Shapes: n voters, A arms. The outcome is better when higher: turn it round where it
    is not.
    """

    def __init__(
        self,
        *,
        model: str = "stack",
        control: Any = "control",
        n_trials: int = 6,
        issue_of: Mapping[str, str] | None = None,
        outcome_range: tuple[float, float] | None = None,
        unit_per_point: float | None = None,
        outcome: str = "outcome",
        random_state: Any = 0,
    ) -> None:
        self.model = model
        self.control = control
        self.n_trials = n_trials
        self.issue_of = issue_of
        self.outcome_range = outcome_range
        self.unit_per_point = unit_per_point
        self.outcome = outcome
        self.random_state = random_state

    # --- learning ---

    def fit(
        self,
        X: Any,
        arm: Any,
        y: Any,
        *,
        propensity: Any = None,
        cluster: Any = None,
        channel: Any = "mail",
        block: Any = None,
        voter_id: Any = None,
        arms: Any = None,
    ) -> Self:
        """Tune and fit on all voters of a test.

        Args:
            X: What was known of each voter before the test: a frame of pandas, Arrow or
                Polars, or an array. Numbers, booleans, categories; missing values are
                read as such.
            arm: Message that each voter was sent, or the control, shape (n,).
            y: Outcome; missing where it is not in, shape (n,).
            propensity: Chance of each arm: a mapping or series by message (by (message,
                channel) where there are several), the rest the control's; a frame with
                a column for each message and the control; an array of shape
                (n, 1 + A), the control first, then the arms; of shape (n,) where there
                is one arm.
                None for the shares of the arms, with a warning.
            cluster: Who was drawn together or shares noise (a household), shape (n,).
            channel: By which the messages were sent, one for all or shape (n,).
            block: Stratum of the draw, shape (n,); None for one.
            voter_id: Names of voters, shape (n,); None for the index of a pandas frame,
                else the numbers of the rows.
            arms: Order of the arms, each a message or (message, channel); None for
                sorted.

        Returns:
            The model itself.

        Raises:
            ValueError: If an argument is not as expected, or the test is too small to
                learn from; says what was expected and what came.
        """
        if self.model not in ("stack", "linear", "gbm"):
            raise ValueError(
                f"model: expected one of stack, linear, gbm, got {self.model!r}"
            )
        whole_number(self.n_trials, "n_trials", 1)
        self.seed_ = seed_of(self.random_state)
        given = GivenTest(
            X,
            arm,
            y,
            propensity,
            cluster,
            channel,
            block,
            voter_id,
            arms,
            self.control,
        )
        read = read_test(given)
        teaches = learnable(read.training_set, outcome=self.outcome, direction=1.0)
        for reason in teaches.lacking.values():
            raise ValueError(f"nothing can be learnt: {reason}")
        self.notes_ = (*read.notes, *teaches.notes)
        for note in (*read.assumed, *teaches.notes):
            warnings.warn(note, AssumptionWarning, stacklevel=2)
        self._encoding = Encoding.fit(read.training_set.features)
        self._features = teaches.training_set.features
        self.feature_names_in_ = np.array(self._encoding.names, dtype=object)
        self.n_features_in_ = len(self._encoding.names)
        (test,) = message_tests(teaches.training_set, self._encoding).values()
        self._issues = _issues(self.issue_of, test.messages)
        self._test = _with_range(
            with_affinity_columns(test, self._encoding.names, self._issues),
            (0.0, 1.0) if read.is_binary and self.outcome_range is None
            else self.outcome_range,
        )  # fmt: skip
        self._point = unit_per_point_of(self.unit_per_point, is_binary=read.is_binary)
        self.model_id_ = self._digest()
        self._learnt: dict[str, Learnt] = {}
        learnt = self._part(ALL)
        self.arms_, self.messages_ = self._test.arms, self._test.messages
        self.settings_ = dict(learnt.tuned.settings)
        self.average_lift_ = average_lifts(
            _message_rows(self._test, learnt, self._issues)
        )
        return self

    def _digest(self) -> str:
        """Digest of the test and the settings: the same gives the same lifts."""
        test = self._test
        settings = (
            test.arms, self._issues, self._encoding.to_json(), test.outcome_range,
            self.model, int(self.n_trials), self.seed_,
        )  # fmt: skip
        digest = hashlib.sha256(json.dumps(settings).encode())
        for part in (test.X, test.arm, test.Y, test.propensities, test.unit):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

    def _part(self, label: str) -> Learnt:
        """What is learnt of a half, or of all; once."""
        if label not in self._learnt:
            part = training_half(self._test, label, seed=self.seed_)
            search = Search(
                f"{EXPERIMENT}/{label}", loss_steps, self.model, None,
                int(self.n_trials), self.seed_,
            )  # fmt: skip
            with TemporaryDirectory() as temporary:
                folder = Path(temporary) / label
                learnt = learn(
                    Lesson(
                        self._test if label == ALL else self._test.take(part),
                        self._encoding.categorical, self._issues, None, search,
                        # what is learnt depends on no clock
                        Hours(math.inf, 1), 1, folder,
                    )
                )  # fmt: skip
                # as the stages read it: the last digits of trees are those of a file
                model = load_lift(folder)
            # what only learning needs, and no pickle holds, goes
            without: Any = None
            prepared = replace(learnt.prepared, data=without)
            self._learnt[label] = learnt._replace(prepared=prepared, model=model)
        return self._learnt[label]

    # --- lifts ---

    def lift(
        self,
        X: Any = None,
        *,
        cluster: Any = None,
        voter_id: Any = None,
        policy: PolicyVerdict | None = None,
        level: float = 0.95,
    ) -> Any:
        """Lift of every arm for every voter.

        Args:
            X: Voters, with the columns of `fit`. None for the voters of the test, whose
                lifts come from folds that did not see them.
            cluster: Clusters of these voters: whoever shares one with a voter of the
                test gets a lift from folds that did not see it. None for new voters.
            voter_id: See `fit`.
            policy: A verdict: where its champion is one split, the lifts are those of
                the two groups. None for personal lifts.
            level: Of the intervals.

        Returns:
            A frame of the kind of X (pandas without X), a row for each voter and arm:
            voter_id, message_id, channel, lift, se, low, high, in outcome units, and
            model_id, the digest of what the lifts are of.

        Raises:
            ValueError: If columns differ from those of `fit`, or the verdict is on
                another model.
            NotFittedError: Before `fit`.
        """
        check_is_fitted(self, "arms_")
        if policy is not None and policy.model_id != self.model_id_:
            raise ValueError(
                "policy: expected a verdict of this model's `evaluate` "
                f"({self.model_id_}), got one on {policy.judged_model}"
            )
        split = None if policy is None else policy.split
        model_id = self.model_id_ if policy is None else policy.lifts_id
        model: FittedLift = self._learnt[ALL].model if split is None else split
        if X is None:
            if cluster is not None or voter_id is not None:
                raise ValueError(
                    "X: expected voters with cluster or voter_id, got none; without X "
                    "the lifts are those of the tested"
                )
            lifts = self._lifts(
                model, self._test.X, self._test.unit_id, self._test.voter_id, level
            )
            return _with_model_id(lifts, model_id)
        features = as_fitted(
            features_of(X, list(self._encoding.names)), self._encoding.levels
        )
        self._warn_of_levels(features)
        ids = voter_ids(X, voter_id, len(features))
        unit = None if cluster is None else names_of(cluster, "cluster", len(features))
        lifts = self._lifts(model, self._encoding.transform(features), unit, ids, level)
        return like(_with_model_id(lifts, model_id), X)

    def _lifts(
        self,
        model: FittedLift,
        matrix: Floats32,
        unit: Objects | None,
        ids: Objects,
        level: float,
    ) -> pd.DataFrame:
        predicted, arms = model.predict(matrix, unit), self.arms_
        lift = model.nuisances.option_values(predicted.lift, arms)
        error = np.abs(model.nuisances.option_values(predicted.se, arms))
        columns = {
            "message_id": [arm.message_id for arm in arms],
            "channel": [arm.channel for arm in arms],
        }
        return long_lifts(ids, columns, lift, error, level)

    def _warn_of_levels(self, features: pd.DataFrame) -> None:
        """Say which values nobody in the test had: they are read as missing."""
        for name, levels in self._encoding.levels.items():
            text = features[name].dropna().astype(str)
            n = int((~text.isin(levels)).sum())
            if n:
                warnings.warn(
                    f"X: {n:,} voters have a value of {name!r} that no voter of the "
                    "test had; it is read as missing",
                    AssumptionWarning,
                    stacklevel=3,
                )

    # --- judging ---

    def evaluate(
        self,
        cost: Any,
        *,
        budget: float | None = None,
        spend_per_voter: float | None = None,
        allowed: Any = None,
        segment: str | Sequence[str] = (),
        confidence: float = 0.5,
        attempt: int = 1,
        worthwhile_gain: float | None = None,
    ) -> PolicyVerdict:
        """Whether personalising pays, on halves of the voters that no model saw.

        Args:
            cost: USD of a contact: one price, or a mapping or series by message, by
                channel, or by (message, channel).
            budget: USD for as many voters as the test has.
            spend_per_voter: The same per voter; one of both.
            allowed: Who may get which arm, shape (n, A) in the order of `arms_`; None
                for everybody.
            segment: A column of X, or up to three: what each group's best message would
                do is judged too.
            confidence: Certainty at which a lift is valued; .5 is its mean.
            attempt: How often this gate was asked before, and once more: each attempt
                has to be surer.
            worthwhile_gain: Smallest gain per voter over the best untargeted policy
                that is worth having, outcome units.

        Raises:
            ValueError: If an argument is not as expected.
            NotFittedError: Before `fit`.
        """
        check_is_fitted(self, "arms_")
        test = self._test
        attempt = whole_number(attempt, "attempt", 1)
        confidence = confidence_of(confidence)
        if worthwhile_gain is not None:
            worthwhile_gain = number_of(
                worthwhile_gain, "worthwhile_gain", "outcome units above 0",
                lambda gain: gain > 0,
            )  # fmt: skip
        segment = [segment] if isinstance(segment, str) else list(segment)
        strange = [name for name in segment if name not in self._features]
        if strange or len(set(segment)) < len(segment) or len(segment) > 3:
            raise ValueError(
                f"segment: expected at most 3 columns of X "
                f"({', '.join(self._features.columns)}), each once, got "
                f"{', '.join(map(str, segment))}"
            )
        groups = segments(self._features, segment).to_numpy(dtype=object)
        market = Market(
            costs_of(cost, test.arms),
            self._allowed(allowed),
            _spend(budget, spend_per_voter, len(test.Y)),
            VoterFacts(groups if segment else None),
            value=partial(campaign_value, confidence=confidence, block=bool(segment)),
        )
        parts = {label: self._part(label) for label in HALVES}
        halves = judge_halves(
            test, market, categorical=self._encoding.categorical,
            issue_of=self._issues, seed=self.seed_,
            settings=lambda _, label: parts[label].tuned.settings,
            models={label: part.model for label, part in parts.items()},
        )  # fmt: skip
        judged = evaluate(
            test, market, halves, segment=groups, attempt=attempt,
            worthwhile_gain=worthwhile_gain,
        )  # fmt: skip
        learnt = self._learnt[ALL]
        judged.details["messages"] = _message_rows(test, learnt, self._issues)
        policies = chosen_policies(learnt.prepared, test, market)
        champion = judged.verdict.champion
        split = self._split(market) if champion == ONE_COVARIATE else None
        judged.details["split"] = split and split.question(self._encoding)
        return PolicyVerdict(
            judged, policies[champion], split, self._point, self.outcome, self.notes_,
            self.model_id_,
        )  # fmt: skip

    def _split(self, market: Market) -> CellLift:
        """The best single split of all the tested, as the stage `train` chooses it."""
        learnt, test = self._learnt[ALL], self._test
        split = one_covariate(
            learnt.prepared, self._encoding.categorical, test.arms, market.allowed,
            market.cost, spend=market.spend,
        )  # fmt: skip
        spread = variance_between(learnt.model, test.X, test.unit_id)
        return with_spread(split, test.X, spread)

    def _allowed(self, given: Any) -> Bools:
        """Who of the tested may get which arm, shape (n, A)."""
        shape = (len(self._test.Y), len(self._test.arms))
        if given is None:
            return np.ones(shape, dtype=bool)
        allowed = np.asarray(given)
        # columns of a frame have names, which may stand in another order
        if (
            allowed.shape != shape
            or allowed.dtype != np.bool_
            or hasattr(given, "columns")
        ):
            raise ValueError(
                f"allowed: expected true or false, an array of shape {shape}, columns "
                + ", ".join(f"{a.message_id} by {a.channel}" for a in self._test.arms)
                + f", got {type(given).__name__}, {allowed.dtype} of shape "
                f"{allowed.shape}"
            )
        return allowed

    def _repr_html_(self) -> str:
        """The average lifts of a fitted model, and what was assumed."""
        if not hasattr(self, "arms_"):
            return joined([paragraph(f"{self!r}, not fitted")])
        rows = [
            (row["message_id"], f"{row['n_sent']:,}",
             f"{row['lift'] / self._point:+.2f}",
             f"{row['low'] / self._point:+.2f} to {row['high'] / self._point:+.2f}")
            for row in self.average_lift_.to_dict("records")
        ]  # fmt: skip
        return joined(
            [
                paragraph(
                    f"{self!r}, fitted on {len(self._test.Y):,} voters with "
                    f"{self.n_features_in_} features"
                ),
                html_table(
                    f"Average lift of {self.outcome} in points",
                    ("Message", "Sent", "Lift", "95 % interval"), rows,
                ),
                *map(paragraph, self.notes_),
            ]
        )  # fmt: skip


def _with_model_id(lifts: pd.DataFrame, model_id: str) -> pd.DataFrame:
    """Lifts with the digest of what they are of."""
    return lifts.assign(model_id=pd.Series(model_id, index=lifts.index, dtype="str"))


def _issues(issue_of: Any, messages: Sequence[str]) -> dict[str, str]:
    """Issue of every message.

    Raises:
        ValueError: If a message has none, or issues are no mapping.
    """
    if issue_of is None:
        return {message: message for message in messages}
    issues = mapping_of(issue_of, "issue_of")
    if issues is None:
        raise ValueError(
            f"issue_of: expected a mapping from message to issue, got {issue_of!r}"
        )
    missing = [message for message in messages if message not in issues]
    if missing:
        raise ValueError(
            f"issue_of: expected the issue of every message, got none of {missing[0]!r}"
        )
    return {message: name_text(issues[message]) for message in messages}


def _with_range(
    test: MessageTest, outcome_range: tuple[float, float] | None
) -> MessageTest:
    if outcome_range is None:
        return test
    Y = test.Y[test.observed]
    try:
        low, high = outcome_range
        holds = bool(low < high and Y.min() >= low and Y.max() <= high)
    except (TypeError, ValueError):
        holds = False
    if not holds:
        raise ValueError(
            f"outcome_range: expected (low, high) that holds every y, got "
            f"{outcome_range!r} with y from {Y.min():g} to {Y.max():g}"
        )
    return replace(test, outcome_range=(float(low), float(high)))


def _spend(budget: Any, spend_per_voter: Any, n: int) -> float:
    """USD per voter.

    Raises:
        ValueError: If not one of both is given, or it is not above 0.
    """
    if (budget is None) == (spend_per_voter is None):
        raise ValueError(
            "expected exactly one of budget and spend_per_voter, above 0, got "
            f"budget={budget!r}, spend_per_voter={spend_per_voter!r}"
        )
    if budget is None:
        return usd_of(spend_per_voter, "spend_per_voter")
    return usd_of(budget, "budget") / n


def _message_rows(
    test: MessageTest, learnt: Learnt, issues: Mapping[str, str]
) -> list[dict[str, Any]]:
    effects = learnt.prepared.nuisances.effects
    return message_rows(test, effects, issues, dict.fromkeys(test.messages, "none"))

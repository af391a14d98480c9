"""Cross-fitted policy value: model and baselines at equal spend on held-out halves.

A policy is tuned, fitted and chosen on one half of the units and valued on the other
half, and vice versa, so every voter counts once and values no model that was fitted on
that voter. Every policy spends the same money along its own spend path; what it does at
the campaign's own spend obeys all limits of the plan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np

from hustings.features.arrays import Bools, Floats
from hustings.features.message import MessageFeatures
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import realised_lift
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.average_effects import (
    AverageEffects,
    Nuisances,
    judging_weight,
)
from hustings.training.learners.baselines import CellLift, one_covariate
from hustings.training.learners.gbm import Prepared, prepare
from hustings.training.learners.lift_model import FittedLift
from hustings.training.learners.registry import fit_lift
from hustings.training.policy_value.chosen_policies import (
    chosen_policies,
    untargeted_policies,
)
from hustings.training.policy_value.policies import (
    BEST_MIX,
    NOBODY,
    ONE_COVARIATE,
    PERSONALISED,
    SINGLE_BEST,
    Policy,
)
from hustings.training.policy_value.small_arms import SmallArmNoise, small_arm_noise
from hustings.training.policy_value.spending import (
    Applied,
    Choice,
    Market,
    Spending,
    applied,
)

Settings = Callable[[Prepared, str], Mapping[str, Any]]
"""Training half and its name → settings of the learner (tuned, or the defaults)."""

HALVES = ("half0", "half1")
"""Names of the two training halves; each is judged on the other's units."""
UNTARGETED = (NOBODY, SINGLE_BEST, BEST_MIX)
BASELINES = (*UNTARGETED, ONE_COVARIATE)


class Contender(NamedTuple):
    """A further policy to judge, with its lifts.

    Attributes:
        policy: What it leaves of the options.
        lift: Of the judged voters, shape (n_held, M).
        se: Standard errors, shape (n_held, M).
        nuisances: What channels do to these lifts; None for what the half measured.
    """

    policy: Policy
    lift: Floats
    se: Floats
    nuisances: Nuisances | None = None


Comparator = Callable[[Prepared, Bools, MessageTest], Contender]
"""Training half, who of the whole test is judged, the judged → a policy that is shown
next to the baselines; no part of the gate but where it is a partner's."""


@dataclass(frozen=True)
class HeldOutHalf:
    """One half of the voters, judged by what was learnt on the other.

    Attributes:
        held: Who is judged, shape (n_voters,) of the whole test.
        market: Of the judged.
        scores: Γ of the judged, by arm, shape (n_held, 1 + A).
        message_scores: Γ by message, shape (n_held, 1 + M).
        noise: Of arms with few people among the judged.
        lift: Personalised lift of the judged, shape (n_held, M).
        policies: Spending at every budget, by name.
        choices: What is done at the campaign's spend, under all limits, by name.
        chosen: What was chosen on the training half, by name.
        nuisances: Nuisances and average effects of the training half.
        training_values: Value of every baseline within the training half.
        params: Settings of the learner.
    """

    held: Bools
    market: Market
    scores: Floats
    message_scores: Floats
    noise: SmallArmNoise
    lift: Floats
    policies: Mapping[str, Spending]
    choices: Mapping[str, Choice]
    chosen: Mapping[str, Policy]
    nuisances: Nuisances
    training_values: Mapping[str, float]
    params: Mapping[str, Any]

    @property
    def effects(self) -> AverageEffects:
        """Average effects on the training half."""
        return self.nuisances.effects

    def realised(self, policy: str, spend: float) -> Floats:
        """Lift realised by every judged voter at a spend per voter, by budget alone.

        Args:
            policy: Name.
            spend: USD per voter.
        """
        row, path = self.policies[policy]
        allowed, total = self.market.allowed, spend * len(row)
        return realised_lift(self.scores, path, row, allowed, total)

    def with_policy(self, name: str, one: Applied) -> Self:
        """The half with one policy more."""
        return replace(
            self,
            policies={**self.policies, name: one.spending},
            choices={**self.choices, name: one.choice},
            chosen={**self.chosen, name: one.policy},
        )


def training_half(test: MessageTest, label: str, *, seed: int) -> Bools:
    """Whether each voter is in the training half, shape (n,).

    Args:
        test: The experiment.
        label: One of `HALVES`, or "all".
        seed: Of the campaign; units never move between halves.
    """
    if label == "all":
        return np.ones(len(test.Y), dtype=bool)
    half = unit_folds(test.unit_id, len(HALVES), salt=f"halves-{seed}")
    trained: Bools = half != HALVES.index(label)
    return trained


def judge_halves(
    test: MessageTest,
    market: Market,
    *,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    settings: Settings,
    seed: int,
    texts: MessageFeatures | None = None,
    band: tuple[float, float] | None = None,
    current_practice: Mapping[str, Comparator] = MappingProxyType({}),
    models: Mapping[str, FittedLift] = MappingProxyType({}),
) -> list[HeldOutHalf]:
    """Fit and choose on each half, judge on the other.

    Args:
        test: The experiment, arms as sent, n voters.
        market: Price, permission, limits and spend of the n voters.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        settings: Called once for each training half; see `learners.registry.fit_lift`.
        seed: Halves, folds and learner.
        texts: What the messages say, for learners that read it.
        band: Support of the persuadable; None for the middle third.
        current_practice: Other policies to show, by name.
        models: What was learnt before of a half with its settings, by the half's name;
            the others are fitted.
    """
    halves = []
    for label in HALVES:
        held = ~training_half(test, label, seed=seed)
        training_test, price = test.take(~held), market.take(~held)
        model = models.get(label)
        prepared = prepare(
            training_test, categorical, issue_of, seed=seed, texts=texts,
            nuisances=None if model is None else model.nuisances,
        )  # fmt: skip
        params = settings(prepared, label)
        split = _one_covariate(prepared, training_test, price, categorical)
        if model is None:
            model = fit_lift(prepared, params, seed=seed)
        judged, judged_market = test.take(held), market.take(held)
        # nobody of the judged was trained on
        lifts = model.predict(judged.X)
        contenders = {
            name: comparator(prepared, held, judged)
            for name, comparator in current_practice.items()
        }
        cell = split.cells(judged.X)
        for name, policy in chosen_policies(
            prepared, training_test, price, band
        ).items():
            by_split = name == ONE_COVARIATE
            contenders.setdefault(name, Contender(
                policy, split.lift[cell] if by_split else lifts.lift,
                split.se[cell] if by_split else lifts.se,
            ))  # fmt: skip
        half = HeldOutHalf(
            held=held,
            market=judged_market,
            scores=model.nuisances.policy_scores(judged),
            message_scores=model.nuisances.scores(judged.by_message()),
            noise=small_arm_noise(
                judged, model.nuisances.response(judged), judging_weight(judged)
            ),
            lift=lifts.lift,
            policies={},
            choices={},
            chosen={},
            nuisances=prepared.nuisances,
            training_values=_training_values(
                training_test, price, prepared, categorical, seed
            ),
            params=params,
        )
        for name in (*BASELINES, PERSONALISED, *contenders):
            if name not in half.policies:
                half = half.with_policy(
                    name,
                    contended(
                        contenders[name], model.nuisances, judged, judged_market, seed
                    ),
                )
        halves.append(half)
    return halves


def contended(
    contender: Contender,
    nuisances: Nuisances,
    test: MessageTest,
    market: Market,
    seed: int,
) -> Applied:
    """A contender's policy applied to voters.

    Args:
        contender: Policy and lifts.
        nuisances: What channels do to a lift, where the contender does not know.
        test: The voters, arms as sent.
        market: Their prices, permissions and limits.
        seed: Order among equals.
    """
    valued = market.value(contender.lift, contender.se, market.facts.segment)
    closed = (
        valued.closed[:, test.message_of_arm[1:] - 1] if valued.closed.any() else None
    )
    values = (contender.nuisances or nuisances).option_values(valued.worth, test.arms)
    rng = None if contender.policy.is_flat else np.random.default_rng(seed)
    return applied(contender.policy, values, closed, test, market, rng)


def _one_covariate(
    prepared: Prepared, test: MessageTest, market: Market, categorical: Sequence[int]
) -> CellLift:
    return one_covariate(
        prepared, categorical, test.arms, market.allowed, market.cost,
        spend=market.spend,
    )  # fmt: skip


def _training_values(
    test: MessageTest,
    market: Market,
    prepared: Prepared,
    categorical: Sequence[int],
    seed: int,
) -> dict[str, float]:
    """Value of every baseline within the training half, under all limits.

    The split is chosen on one part of the half and valued on the other, or it would
    be favoured for fitting the noise.
    """
    part = unit_folds(test.unit_id, 2, salt=f"baselines-{seed}")
    scores = prepared.nuisances.policy_scores(test)
    total = dict.fromkeys(BASELINES, 0.0)
    for k in (0, 1):
        chosen, valued = part != k, part == k
        prepared_fold = replace(
            prepared, test=prepared.test.take(chosen), scores=prepared.scores[chosen]
        )
        split = _one_covariate(
            prepared_fold, test.take(chosen), market.take(chosen), categorical
        )
        part_test, part_market = test.take(valued), market.take(valued)
        policies = baseline_policies(prepared.nuisances, part_test, part_market, split)
        for name, one in policies.items():
            total[name] += one.choice.realised(scores[valued]).sum()
    return {name: value / len(part) for name, value in total.items()}


def baseline_policies(
    nuisances: Nuisances, test: MessageTest, market: Market, split: CellLift
) -> dict[str, Applied]:
    """The four baselines for some voters.

    Args:
        nuisances: Average effects.
        test: The voters, arms as sent.
        market: Price and permission.
        split: One covariate.
    """
    policies = untargeted_policies(nuisances, test, market)
    cell = split.cells(test.X)
    by_split = Contender(Policy(ONE_COVARIATE), split.lift[cell], split.se[cell])
    contenders = {
        name: Contender(policy, by_split.lift, by_split.se)
        for name, policy in policies.items()
    } | {ONE_COVARIATE: by_split}
    return {
        name: contended(contenders[name], nuisances, test, market, 0)
        for name in BASELINES
    }

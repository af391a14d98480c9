"""Cross-fitted policy value: model and baselines at equal spend on held-out halves.

A policy is tuned and fitted on one half of the units and valued on the other half, and
vice versa, so every voter counts once and values no model that was fitted on that
voter. Every policy spends the same money along its own spend path.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.message import MessageFeatures
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import realised_lift
from hustings.training.estimators.spend_path import (
    SpendPath,
    pooled_rows,
    whole_budget_path,
)
from hustings.training.estimators.split import unit_folds
from hustings.training.learners.baselines import CellLift, one_covariate, untargeted
from hustings.training.learners.gbm import Prepared, prepare
from hustings.training.learners.lift_model import LiftModel
from hustings.training.learners.registry import fit_lift

Settings = Callable[[Prepared, str], Mapping[str, Any]]
"""Training half and its name → settings of the learner (tuned, or the defaults)."""

HALVES = ("half0", "half1")
"""Names of the two training halves; each is judged on the other's units."""
UNTARGETED = ("nobody", "single_best", "best_mix")
BASELINES = (*UNTARGETED, "one_covariate")


class Policy(NamedTuple):
    """Who decides together, how their money is spent, and what the lifts cost.

    Attributes:
        row: Row of the path of every voter, shape (n,).
        path: Whole-budget path over rows.
    """

    row: Ints
    path: SpendPath


@dataclass(frozen=True)
class Market:
    """What may be sent at what price.

    Attributes:
        cost: USD of every arm, shape (A,).
        allowed: Who may get which arm, shape (n, A).
        spend: USD per voter.
    """

    cost: Floats
    allowed: Bools
    spend: float

    def take(self, rows: Bools) -> Self:
        """The market of some voters."""
        return replace(self, allowed=self.allowed[rows])


Comparator = Callable[[Prepared, Bools, MessageTest, Market], Policy]
"""Training half, who of the whole test is judged, the judged and their market → a
policy that is shown beside the baselines and is never part of the gate."""


@dataclass(frozen=True)
class Half:
    """One half of the voters, judged by what was learnt on the other.

    Attributes:
        held: Who is judged, shape (n_voters,) of the whole test.
        market: Of the judged.
        scores: Γ of the judged, by arm, shape (n_held, 1 + A).
        message_scores: Γ by message, shape (n_held, 1 + M).
        lift: Personalised lift of the judged, shape (n_held, M).
        policies: By name.
        training_values: Value of every baseline within the training half.
        params: Settings of the learner.
    """

    held: Bools
    market: Market
    scores: Floats
    message_scores: Floats
    lift: Floats
    policies: Mapping[str, Policy]
    training_values: Mapping[str, float]
    params: Mapping[str, Any]

    def realised(
        self, policy: str, spend: float, scores: Floats | None = None
    ) -> Floats:
        """Lift realised by every judged voter at a spend per voter.

        Args:
            policy: Name.
            spend: USD per voter.
            scores: Other scores than Γ to judge by, shape (n_held, 1 + A).
        """
        row, path = self.policies[policy]
        by = self.scores if scores is None else scores
        return realised_lift(by, path, row, self.market.allowed, spend * len(row))


def spend_along(
    values: Floats, market: Market, row: Ints, rng: np.random.Generator | None = None
) -> Policy:
    """A policy from predicted lift: rows share a decision, money goes where it pays.

    Args:
        values: Lift of every arm, shape (n, A).
        market: Price and permission.
        row: Who decides together, shape (n,).
        rng: Order among equals; None leaves them as they come.
    """
    value, cost, allowed = pooled_rows(values, market.cost, market.allowed, row)
    ties = None if rng is None else rng.random(len(value))
    return Policy(row, whole_budget_path(value, cost, allowed=allowed, tie_break=ties))


def permission_rows(allowed: Bools) -> Ints:
    """Voters who may get the same arms share a row, shape (n,)."""
    packed = np.packbits(allowed, axis=1)
    return np.asarray(
        pd.DataFrame(packed).groupby(list(range(packed.shape[1]))).ngroup()
    )


def together(*codes: npt.NDArray[np.integer[Any]]) -> Ints:
    """One code for every combination of codes, shape (n,)."""
    frame = pd.DataFrame(dict(enumerate(codes)))
    return np.asarray(frame.groupby(list(frame.columns)).ngroup())


def baseline_policies(
    test: MessageTest, market: Market, flat: CellLift, split: CellLift
) -> dict[str, Policy]:
    """The four baselines for some voters.

    Args:
        test: The voters, arms as sent.
        market: Price and permission.
        flat: Average effects.
        split: One covariate.
    """
    permission = permission_rows(market.allowed)
    values = flat.ground.option_values(np.tile(flat.lift, (len(test.X), 1)), test.arms)
    cell = split.cells(test.X)
    split_values = split.ground.option_values(split.lift[cell], test.arms)
    nothing = replace(market, allowed=np.zeros_like(market.allowed))
    best_alone = replace(market, allowed=only_best(values, market, permission))
    return {
        "nobody": spend_along(values, nothing, permission),
        "single_best": spend_along(values, best_alone, permission),
        "best_mix": spend_along(values, market, permission),
        "one_covariate": spend_along(split_values, market, together(permission, cell)),
    }


def only_best(values: Floats, market: Market, permission: Ints) -> Bools:
    """Permission for the one arm that promises most for the money.

    Args:
        values: Lift of every arm, shape (n, A).
        market: Price, permission and spend.
        permission: From `permission_rows`, shape (n,).
    """
    value, cost, allowed = pooled_rows(values, market.cost, market.allowed, permission)
    promised = np.empty(len(market.cost))
    for a in range(len(market.cost)):
        path = whole_budget_path(value[:, [a]], cost[:, [a]], allowed=allowed[:, [a]])
        promised[a] = path.value_at(market.spend * len(values))
    allowed_best = np.zeros_like(market.allowed)
    best = int(promised.argmax())
    allowed_best[:, best] = market.allowed[:, best]
    return allowed_best


def deciding_rows(test: MessageTest) -> Ints:
    """Households decide together where the campaign drew them so; else each voter."""
    if len(np.unique(test.drawn)) == len(test.drawn):
        return np.arange(len(test.drawn))
    return np.unique(test.household, return_inverse=True)[1]


def training_half(test: MessageTest, label: str, *, seed: int) -> Bools:
    """Who is trained on, shape (n,).

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
    comparators: Mapping[str, Comparator] = MappingProxyType({}),
) -> list[Half]:
    """Fit on each half, judge on the other.

    Args:
        test: The experiment, arms as sent, n voters.
        market: Price, permission and spend of the n voters.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        settings: Called once for each training half; see `learners.registry.fit_lift`.
        seed: Halves, folds and learner.
        texts: What the messages say, for learners that read it.
        comparators: Other policies to show, by name.
    """
    halves = []
    for label in HALVES:
        held = ~training_half(test, label, seed=seed)
        training_test, price = test.take(~held), market.take(~held)
        prepared = prepare(training_test, categorical, issue_of, seed=seed, texts=texts)
        params = settings(prepared, label)
        split = _one_covariate(prepared, training_test, price, categorical)
        judged = _judge_half(
            test.take(held),
            market.take(held),
            fit_lift(prepared, params, seed=seed),
            split,
            seed,
        )
        judged["policies"] |= {
            name: policy(prepared, held, test.take(held), market.take(held))
            for name, policy in comparators.items()
        }
        values = _training_values(training_test, price, prepared, categorical, seed)
        halves.append(Half(held=held, training_values=values, params=params, **judged))
    return halves


def _one_covariate(
    prepared: Prepared, test: MessageTest, market: Market, categorical: Sequence[int]
) -> CellLift:
    return one_covariate(
        prepared, categorical, test.arms, market.allowed, market.cost,
        spend=market.spend,
    )  # fmt: skip


def _judge_half(
    judged: MessageTest, market: Market, model: LiftModel, split: CellLift, seed: int
) -> dict[str, Any]:
    """What a half knows of its judged voters."""
    # nobody of the judged was trained on
    lift = model.predict(judged.X).lift
    policies = baseline_policies(judged, market, untargeted(model.ground), split)
    values = model.ground.option_values(lift, judged.arms)
    rng = np.random.default_rng(seed)
    policies["personalised"] = spend_along(values, market, deciding_rows(judged), rng)
    return {
        "market": market,
        "scores": model.ground.policy_scores(judged),
        "message_scores": model.ground.scores(judged.by_message()),
        "lift": lift,
        "policies": policies,
    }


def _training_values(
    test: MessageTest,
    market: Market,
    prepared: Prepared,
    categorical: Sequence[int],
    seed: int,
) -> dict[str, float]:
    """Value of every baseline within the training half.

    The split is chosen on one part of the half and valued on the other, or it would
    be favoured for fitting the noise.
    """
    part = unit_folds(test.unit_id, 2, salt=f"baselines-{seed}")
    scores = prepared.ground.policy_scores(test)
    total = dict.fromkeys(BASELINES, 0.0)
    for k in (0, 1):
        chosen, valued = part != k, part == k
        prepared_fold = replace(
            prepared, test=prepared.test.take(chosen), scores=prepared.scores[chosen]
        )
        split = _one_covariate(
            prepared_fold, test.take(chosen), market.take(chosen), categorical
        )
        policies = baseline_policies(
            test.take(valued), market.take(valued), untargeted(prepared.ground), split
        )
        for name, (row, path) in policies.items():
            budget = market.spend * len(row)
            allowed = market.allowed[valued]
            total[name] += realised_lift(
                scores[valued], path, row, allowed, budget
            ).sum()
    return {name: value / len(part) for name, value in total.items()}

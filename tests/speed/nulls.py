"""Worlds in which personalising is worth nothing, drawn again and again.

Real people, outcomes and designs with the labels dealt again within their blocks; then
each arm's average effect is put back, alike for all, so that sending pays and choosing
person by person does not.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.experiments.declaration import data_dir
from hustings.features.arrays import Floats
from hustings.features.training_set import Arm, MessageTest
from hustings.training.estimators.metrics import permute_within_blocks
from hustings.training.policy_value.gate import blocked_by
from hustings.training.policy_value.held_out_halves import judge_halves
from hustings.training.policy_value.judged_policies import JudgedPolicies
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import decide, trust

NEW_HAVEN = data_dir() / "newhaven1998/gerbergreen_findit.parquet"
ISSUES = data_dir() / "issue_messages2025/responses.parquet"
APPEALS = {"1": "civic_duty", "2": "solidarity", "3": "close_election"}
NEW_HAVEN_COSTS = {"canvass": 5.0, "phone": 2.0, "mail": 1.0}
"""USD a contact: assumed, nobody published them."""
SMALL_LEARNER: dict[str, Any] = {
    "n_trees": 15, "learning_rate": 0.2, "num_leaves": 4, "min_child_samples": 50,
    "lambda_l2": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A message test, its market and what its models need to know.

    Attributes:
        test: The experiment, arms as sent.
        market: Price, permission and spend.
        issue_of: Issue of every message.
        categorical: Columns of X that hold category codes.
    """

    test: MessageTest
    market: Market
    issue_of: dict[str, str]
    categorical: tuple[int, ...] = ()


def new_haven() -> World:
    """Three appeals by canvass, phone or mail in one-person households, 1998.

    Only people with one kind of contact or none; how often each came is the design.
    """
    people = pd.read_parquet(NEW_HAVEN).astype(float)
    kinds = pd.DataFrame(
        {
            "canvass": people["persngrp"] > 0,
            "phone": people["phnscrpt"] > 0,
            "mail": people["mailings"] > 0,
        }
    )
    at_most_one = kinds.sum(axis=1) <= 1
    people, kinds = people[at_most_one], kinds[at_most_one]
    appeal = people["appeal"].astype(int).astype(str).map(APPEALS)
    arms = [Arm(a, c) for a in APPEALS.values() for c in kinds]
    arm = np.zeros(len(people), dtype=np.int64)
    for k, (message, channel) in enumerate(arms, start=1):
        arm[(kinds[channel] & (appeal == message)).to_numpy()] = k
    X = people[["age", "majorpty", "vote96.1", "vote96.0"]].to_numpy(np.float32)
    test = _by_person("new_haven", arms, X, arm, people["voted98"].to_numpy())
    cost = np.array([NEW_HAVEN_COSTS[a.channel] for a in arms])
    return World(
        test, _market(test, cost, 1.0), dict.fromkeys(test.messages, "turnout")
    )


def issues() -> list[World]:
    """Ten policy issues with 49 messages each; a shown message costs 1."""
    people = pd.read_parquet(ISSUES)
    # the messages of one model share a weight, as in the shipped campaign
    drawn = people.groupby(["issue", "message_id"])["model"].agg(["first", "size"])
    weight = drawn.groupby("first")["size"].transform("mean")
    found = []
    for issue, mine in people.groupby("issue"):
        arms = [Arm(str(m), "survey") for m in sorted(set(mine["message_id"]) - {0})]
        ids = [0, *(int(a.message_id) for a in arms)]
        arm = mine["message_id"].map({m: k for k, m in enumerate(ids)}).to_numpy()
        share = np.array([weight.get((issue, m), np.nan) for m in ids])
        share[0] = (arm == 0).sum()
        share[1:] *= (arm > 0).sum() / share[1:].sum()
        X = mine[["party", "ideology", "knowledge"]].to_numpy(np.float32)
        Y = mine["dv_response_mean"].to_numpy(np.float64)
        test = _by_person(str(issue), arms, X, arm, Y, share / share.sum())
        market = _market(test, np.ones(len(arms)), 0.5)
        found.append(World(test, market, dict.fromkeys(test.messages, str(issue))))
    return found


def simulated(rng: np.random.Generator, n: int = 3_000) -> World:
    """Two messages that do the same for everybody, in households of two."""
    household = np.arange(n) // 2
    X = rng.normal(size=(n, 4)).astype(np.float32)
    arm = rng.choice(3, size=n // 2, p=[0.4, 0.3, 0.3])[household]
    noise = rng.normal(size=n) + 0.5 * rng.normal(size=n // 2)[household]
    Y = X[:, 0] + np.array([0.0, 0.3, 0.2])[arm] + noise
    arms = [Arm("m0", "mail"), Arm("m1", "mail")]
    test = _by_person("simulated", arms, X, arm, Y, np.array([0.4, 0.3, 0.3]))
    unit_id = np.array([f"H{h}" for h in household], dtype=object)
    test = replace(
        test, unit=household, unit_id=unit_id, household=household, drawn=household
    )
    return World(
        test, _market(test, np.ones(2), 0.5), dict.fromkeys(test.messages, "i")
    )


def _by_person(
    name: str,
    arms: list[Arm],
    X: npt.NDArray[np.float32],
    arm: npt.NDArray[np.int64],
    Y: Floats,
    share: Floats | None = None,
) -> MessageTest:
    n = len(Y)
    if share is None:
        share = np.bincount(arm, minlength=1 + len(arms)) / n
    code = np.arange(n)
    ids = np.array([f"V{i}" for i in range(n)], dtype=object)
    return MessageTest(
        experiment_id=name, arms=tuple(arms), voter_id=ids, unit=code, unit_id=ids,
        household=code, drawn=code, block=np.zeros(n, dtype=np.int64), X=X, arm=arm,
        Y=Y.astype(np.float64), propensities=np.tile(share, (n, 1)),
    )  # fmt: skip


def _market(test: MessageTest, cost: Floats, spend: float) -> Market:
    return Market(cost, np.ones((len(test.Y), len(cost)), dtype=bool), spend)


def null_twin(
    world: World, rng: np.random.Generator, *, keep_averages: bool = True
) -> World:
    """Labels dealt again; with the average effect of every arm put back, alike for all.

    Args:
        world: Real people, outcomes and design.
        rng: Source of randomness.
        keep_averages: Without, nothing has any effect.
    """
    test = world.test
    arm = permute_within_blocks(test.arm, test.block, test.drawn, rng)
    Y = test.Y
    if keep_averages:
        mean = pd.Series(test.Y).groupby(test.arm).mean()
        effect = (mean - mean[0]).reindex(range(1 + len(test.arms)), fill_value=0.0)
        Y = test.Y - effect.to_numpy()[test.arm] + effect.to_numpy()[arm]
    return replace(world, test=replace(test, arm=arm, Y=Y))


def verdict_of(world: World, *, seed: int, attempt: int = 1) -> str:
    """The gate's verdict on a world, with the small learner."""
    halves = judge_halves(
        world.test, world.market, categorical=world.categorical,
        issue_of=world.issue_of, settings=lambda *_: SMALL_LEARNER, seed=seed,
    )  # fmt: skip
    judged = JudgedPolicies.of(world.test, world.market, halves)
    return decide(judged, blocked_by(trust(world.test)), attempt=attempt).verdict

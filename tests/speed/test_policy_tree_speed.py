"""How long the policy tree takes on 200,000 voters, 20 columns, 12 messages."""

import time

import numpy as np
import pytest

from hustings.training.policy_value.policy_tree import Cuts, grow_tree

pytestmark = pytest.mark.speed


def test_two_hundred_thousand_voters_are_parted_in_half_a_minute() -> None:
    """A trial with 50,000 beside it: the time grows no faster than the voters."""
    seconds = {}
    for n in (50_000, 200_000):
        rng = np.random.default_rng(1)
        X = rng.integers(0, 17, size=(n, 20)).astype(np.float64)
        reward = np.column_stack([np.zeros(n), 5 * rng.normal(size=(n, 12))])
        inside = (X[:, 2] < 8) & (X[:, 5] >= 4) & (X[:, 9] < 12)
        reward[:, 3] += np.where(inside, 2.0, -1.0)
        cuts = [Cuts(tuple(float(c) for c in range(1, 17)), equal=False)] * 20
        for depth in (2, 3):
            started = time.perf_counter()
            tree = grow_tree(reward, X, cuts, depth=depth, least=n // 20)
            seconds[n, depth] = time.perf_counter() - started
            print(f"{n:,} voters, {depth} levels: {seconds[n, depth]:.1f} s, "  # noqa: T201
                  f"{len(tree.groups)} groups")  # fmt: skip
    # at three levels the planted group is found with all its conditions
    (group,) = [g for g in tree.groups if g.option == 3]
    assert {(c.column, c.value) for c in group.conditions} == {(2, 8), (5, 4), (9, 12)}
    assert seconds[200_000, 3] < 30
    assert seconds[200_000, 3] < 8 * seconds[50_000, 3]

"""In blocks: the same plan as all rows at once, for one block's memory."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hustings.training.estimators.blocked_path import Block, options_within
from hustings.training.estimators.spend_path import whole_budget_path

COST = np.array([0.0, 0.5, 0.7, 1.5, 2.0])
N, SIZE = 3_000, 700


def table(*, flat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    value = rng.normal(0.4, 1, (N, len(COST)))
    if flat:
        value = np.broadcast_to(np.array([0.0, 1.0, 1.5, 2.0, 2.1]), value.shape)
    return value, rng.random(N), rng.random(value.shape) < 0.8


def in_blocks(*, flat: bool) -> Callable[[], Iterator[Block]]:
    columns = table(flat=flat)
    starts = range(0, N, SIZE)
    return lambda: (Block(*(c[s : s + SIZE] for c in columns)) for s in starts)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("budget", [0.0, 0.4, 333.3, 1_000.0, 1e9])
def test_blocks_give_the_plan_of_all_rows_at_once(budget: float, *, flat: bool) -> None:
    value, ties, allowed = table(flat=flat)
    whole = whole_budget_path(value, COST, allowed=allowed, tie_break=ties)
    found = options_within(in_blocks(flat=flat), COST, budget)
    np.testing.assert_array_equal(found.option, whole.options_at(budget))
    assert found.bound == pytest.approx(whole.value_at(budget), rel=1e-12)
    assert found.value <= found.bound
    assert found.price == pytest.approx(whole.shadow_price(budget))


def test_the_budgets_between_are_optima_of_the_whole() -> None:
    value, ties, allowed = table(flat=False)
    whole = whole_budget_path(value, COST, allowed=allowed, tie_break=ties)
    found = options_within(in_blocks(flat=False), COST, 100.0)
    assert len(found.spends) > 100
    ours = [whole.value_at(float(spend)) for spend in found.spends]
    np.testing.assert_allclose(found.gains, ours, rtol=1e-12)

"""The whole-budget path is the optimum of the relaxed knapsack at every budget."""

from fractions import Fraction
from typing import NamedTuple

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from hustings.training.estimators.spend_path import (
    NOTHING,
    SpendPath,
    contacts_by_row,
    pooled_rows,
    whole_budget_path,
)


class Knapsack(NamedTuple):
    value: np.ndarray
    cost: np.ndarray
    allowed: np.ndarray
    ties: np.ndarray


@st.composite
def knapsacks(draw: st.DrawFn) -> Knapsack:
    """Few rows and options in eighths, so that ties, free and equal costs abound."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))

    def table(low: int, high: int) -> np.ndarray:
        eighths = draw(st_np.arrays(np.int64, shape, elements=st.integers(low, high)))
        return eighths / 8.0

    allowed = draw(st_np.arrays(np.bool_, shape))
    ties = draw(st_np.arrays(np.int64, shape[0], elements=st.integers(0, 3)))
    return Knapsack(table(-8, 32), table(0, 16), allowed, ties.astype(float))


def path_of(problem: Knapsack) -> SpendPath:
    return whole_budget_path(
        problem.value, problem.cost, allowed=problem.allowed, tie_break=problem.ties
    )


def bought(problem: Knapsack, path: SpendPath, budget: float) -> tuple[float, float]:
    """Value and cost of what a path does at a budget, from the problem's own tables."""
    rows = np.arange(len(problem.value))
    value = np.column_stack([problem.value, np.zeros(len(rows))])
    cost = np.column_stack([problem.cost, np.zeros(len(rows))])
    chosen = path.options_at(budget)
    total = np.array([value[rows, chosen].sum(), cost[rows, chosen].sum()])
    partial = path.partial_step(budget)
    if partial is not None:
        row, old, new, share = partial
        assert chosen[row] == old
        step = [value[row, new] - value[row, old], cost[row, new] - cost[row, old]]
        total += share * np.array(step)
    return float(total[0]), float(total[1])


def dual_optimum(problem: Knapsack, budget: Fraction) -> Fraction:
    """Exact optimum of the relaxation: the least Lagrangian bound over all prices.

    The bound is piecewise linear and convex in the price; its kinks lie where two
    options of a row are worth the same.
    """
    rows = [
        [(Fraction(0), Fraction(0))]
        + [(Fraction(v), Fraction(c)) for v, c, a in zip(*row, strict=True) if a]
        for row in zip(problem.value, problem.cost, problem.allowed, strict=True)
    ]
    prices = {Fraction(0)} | {
        (v - w) / (c - d)
        for row in rows for v, c in row for w, d in row if c > d and v > w
    }  # fmt: skip

    def bound(price: Fraction) -> Fraction:
        return price * budget + sum(max(v - price * c for v, c in row) for row in rows)

    return min(bound(price) for price in prices)


def highs_optimum(problem: Knapsack, budget: float) -> float:
    """The relaxation as a linear programme."""
    solver = highspy.Highs()
    solver.silent()
    # a variable per allowed option, a row per voter, and the budget as the last
    at = np.argwhere(problem.allowed)
    n_rows = len(problem.value)
    empty_i, empty_f = np.array([], dtype=np.int32), np.array([])
    for _ in range(n_rows):
        solver.addRow(-highspy.kHighsInf, 1.0, 0, empty_i, empty_f)
    solver.addRow(-highspy.kHighsInf, budget, 0, empty_i, empty_f)
    for row, option in at:
        solver.addCol(
            -float(problem.value[row, option]), 0.0, 1.0, 2,
            np.array([row, n_rows], dtype=np.int32),
            np.array([1.0, problem.cost[row, option]]),
        )  # fmt: skip
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return -float(solver.getInfo().objective_function_value)


@settings(max_examples=150)
@given(knapsacks(), st.integers(0, 80))
def test_the_path_is_the_exact_optimum_at_any_budget(problem, eighths) -> None:
    budget = eighths / 8
    value, cost = bought(problem, path_of(problem), budget)
    best = float(dual_optimum(problem, Fraction(budget)))
    assert value == pytest.approx(best, abs=1e-9)
    assert cost <= budget + 1e-9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_path_equals_the_linear_programme_of_highs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (60, 5)
    problem = Knapsack(
        rng.normal(0.5, 1, shape), rng.uniform(0, 2, shape), rng.random(shape) < 0.8,
        rng.random(shape[0]),
    )  # fmt: skip
    path = path_of(problem)
    for budget in (0.0, 1.7, 10.0, 25.0, 1000.0):
        value, cost = bought(problem, path, budget)
        assert value == pytest.approx(highs_optimum(problem, budget), abs=1e-9)
        assert path.value_at(budget) == pytest.approx(value, abs=1e-9)
        assert cost <= budget * (1 + 1e-9)


@given(knapsacks())
def test_slopes_never_rise_and_every_row_steps_up_its_own_ladder(problem) -> None:
    path = path_of(problem)
    assert (path.value > 0).all()
    assert (path.cost >= 0).all()
    # value / cost falls along the path: cross-multiplied, for free steps cost nothing
    rise = path.value[1:] * path.cost[:-1] - path.value[:-1] * path.cost[1:]
    assert (rise <= 1e-9).all()
    at = np.full(len(problem.value), NOTHING)
    for row, old, new in zip(path.row, path.old, path.new, strict=True):
        assert at[row] == old
        at[row] = new
    np.testing.assert_allclose(path.spend, np.cumsum(path.cost))


@given(knapsacks(), st.floats(0, 20))
def test_nothing_worthless_or_forbidden_is_ever_chosen(problem, budget) -> None:
    path = path_of(problem)
    chosen = path.options_at(budget)
    taken = np.flatnonzero(chosen != NOTHING)
    assert (problem.value[taken, chosen[taken]] > 0).all()
    assert problem.allowed[taken, chosen[taken]].all()
    partial = path.partial_step(budget)
    if partial is not None:
        assert 0 < partial.fraction < 1
        assert problem.allowed[partial.row, partial.new]


def test_options_on_one_ray_keep_their_order_through_rounding() -> None:
    """Slopes equal on paper differ in the last digit."""
    cost = np.random.default_rng(0).random((20_000, 6))
    path = whole_budget_path(0.7 * cost, cost)
    at = np.full(len(cost), NOTHING)
    for row, old, new in zip(path.row, path.old, path.new, strict=True):
        assert at[row] == old
        at[row] = new
    np.testing.assert_allclose(cost[np.arange(len(cost)), at], cost.max(axis=1))


def test_the_worked_example_of_two_voters() -> None:
    """Voter 0 steps mail (2 for 1) then phone (+1 for 2); voter 1 mail (3 for 1)."""
    value = np.array([[2.0, 3.0], [3.0, 3.2]])
    path = whole_budget_path(value, np.array([1.0, 3.0]))
    assert path.row.tolist() == [1, 0, 0, 1]
    assert path.old.tolist() == [NOTHING, NOTHING, 0, 0]
    assert path.new.tolist() == [0, 0, 1, 1]
    assert path.spend.tolist() == [1.0, 2.0, 4.0, 6.0]
    assert path.options_at(2.5).tolist() == [0, 0]
    assert path.partial_step(2.5) == (0, 0, 1, 0.25)
    assert path.value_at(2.5) == pytest.approx(5.25)
    assert path.shadow_price(0.5) == 3.0
    assert path.shadow_price(2.5) == pytest.approx(0.5)
    assert path.shadow_price(6.0) == 0.0
    assert path.partial_step(2.0) is None
    assert path.partial_step(7.0) is None


def test_an_option_below_the_hull_is_skipped_by_its_row() -> None:
    """1 for 1, 1.4 for 2, 3 for 3: the middle one is never worth its money."""
    path = whole_budget_path(np.array([[1.0, 1.4, 3.0]]), np.array([1.0, 2.0, 3.0]))
    assert path.new.tolist() == [2]
    path = whole_budget_path(np.array([[2.0, 2.5, 3.0]]), np.array([1.0, 2.0, 3.0]))
    assert path.new.tolist() in ([0, 1, 2], [0, 2])


def test_what_is_free_comes_without_a_budget_and_only_the_best_of_it() -> None:
    path = whole_budget_path(
        np.array([[1.0, 2.0, 5.0], [-1.0, 0.0, 5.0]]), np.array([0.0, 0.0, 10.0])
    )
    assert path.options_at(0.0).tolist() == [1, NOTHING]
    assert path.options_at(15.0).tolist() == [1, 2]
    assert path.partial_step(15.0) == (0, 1, 2, 0.5)


def test_of_options_at_one_price_the_better_is_taken() -> None:
    path = whole_budget_path(np.array([[1.0, 2.0, 1.5]]), np.array([1.0, 1.0, 1.0]))
    assert path.new.tolist() == [1]
    assert path.options_at(1.0).tolist() == [1]


def test_equals_are_served_in_the_order_of_tie_break() -> None:
    ties = np.array([0.3, 0.9, 0.1, 0.5])
    equal = whole_budget_path(np.ones((4, 1)), np.ones(1), tie_break=ties)
    assert equal.row.tolist() == [2, 0, 3, 1]
    better = whole_budget_path(
        np.array([[1.0], [1.5], [1.0], [1.0]]), np.ones(1), tie_break=ties
    )
    assert better.row.tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize("never", [-1.0, 0.0])
def test_money_is_left_over_where_nothing_is_worth_sending(never: float) -> None:
    path = whole_budget_path(np.full((3, 2), never), np.array([0.0, 1.0]))
    assert path.options_at(1e9).tolist() == [NOTHING] * 3
    assert path.value_at(1e9) == 0
    assert path.shadow_price(0.0) == 0
    assert path.partial_step(1e9) is None


def test_a_million_small_steps_stay_within_the_budget() -> None:
    rng = np.random.default_rng(0)
    cost = rng.uniform(0.1, 1.0, (20_000, 3))
    path = whole_budget_path(rng.random((20_000, 3)), cost)
    for budget in (0.3, 77.7, 3_000.1):
        chosen = path.options_at(budget)
        at = np.flatnonzero(chosen != NOTHING)
        spent = cost[at, chosen[at]].sum()
        assert budget - 1.0 < spent <= budget * (1 + 1e-9)


def test_errors_name_what_came() -> None:
    with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
        whole_budget_path(np.ones((1, 2)), np.array([1.0, -0.5]))
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be finite"):
            whole_budget_path(np.array([[1.0, wrong]]), np.ones(2))


def test_pooled_rows_count_only_members_who_may_be_reached() -> None:
    """Household 0: voters 0, 2; household 1: voter 1, who may not be phoned."""
    value = np.array([[1.0, 2.0], [3.0, 4.0], [-0.5, 6.0]])
    allowed = np.array([[True, True], [True, False], [True, False]])
    row = np.array([0, 1, 0])
    totals, cost, may = pooled_rows(value, np.array([0.5, 2.0]), allowed, row)
    np.testing.assert_array_equal(totals, [[0.5, 2.0], [3.0, 0.0]])
    np.testing.assert_array_equal(cost, [[1.0, 2.0], [0.5, 0.0]])
    np.testing.assert_array_equal(may, [[True, True], [True, False]])
    np.testing.assert_array_equal(contacts_by_row(allowed, row), [[2, 1], [1, 0]])


def gift_wrapped(problem: Knapsack, budgets: np.ndarray) -> np.ndarray:
    """The optimum at each budget, one row and one hull point at a time."""
    steps: list[tuple[float, float]] = []
    for row in zip(problem.value, problem.cost, problem.allowed, strict=True):
        at_value, at_cost = 0.0, 0.0
        options = [(v, c) for v, c, a in zip(*row, strict=True) if a]
        while True:
            ahead = [(v - at_value, c - at_cost) for v, c in options if v > at_value]
            ahead = [step for step in ahead if step[1] >= 0]
            if not ahead:
                break
            more, extra = max(
                ahead, key=lambda s: (s[0] / s[1] if s[1] > 0 else np.inf, s[0])
            )
            steps.append((more, extra))
            at_value, at_cost = at_value + more, at_cost + extra
    steps.sort(key=lambda s: -(s[0] / s[1] if s[1] > 0 else np.inf))
    value = np.cumsum([0.0, *(more for more, _ in steps)])
    spend = np.cumsum([0.0, *(extra for _, extra in steps)])
    return np.interp(budgets, spend, value)


@pytest.mark.parametrize("shared", [True, False])
def test_comparing_all_pairs_gives_the_hulls_of_gift_wrapping(*, shared: bool) -> None:
    rng = np.random.default_rng(7)
    shape = (500, 6)
    cost = rng.uniform(0.1, 2, shape[1] if shared else shape)
    of = Knapsack(
        rng.normal(0.5, 1, shape), np.broadcast_to(cost, shape),
        rng.random(shape) < 0.7, rng.random(500),
    )  # fmt: skip
    path = whole_budget_path(of.value, cost, allowed=of.allowed, tie_break=of.ties)
    budgets = np.linspace(0.5, float(path.spend[-1]), 40)
    ours = [path.value_at(budget) for budget in budgets]
    np.testing.assert_allclose(ours, gift_wrapped(of, budgets), rtol=1e-12)

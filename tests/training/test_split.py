"""Folds and holdouts are a unit's own: nothing else moves it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hustings.training.estimators.split import unit_folds, unit_uniforms

UNITS = [f"H{i:06d}" for i in range(20_000)]
IDS = st.lists(st.text(max_size=8), min_size=1, max_size=30)


@given(IDS, st.randoms(use_true_random=False))
def test_a_unit_keeps_its_number_in_any_order_and_any_company(ids, random) -> None:
    alone = {u: unit_uniforms([u], salt="s")[0] for u in ids}
    shuffled = [*random.sample(ids, len(ids)), "a stranger"]
    found = unit_uniforms(shuffled, salt="s")
    assert [alone[u] for u in shuffled[:-1]] == found[:-1].tolist()


def test_voters_of_one_unit_share_one_fold() -> None:
    units = np.repeat(UNITS[:500], 3)[np.random.default_rng(0).permutation(1500)]
    folds = unit_folds(units, 4, salt="folds-1")
    for unit in UNITS[:500]:
        assert len(set(folds[units == unit])) == 1


@pytest.mark.parametrize("n_folds", [2, 4, 5])
def test_folds_are_of_one_size_and_all_used(n_folds: int) -> None:
    counts = np.bincount(unit_folds(UNITS, n_folds, salt="folds-1"))
    assert len(counts) == n_folds
    assert stats.chisquare(counts).pvalue > 1e-3


def test_numbers_are_uniform_below_one() -> None:
    drawn = unit_uniforms(UNITS, salt="holdout-1")
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert drawn.max() < 1.0
    assert len(np.unique(drawn)) == len(UNITS)


def test_two_salts_give_independent_folds() -> None:
    table = np.zeros((4, 4))
    pairs = (unit_folds(UNITS, 4, salt=salt) for salt in ("folds-1", "folds-2"))
    np.add.at(table, tuple(pairs), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3
    halves = unit_folds(UNITS, 2, salt="halves-1")
    crossed = np.array([np.bincount(unit_folds(UNITS, 4, salt="folds-1")[halves == h])
                        for h in (0, 1)])  # fmt: skip
    assert stats.chi2_contingency(crossed).pvalue > 1e-3


def test_a_number_is_that_of_the_text_of_an_id() -> None:
    assert unit_uniforms(["17"], salt="s") == unit_uniforms(np.array([17]), salt="s")


def test_holdouts_never_move_between_versions() -> None:
    """Known values: a change here would move people of running campaigns."""
    units = ["a", "b", "V0000001", "household-42", "ü", ""]
    assert unit_uniforms(units, salt="golden").tolist() == [
        0.7903290503401699, 0.5567112777330828, 0.19581156706186575,
        0.8148922728103736, 0.4314682063805567, 0.8930906569915403,
    ]  # fmt: skip
    voters = [f"V{i}" for i in range(12)]
    fours = unit_folds(voters, 4, salt="folds-7")
    assert fours.tolist() == [2, 1, 2, 2, 0, 2, 0, 2, 2, 2, 2, 3]
    halves = unit_folds(voters, 2, salt="halves-7")
    assert halves.tolist() == [0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1]

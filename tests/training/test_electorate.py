"""Planted electorates: alike, different in part, and beyond the test."""

from typing import Any

import numpy as np
import pytest

from hustings.training.policy_value.electorate import (
    ElectorateOverlap,
    electorate_overlap,
)

NAMES = ("age", "income", "party")


def compared(
    chance: Any, *, seed: int = 0, n: int = 8_000, lacking: float = 0.0
) -> tuple[ElectorateOverlap, np.ndarray, np.ndarray, np.ndarray]:
    """A file of which some are tested, all are planned; features and who was tested."""
    rng = np.random.default_rng(seed)
    X = np.column_stack(
        [rng.normal(size=(n, 2)), rng.integers(0, 3, n)]
    ).astype(np.float32)  # fmt: skip
    is_tested = rng.random(n) < np.broadcast_to(chance(X), n)
    lacks = ~is_tested & (rng.random(n) < lacking)
    X[lacks, 1] = np.nan
    ids = np.array([f"h{k // 2}" for k in range(n)], dtype=object)
    overlap, weight = electorate_overlap(
        X, is_tested, np.ones(n, dtype=bool), ids, NAMES, [2], seed=seed
    )
    return overlap, weight, X, is_tested


def test_a_random_sample_of_the_planned_is_alike() -> None:
    overlap, weight, _, is_tested = compared(lambda _: 0.2)
    assert overlap.verdict == "alike"
    assert not overlap.reasons
    assert abs(overlap.auc - 0.5) < 0.03
    assert overlap.effective_n > 0.95 * is_tested.sum()
    assert weight.mean() == pytest.approx(1.0)
    assert (overlap.n_both, overlap.n_planned) == (is_tested.sum(), 8_000)


def test_weights_give_the_tested_the_means_of_the_planned() -> None:
    overlap, weight, X, is_tested = compared(
        lambda X: 0.3 / (1 + np.exp(1.2 * X[:, 0] + (X[:, 2] == 1)))
    )
    assert overlap.verdict == "reweighted"
    assert 0.6 < overlap.auc < 0.9
    for value in (X[:, 0], X[:, 2] == 1):
        before = abs(value[is_tested].mean() - value.mean())
        after = abs(np.average(value[is_tested], weights=weight) - value.mean())
        assert before > 0.1
        assert after < before / 3


def test_beyond_the_test_nothing_personal_is_known() -> None:
    overlap, _, _, is_tested = compared(lambda X: 0.5 * (X[:, 0] < -1))
    assert overlap.verdict == "refused"
    assert any("resemble hardly anybody tested" in why for why in overlap.reasons)
    assert overlap.outside_share > 0.5
    assert overlap.effective_n < 0.7 * is_tested.sum()


@pytest.mark.parametrize(("lacking", "verdict"), [(0.9, "refused"), (0.2, "alike")])
def test_a_column_that_most_of_the_planned_lack_is_named(
    lacking: float, verdict: str
) -> None:
    overlap, *_ = compared(lambda _: 0.2, lacking=lacking)
    if verdict == "refused":
        assert overlap.verdict == verdict
        assert [column.name for column in overlap.lacked] == ["income"]
        assert overlap.reasons[0].startswith("income is missing for 7")
    else:
        assert not overlap.lacked


def test_the_tested_alone_are_alike_by_themselves() -> None:
    overlap = ElectorateOverlap.of_the_tested(50)
    assert (overlap.verdict, overlap.effective_n) == ("alike", 50.0)
    assert ElectorateOverlap.from_json(overlap.to_json()) == overlap

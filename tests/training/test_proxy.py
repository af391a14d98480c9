"""An audit for proxies: what gives a category away is caught, what does not passes."""

import numpy as np

from hustings.training.policy_value.proxy_audit import audit_proxy


def _drawn(strength: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    household = np.repeat(np.arange(2_000), 2)
    hidden = rng.normal(size=len(household))
    category = hidden + rng.normal(size=len(household)) > 0.8
    seen = rng.normal(size=(len(household), 3))
    seen[:, 1] += strength * category
    return seen, category, household.astype(object)


def test_scores_that_stand_for_a_category_are_caught() -> None:
    found = audit_proxy(*_drawn(2.0), limit=0.75)
    assert found is not None
    # two normals two SD apart: AUC = Phi(2 / sqrt 2) = .921
    assert found.auc.low < 0.921 < found.auc.high + 0.02
    assert not found.ok


def test_scores_that_have_nothing_to_do_with_it_pass_near_a_half() -> None:
    aucs = [audit_proxy(*_drawn(0.0, seed), limit=0.75) for seed in range(8)]
    values = [a.auc.value for a in aucs if a]
    assert all(a.ok for a in aucs if a)
    assert abs(np.mean(values) - 0.5) < 0.02


def test_too_few_people_say_nothing() -> None:
    seen, category, unit = _drawn(2.0)
    few = np.zeros(len(category), dtype=bool)
    few[:10] = True
    assert audit_proxy(seen, few, unit, limit=0.75) is None


def test_the_interval_is_wider_where_households_share_what_they_are() -> None:
    rng = np.random.default_rng(1)
    n = 500
    alone = rng.normal(size=(n, 2))
    category = alone[:, 0] + rng.normal(size=n) > 0.5
    once = audit_proxy(alone, category, np.arange(n).astype(object), limit=0.75)
    twice = audit_proxy(
        np.repeat(alone, 4, axis=0), np.repeat(category, 4),
        np.repeat(np.arange(n), 4).astype(object), limit=0.75,
    )  # fmt: skip
    assert once
    assert twice
    # four copies of each are no more people
    assert twice.auc.se > 0.8 * once.auc.se

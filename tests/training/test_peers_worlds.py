"""The family of simulated worlds keeps to its declared prior and to its own truth."""

import numpy as np
import pytest

from tests.speed.peers.ours import REFERENCE, Learning, _fit
from tests.speed.peers.peers import halves
from tests.speed.peers.worlds import (
    COLUMNS,
    CONTROL_SHARE,
    HETEROGENEITY_POINTS,
    KIND_SHARES,
    KINDS,
    MEAN_POINTS,
    MESSAGES,
    PROPENSITY,
    RARE12,
    ROWS,
    Settings,
    draw_settings,
    world,
)

FEW = 2_000
WITH_LIFTS = tuple(k for k in KINDS if k not in ("none", "flat"))


@pytest.fixture(scope="module")
def drawn() -> list[Settings]:
    return [draw_settings(seed, most_rows=ROWS[1]) for seed in range(2_000)]


def share(values: list[bool]) -> float:
    return float(np.mean(values))


def test_kinds_households_costs_and_outcomes_come_as_often_as_declared(drawn) -> None:
    kinds = [s.kind for s in drawn]
    for kind, expected in KIND_SHARES.items():
        assert kinds.count(kind) / len(drawn) == pytest.approx(expected, abs=0.03)
    assert share([s.households for s in drawn]) == pytest.approx(1 / 3, abs=0.04)
    by_household = [s.drawn_by_household for s in drawn if s.households]
    assert share(by_household) == pytest.approx(0.5, abs=0.07)
    assert share([s.binary for s in drawn]) == pytest.approx(0.5, abs=0.04)
    assert share([s.missing_outcomes > 0 for s in drawn]) == pytest.approx(
        0.25, abs=0.04
    )
    assert share([(s.cost == 1).all() for s in drawn]) == pytest.approx(0.5, abs=0.04)


def test_sizes_are_log_uniform_between_their_ends(drawn) -> None:
    for values, (low, high) in (
        ([s.n_rows for s in drawn], ROWS),
        ([len(s.cost) for s in drawn], (MESSAGES[0], MESSAGES[1] + 1)),
        ([s.n_columns for s in drawn], (COLUMNS[0], COLUMNS[1] + 1)),
    ):
        assert low <= min(values)
        assert max(values) <= high
        place = (np.log(values) - np.log(low)) / (np.log(high) - np.log(low))
        # whole messages and columns are rounded down
        assert place.mean() == pytest.approx(0.5, abs=0.07)
        assert place.std() == pytest.approx(1 / np.sqrt(12), abs=0.03)


def test_every_arm_has_a_propensity_within_its_bounds_some_uneven(drawn) -> None:
    for settings in drawn:
        assert settings.propensities.sum() == pytest.approx(1.0)
        message = settings.propensities[1:]
        assert PROPENSITY[0] - 1e-9 <= message.min()
        assert message.max() <= PROPENSITY[1] + 1e-9
    control = np.array([s.propensities[0] for s in drawn])
    assert control.mean() == pytest.approx(np.mean(CONTROL_SHARE), abs=0.01)
    uneven = [np.ptp(s.propensities[1:]) > 1e-9 for s in drawn]
    # where every message has the least propensity there is nothing to be uneven
    assert share(uneven) == pytest.approx(0.5, abs=0.04)


def test_mean_lifts_and_heterogeneity_have_the_declared_moments(drawn) -> None:
    lifted = [s for s in drawn if s.kind != "none"]
    means = np.array([s.mean_points.mean() for s in lifted])
    assert means.mean() == pytest.approx(5 / 3, abs=0.1)
    every = np.concatenate([s.mean_points for s in lifted])
    assert MEAN_POINTS[0] <= every.min() < every.max() <= MEAN_POINTS[1]
    spread = [s.heterogeneity_points for s in drawn if s.kind in WITH_LIFTS]
    assert np.mean(spread) == pytest.approx(np.mean(HETEROGENEITY_POINTS), abs=0.06)


@pytest.mark.parametrize("kind", KINDS)
def test_a_world_has_the_lifts_that_its_settings_say(kind) -> None:
    for seed in range(10):
        settings = draw_settings(seed, kind=kind, most_rows=FEW)
        made = world(seed, kind=kind, most_rows=FEW)
        lift, truth = made.truth.lift, made.truth
        assert lift == pytest.approx(truth.groups @ truth.weights)
        assert lift.mean(axis=0) == pytest.approx(settings.mean_points, abs=1e-6)
        sd = lift.std(axis=0)
        if kind in ("shared", "private", "dense"):
            rms = np.sqrt(np.mean(sd[sd > 1e-9] ** 2))
            assert rms == pytest.approx(settings.heterogeneity_points, rel=1e-6)
        assert made.null == (kind in ("none", "flat"))


def test_nobody_is_moved_in_a_null_world_and_all_alike_in_a_flat_one() -> None:
    assert not world(1, kind="none", most_rows=FEW).truth.lift.any()
    flat = world(1, kind="flat", most_rows=FEW).truth.lift
    assert flat.std(axis=0).max() < 1e-12
    assert flat.max() > 0


def test_a_private_feature_matters_to_one_or_two_messages() -> None:
    for seed in range(5):
        weights = world(seed, kind="private", most_rows=FEW).truth.weights[1:]
        assert ((weights != 0).sum(axis=1) <= 2).all()
        assert ((weights != 0).sum(axis=1) >= 1).all()


def test_a_backlash_makes_a_group_lose() -> None:
    for seed in range(5):
        made = world(seed, kind="backlash", most_rows=FEW)
        group, weights = made.truth.groups[:, -1] > 0, made.truth.weights[-1]
        assert 0.05 < group.mean() < 0.35
        repels = weights < 0
        assert 1 <= repels.sum() <= max(1, len(weights) // 3)
        others = made.truth.weights[1:-1]
        by_others = (made.truth.groups[group, 1:-1] @ others).mean(axis=0)
        lost = made.truth.lift[group].mean(axis=0) - by_others
        assert (lost[repels] < -1.9).all()


def test_twelve_rare_messages_are_as_declared() -> None:
    settings = draw_settings(4, kind=RARE12, most_rows=ROWS[1])
    assert settings.n_rows >= 100_000
    assert settings.propensities == pytest.approx([0.4, *[0.05] * 12])
    for seed in range(8):
        made = world(seed, kind=RARE12, most_rows=10_000)
        assert len(made.test.Y) == 10_000
        sd = np.sort(made.truth.lift.std(axis=0))
        assert sd[:2] == pytest.approx([0, 0], abs=1e-9)
        assert (sd[2:] >= 1.0 - 1e-9).all()
        assert (sd[2:] <= 2.0 + 1e-9).all()
        assert (made.truth.lift.mean(axis=0) >= 1).all()
        moved = (np.abs(made.truth.weights[1:]) > 0).sum(axis=1)
        assert moved.min() >= 1
        assert moved.max() <= 4


@pytest.mark.parametrize("binary", [False, True])
def test_the_arms_differ_by_the_true_lift_and_shares_are_the_propensities(
    binary,
) -> None:
    seed = next(
        s
        for s in range(100)
        for law in [draw_settings(s, kind="shared", most_rows=200_000)]
        if law.binary == binary and len(law.cost) < 6 and law.missing_outcomes == 0
        if law.n_rows > 50_000 and law.n_columns < 50
    )
    made = world(seed, kind="shared", most_rows=200_000)
    test = made.test
    arms = np.arange(len(made.cost) + 1)
    counted = np.bincount(test.arm, minlength=len(arms)) / len(test.arm)
    assert counted == pytest.approx(test.propensities[0], abs=0.01)
    if binary:
        assert set(np.unique(test.Y)) == {0.0, 1.0}
    points = made.points * test.Y
    mean = np.array([points[test.arm == a].mean() for a in arms])
    se = np.array([points[test.arm == a].std() / np.sqrt(n) for a, n in
                   enumerate(np.bincount(test.arm))])  # fmt: skip
    gap = mean[1:] - mean[0] - made.truth.lift.mean(axis=0)
    # households share noise: errors are at most a third larger
    assert (np.abs(gap) < 4 * 1.3 * np.hypot(se[1:], se[0])).all()


def test_covariates_have_every_kind_gaps_and_rare_ones() -> None:
    made = world(11, kind="dense", most_rows=30_000)
    kinds = [name.split("_")[0] for name in made.features]
    assert set(kinds) == {"numeric", "skewed", "category", "binary", "rare"}
    assert [kinds[j] for j in made.categorical] == ["category"] * len(made.categorical)
    rare = np.nanmean(made.test.X[:, [k == "rare" for k in kinds]], axis=0)
    assert rare == pytest.approx(np.full(len(rare), 0.01), abs=0.008)
    gaps = np.isnan(made.test.X).mean(axis=0)
    assert ((gaps == 0) | ((gaps > 0.01) & (gaps < 0.32))).all()
    every = [np.isnan(world(s, most_rows=1_000).test.X).any(axis=0) for s in range(20)]
    assert np.concatenate(every).mean() == pytest.approx(0.2, abs=0.08)


def test_a_world_is_a_function_of_its_seed_and_of_no_more() -> None:
    once, again = (world(7, most_rows=FEW) for _ in range(2))
    assert once.fingerprint == again.fingerprint
    assert once.fingerprint != world(8, most_rows=FEW).fingerprint
    small, large = (draw_settings(7, most_rows=rows) for rows in (FEW, ROWS[1]))
    assert small._replace(n_rows=0)[0] == large[0]
    assert (small.mean_points == large.mean_points).all()
    assert small.n_rows < large.n_rows


def test_households_are_whole_and_share_an_arm_where_they_are_drawn() -> None:
    seeds = [s for s in range(60) if draw_settings(s, most_rows=FEW).drawn_by_household]
    test = world(seeds[0], most_rows=FEW).test
    assert len(np.unique(test.household)) < len(test.Y)
    by_household = np.unique(np.column_stack([test.household, test.arm]), axis=0)
    assert len(by_household) == len(np.unique(test.household))


def test_what_is_no_kind_or_too_few_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a kind of none, flat"):
        world(1, kind="sparse")
    with pytest.raises(ValueError, match="expected at least 1000"):
        world(1, most_rows=10)


@pytest.mark.parametrize("points", [1.0, 100.0])
def test_the_reference_learner_that_knows_the_prior_errs_less_than_it(points) -> None:
    of_kind = (world(s, kind=RARE12, most_rows=30_000) for s in range(20))
    made = next(w for w in of_kind if w.points == points)
    split = halves(made, 0)[0]
    found = _fit(REFERENCE, Learning(split))()
    truth = made.truth.lift[~split.trained]
    error = np.sqrt(np.mean((points * found.lift - truth) ** 2))
    assert error < truth.std()
    # and knows how far it is off
    assert np.sqrt(np.mean((points * found.se) ** 2)) == pytest.approx(error, rel=0.3)

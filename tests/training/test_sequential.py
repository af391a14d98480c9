import numpy as np
import pytest

from hustings.features.arrays import Floats, Ints
from hustings.features.training_set import EffectPrior
from hustings.training.learners.daily import (
    ColumnTerms,
    DailyLift,
    Moments,
    ObservedRows,
    Size,
    _prior,
    columns,
    fit_daily,
    lift_columns,
    terms_of,
)

ONE = ColumnTerms(np.array([-1, 0]), np.array([False, False]))
SIZE = Size(0.5, 0.1)


def _planted(n: int, rng: np.random.Generator, *, wrong: float = 0.0) -> ObservedRows:
    """One arm, lift 2 + x, sent oftener the larger x is; `wrong` bends the baseline.

    The plan sends it where x > 0 (with chance .9), else one in ten explores it.
    """
    x = rng.normal(size=n)
    chance = np.where(x > 0, 0.9, 0.1)
    arm = (rng.random(n) < chance).astype(np.int64)
    Y = 50 + wrong * np.abs(x) ** 3 + arm * (2.0 + x) + rng.normal(size=n)
    phi = np.column_stack([np.ones(n), x])
    return ObservedRows(phi, arm, Y, np.column_stack([1 - chance, chance]))


def _moments(seen: ObservedRows) -> Moments:
    return Moments.nothing(seen.phi.shape[1], 1).plus(seen)


def test_a_lift_is_recovered_although_who_was_sent_it_hangs_on_the_voter() -> None:
    seen = _planted(20_000, np.random.default_rng(1))
    found = fit_daily(_moments(seen), ONE, sizes=[SIZE])
    assert found.theta[0] == pytest.approx([2.0, 1.0], abs=0.1)


def test_a_wrong_baseline_harms_no_lift_whose_chances_are_known() -> None:
    rng = np.random.default_rng(2)
    ours, naive = [], []
    for _ in range(10):
        seen = _planted(5_000, rng, wrong=1.0)
        ours.append(fit_daily(_moments(seen), ONE, sizes=[SIZE]).theta[0, 1])
        blind = _moments(seen._replace(propensities=None))
        naive.append(fit_daily(blind, ONE, sizes=[SIZE]).theta[0, 1])
    assert abs(np.mean(ours) - 1.0) < 0.4
    # without chances the bend of the baseline is taken for a lift that grows with x
    assert abs(np.mean(naive) - 1.0) > 3.0


def test_the_posterior_of_one_constant_arm_is_the_hand_worked_one() -> None:
    rng = np.random.default_rng(3)
    n = 400
    arm, phi = rng.integers(0, 2, n), np.ones((n, 1))
    Y = 10 + 3.0 * arm + rng.normal(size=n)
    seen = ObservedRows(phi, arm, Y, np.full((n, 2), 0.5))
    terms = ColumnTerms(np.array([-1]), np.array([False]))
    prior = EffectPrior(np.array([1.0]), np.array([0.01]))
    found = fit_daily(_moments(seen), terms, prior=prior, sizes=[SIZE])
    # normal–normal: centred treatments ±½ carry n/4 of information
    z = arm - 0.5
    about = 1 / ((0.5**2 + 0.08**2) * found.noise**2)
    sure = about + 100.0 + z @ z / found.noise**2
    rest = Y - found.mean[0] - 0.5 * found.theta[0, 0]
    by_hand = (100.0 * 1.0 + z @ rest / found.noise**2) / sure
    assert found.theta[0, 0] == pytest.approx(by_hand, abs=0.02)
    assert found.se(np.ones((1, 1)))[0, 0] == pytest.approx(sure**-0.5, rel=0.02)


def test_days_added_one_by_one_teach_the_same_as_all_at_once() -> None:
    seen = _planted(600, np.random.default_rng(4))
    by_day = Moments.nothing(2, 1)
    for k in range(3):
        part = slice(200 * k, 200 * (k + 1))
        by_day = by_day.plus(ObservedRows(*(column[part] for column in seen)))
    assert by_day.n == 600
    a, b = (fit_daily(m, ONE, sizes=[SIZE]).mean for m in (by_day, _moments(seen)))
    assert a == pytest.approx(b)


def test_deliveries_whose_chances_nobody_knows_move_no_lift() -> None:
    rng = np.random.default_rng(5)
    moved, level = [], []
    for _ in range(20):
        seen, past = _planted(2_000, rng), _planted(2_000, rng)
        # a self-selected past in which the message seems to do 5 more
        biased = past._replace(
            Y=past.Y + 5.0 * past.arm, propensities=np.full((2_000, 2), np.nan)
        )
        alone = fit_daily(_moments(seen), ONE, sizes=[SIZE])
        beside = fit_daily(_moments(seen).plus(biased), ONE, sizes=[SIZE])
        moved.append(beside.theta[0] - alone.theta[0])
        level.append(beside.mean[0] - alone.mean[0])
    se = np.std(moved, axis=0, ddof=1) / np.sqrt(20)
    assert (np.abs(np.mean(moved, axis=0)) < 3 * se + 0.02).all()
    # it does inform the baseline
    assert np.mean(level) > 1.0


def test_what_could_not_be_assigned_was_not_drawn_by_that_design() -> None:
    seen = _planted(10, np.random.default_rng(6))
    none = np.zeros((10, 2))
    none[:, 0] = 1.0
    with pytest.raises(ValueError, match="expected a propensity above 0"):
        _moments(seen._replace(arm=np.ones(10, dtype=np.int64), propensities=none))


def _sums(phi: Floats, arm: Ints, Y: Floats) -> Moments:
    return Moments.nothing(phi.shape[1], 1).plus(ObservedRows(phi, arm, Y, None))


def _mean_size(model: DailyLift) -> float:
    return float(model.probability @ np.array([size.terms for size in model.sizes]))


def test_sizes_count_by_the_probability_of_the_outcomes() -> None:
    """Of a design with one arm on a fixed share: the normal density, written out."""
    rng = np.random.default_rng(10)
    X = rng.normal(size=(60, 2)).astype(np.float32)
    basis = lift_columns(X, [])
    phi, terms = columns(basis, X), terms_of(basis)
    arm = rng.integers(0, 2, 60)
    Y = 3.0 * arm * X[:, 0] + rng.normal(size=60)
    model = fit_daily(_sums(phi, arm, Y), terms)
    assert len(model.sizes) > 1
    Z = np.hstack([phi, arm[:, None] * phi])
    density = []
    for size in model.sizes:
        prior = _prior(terms, 1, model.noise, size, None)
        spread = Z @ np.linalg.inv(prior.precision) @ Z.T
        of_Y = spread + model.noise**2 * np.eye(60)
        density.append(
            -0.5 * (np.linalg.slogdet(of_Y)[1] + Y @ np.linalg.solve(of_Y, Y))
        )
    by_hand = np.exp(np.array(density) - max(density))
    assert model.probability == pytest.approx(by_hand / by_hand.sum(), rel=1e-3)
    # the average over sizes, and how they differ is part of the error
    lifts = np.stack([phi @ fit.mean[model.p :] for fit in model.posteriors])
    assert model.lift(phi)[:, 0] == pytest.approx(model.probability @ lifts)
    alone = [fit_daily(_sums(phi, arm, Y), terms, sizes=[s]) for s in model.sizes]
    within = model.probability @ np.stack([m.se(phi)[:, 0] ** 2 for m in alone])
    between = model.probability @ (lifts - model.probability @ lifts) ** 2
    assert model.se(phi)[:, 0] ** 2 == pytest.approx(within + between)


def test_without_heterogeneity_the_data_weigh_small_sizes_most() -> None:
    rng = np.random.default_rng(7)
    n, X = 6_000, rng.normal(size=(6_000, 3)).astype(np.float32)
    basis = lift_columns(X, [])
    phi, terms = columns(basis, X), terms_of(basis)
    arm = rng.integers(0, 3, n)
    even = np.full((n, 3), 1 / 3)
    flat = 50 + np.array([0.0, 2.0, 4.0])[arm] + 8 * rng.normal(size=n)
    uneven = flat + 4.0 * X[:, 0] * (arm > 0)
    fits = [
        fit_daily(
            Moments.nothing(phi.shape[1], 2).plus(ObservedRows(phi, arm, y, even)),
            terms,
        )
        for y in (flat, uneven)
    ]
    spread = [fit.lift(phi).std(axis=0).max() for fit in fits]
    assert _mean_size(fits[0]) < _mean_size(fits[1])
    assert spread[0] < 0.5
    assert spread[1] > 3.0
    assert np.corrcoef(fits[1].lift(phi)[:, 0], X[:, 0])[0, 1] > 0.9


def test_columns_of_a_term_have_variance_one_together() -> None:
    rng = np.random.default_rng(8)
    X = np.column_stack([rng.integers(0, 3, 2_000), rng.normal(size=2_000)])
    basis = lift_columns(X.astype(np.float32), [0])
    phi, terms = columns(basis, X.astype(np.float32)), terms_of(basis)
    of_term = np.bincount(terms.group[1:], weights=phi[:, 1:].var(axis=0))
    assert of_term == pytest.approx(np.ones(3), rel=1e-4)
    assert terms.product.sum() == (terms.group == 2).sum() > 0


def test_draws_scatter_as_their_posterior_says() -> None:
    found = fit_daily(
        _moments(_planted(500, np.random.default_rng(9))), ONE, sizes=[SIZE]
    )
    at = np.array([[1.0, 0.5]])
    draws = found.draws(at, 4_000, np.random.default_rng(1))[:, 0, 0]
    assert draws.mean() == pytest.approx(found.lift(at)[0, 0], abs=0.02)
    assert draws.std() == pytest.approx(found.se(at)[0, 0], rel=0.05)

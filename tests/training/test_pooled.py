"""The prior finds what was planted, pools what is shared, and prunes the rest."""

import numpy as np
import pytest

from hustings.training.learners.pooled import (
    Components,
    EffectMoments,
    TermPrior,
    components,
    evidence_for,
    fit_prior,
    posterior,
)


def moments_of(
    columns: np.ndarray, lift: np.ndarray, noise: np.ndarray
) -> EffectMoments:
    return EffectMoments(columns.T @ columns, columns.T @ lift, noise, len(columns))


def draw(
    rng: np.random.Generator, coefficients: np.ndarray, *, n: int, sd: float
) -> tuple[np.ndarray, EffectMoments]:
    """Independent standard columns; messages share the noise of their controls."""
    p, m = coefficients.shape
    columns = rng.normal(size=(n, p))
    noise = sd**2 * (np.eye(m) + 0.5)
    lift = columns @ coefficients + rng.multivariate_normal(np.zeros(m), noise, n)
    return columns, moments_of(columns, lift, noise)


def test_with_one_message_and_a_known_prior_it_is_ridge_regression() -> None:
    rng = np.random.default_rng(1)
    columns, moments = draw(rng, np.array([[0.5], [0.0], [-1.0]]), n=400, sd=2.0)
    parts = components(["a"], [True])
    prior = TermPrior(np.array([0.3, 0.3, 0.3]), np.array([1.0]))
    found = posterior(moments, np.arange(3), prior, parts)
    variance = moments.noise[0, 0]
    by_hand = np.linalg.inv(moments.gram / variance + np.eye(3) / 0.3)
    expected = by_hand @ moments.cross[:, 0] / variance
    np.testing.assert_allclose(found.coefficients[:, 0], expected, rtol=1e-9)
    probe = columns[:5]
    np.testing.assert_allclose(
        found.variance(probe)[:, 0], ((probe @ by_hand) * probe).sum(axis=1), rtol=1e-9
    )


def test_several_messages_agree_with_the_joint_posterior_written_out() -> None:
    """The diagonalisation against the full (p M) × (p M) system."""
    rng = np.random.default_rng(2)
    columns, moments = draw(rng, rng.normal(size=(3, 4)), n=300, sd=3.0)
    parts = components(["a", "a", "b", "b"], [True] * 4)
    group = np.array([0, 0, 1])
    prior = TermPrior(
        np.array([0.2, 0.7]), np.array([0.5, 0.3, 0.2, 1.0, 0.8, 0.5, 0.1])
    )
    found = posterior(moments, group, prior, parts)
    between = (parts.member.T * prior.component) @ parts.member
    precision = np.kron(moments.gram, np.linalg.inv(moments.noise)) + np.linalg.inv(
        np.kron(np.diag(prior.term[group]), between)
    )
    covariance = np.linalg.inv(precision)
    mean = covariance @ (moments.cross @ np.linalg.inv(moments.noise)).ravel()
    np.testing.assert_allclose(found.coefficients, mean.reshape(3, 4), rtol=1e-7)
    x = columns[:1]
    block = np.kron(x, np.eye(4))
    variance = np.diag(block @ covariance @ block.T)
    np.testing.assert_allclose(found.variance(x)[0], variance, rtol=1e-7)


def test_the_prior_variance_of_a_term_is_that_of_what_was_planted() -> None:
    rng = np.random.default_rng(3)
    planted = np.vstack([rng.normal(0, 0.7, (60, 3)), rng.normal(0, 0.2, (60, 3))])
    _, moments = draw(rng, planted, n=20_000, sd=1.0)
    group = np.repeat([0, 1], 60)
    parts = components(["a", "b", "c"], [True] * 3)
    prior = fit_prior(moments, group, parts)
    # lifts that share nothing: the own components carry it all
    per_message = (
        prior.component[parts.of_one_message].mean()
        + prior.component[~parts.of_one_message].sum()
    )
    np.testing.assert_allclose(prior.term * per_message, [0.49, 0.04], rtol=0.25)


@pytest.mark.parametrize("shared", [True, False])
def test_what_messages_share_is_told_from_what_they_do_not(*, shared: bool) -> None:
    rng = np.random.default_rng(4)
    common = rng.normal(0, 0.5, (40, 1)) * np.ones(6)
    planted = common if shared else rng.normal(0, 0.5, (40, 6))
    _, moments = draw(rng, planted, n=10_000, sd=2.0)
    parts = components(["a"] * 6, [True] * 6)
    component = fit_prior(moments, np.zeros(40, np.int64), parts).component
    of_all = component[0] / (component[0] + component[parts.of_one_message].mean())
    assert of_all > 0.95 if shared else of_all < 0.1


def test_pooling_pays_where_messages_are_alike_and_small() -> None:
    """Twelve messages with the same coefficients: each alone sees a twelfth."""
    rng = np.random.default_rng(5)
    planted = rng.normal(0, 0.3, (10, 1)) * np.ones(12)
    errors = {}
    _, moments = draw(rng, planted, n=600, sd=3.0)
    for name, parts in {
        "pooled": components(["a"] * 12, [True] * 12),
        "alone": Components(np.eye(12), np.ones(12, dtype=bool)),
    }.items():
        group = np.zeros(10, np.int64)
        prior = fit_prior(moments, group, parts)
        found = posterior(moments, group, prior, parts).coefficients
        errors[name] = ((found - planted) ** 2).mean()
    assert errors["pooled"] < 0.7 * errors["alone"]


def test_evidence_is_for_terms_that_matter_and_against_those_that_do_not() -> None:
    planted = np.zeros((20, 4))
    planted[0] = 0.5
    found = []
    for seed in range(20):
        _, moments = draw(np.random.default_rng(seed), planted, n=2_000, sd=3.0)
        parts = components(["a"] * 4, [True] * 4)
        group = np.arange(20)
        prior = fit_prior(moments, group, parts)
        found.append(evidence_for(moments, group, prior, parts))
    real, idle = np.array(found)[:, 0], np.array(found)[:, 1:]
    assert real.min() > 5
    # of 380 idle terms next to none looks real by the log of how many were tried
    assert (idle > np.log(20)).mean() < 0.02


def test_the_unit_of_the_outcome_says_nothing_of_a_term() -> None:
    """Cents or dollars: the same evidence, with and without own components."""
    _, moments = draw(np.random.default_rng(8), np.zeros((12, 3)), n=800, sd=1.0)
    group = np.arange(12)
    for own in (True, False):
        parts = components(["a"] * 3, [own] * 3)
        found = []
        for unit in (1.0, 1000.0):
            scaled = moments._replace(
                cross=moments.cross * unit, noise=moments.noise * unit**2
            )
            prior = fit_prior(scaled, group, parts)
            found.append(evidence_for(scaled, group, prior, parts))
        np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_a_message_with_few_people_has_no_coefficients_of_its_own() -> None:
    parts = components(["a", "a", "b"], [True, False, True])
    np.testing.assert_array_equal(
        parts.member[~parts.of_one_message], [[1, 1, 1], [1, 1, 0]]
    )
    np.testing.assert_array_equal(
        parts.member[parts.of_one_message], [[1, 0, 0], [0, 0, 1]]
    )


def test_noise_alone_leaves_next_to_nothing() -> None:
    rng = np.random.default_rng(7)
    columns, moments = draw(rng, np.zeros((30, 3)), n=5_000, sd=2.0)
    parts = components(["a"] * 3, [True] * 3)
    group = np.arange(30)
    prior = fit_prior(moments, group, parts)
    found = posterior(moments, group, prior, parts)
    spread = (columns @ found.coefficients).std()
    assert spread < 0.1  # one standard error of a single coefficient is 0.035

"""Multipliers of channels: no bias against the weak ones, intervals that cover."""

import numpy as np
import pytest

from hustings.training.learners.channels import channel_multipliers

KAPPA = np.array([1.0, 0.6, 1.4])


def arms(n_messages: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Message and channel of every arm, and a covariance as shared controls make it."""
    message = np.repeat(np.arange(n_messages), len(KAPPA))
    channel = np.tile(np.arange(len(KAPPA)), n_messages)
    return message, channel, noise**2 * (0.6 * np.eye(len(message)) + 0.4)


@pytest.mark.parametrize(
    ("n_messages", "effect", "differ", "noise"),
    [(4, 2.0, 0.7, 0.4), (6, 1.5, 1.0, 0.6), (2, 3.0, 0.7, 0.4)],
)
def test_multipliers_are_unbiased_and_their_intervals_cover(
    n_messages: int, effect: float, differ: float, noise: float
) -> None:
    """Lifts of 150 worlds, drawn with known noise."""
    rng = np.random.default_rng(1)
    message, channel, covariance = arms(n_messages, noise)
    missed = []
    for _ in range(150):
        effects = effect + differ * rng.normal(size=n_messages)
        lift = rng.multivariate_normal(KAPPA[channel] * effects[message], covariance)
        found = channel_multipliers(lift, covariance, message, channel, np.ones(3) / 3)
        assert found.mean.mean() == pytest.approx(1.0)
        missed.append((found.mean - KAPPA) / found.se)
    # a mean of 150 standard normals has an error of 0.08
    assert (np.abs(np.mean(missed, axis=0)) < 0.3).all()
    assert 0.92 < (np.abs(missed) < 1.96).mean() < 0.985


def test_channels_drawn_from_the_prior_are_covered_also_where_messages_do_little() -> (
    None
):
    rng = np.random.default_rng(2)
    message, channel, covariance = arms(6, 0.5)
    covered = []
    for _ in range(100):
        kappa = 1 + 0.5 * rng.normal(size=3)
        kappa += 1 - kappa.mean()
        effects = 0.5 + 0.5 * rng.normal(size=6)
        lift = rng.multivariate_normal(kappa[channel] * effects[message], covariance)
        found = channel_multipliers(lift, covariance, message, channel, np.ones(3) / 3)
        covered.append(np.abs(found.mean - kappa) < 1.96 * found.se)
    assert 0.90 < np.mean(covered) < 0.99


def test_two_channels_of_one_message_agree_with_the_integral() -> None:
    """One message, two channels: κ, the effect, s and τ summed on a grid by hand."""
    lift, covariance = np.array([3.0, 1.0]), np.array([[0.5, 0.2], [0.2, 0.5]])
    found = channel_multipliers(
        lift, covariance, np.zeros(2, int), np.arange(2), np.ones(2)
    )
    z = np.linspace(-4, 4, 801)
    kappa = 1 + np.column_stack([z, -z]) / np.sqrt(2)
    size = np.sqrt((lift**2).mean())
    likelihood = np.zeros(len(z))
    for s in size * np.geomspace(0.1, 4.0, 12):
        total = covariance + s**2 * kappa[:, :, None] * kappa[:, None, :]
        along = np.linalg.solve(total, np.tile(lift[:, None], (len(z), 1, 1)))[..., 0]
        likelihood += np.exp(-0.5 * along @ lift) / np.sqrt(np.linalg.det(total))
    prior = np.zeros(len(z))
    for tau in 0.75 * np.tan(np.linspace(0, np.arctan(4), 26)[1:]):
        prior += np.exp(-0.5 * (z / tau) ** 2) / tau
    share = likelihood * prior / (likelihood * prior).sum()
    mean = share @ kappa
    np.testing.assert_allclose(found.mean, mean, atol=0.01)
    np.testing.assert_allclose(
        found.se, np.sqrt(share @ (kappa - mean) ** 2), rtol=0.03
    )


def test_the_design_says_what_the_average_channel_is() -> None:
    message, channel, covariance = arms(4, 0.05)
    weight = np.array([0.8, 0.1, 0.1])
    lift = KAPPA[channel] * np.array([2.0, 3.0, 4.0, 5.0])[message]
    found = channel_multipliers(lift, covariance, message, channel, weight)
    np.testing.assert_allclose(found.mean, KAPPA / (weight @ KAPPA), atol=0.03)


def test_a_channel_that_was_never_sent_is_as_the_others() -> None:
    message, channel, covariance = arms(4, 0.05)
    sent = channel < 2
    lift = (np.array([1.3, 0.7, 0])[channel] * 3.0)[sent]
    found = channel_multipliers(
        lift, covariance[np.ix_(sent, sent)], message[sent], channel[sent], np.ones(3)
    )
    # the two that were sent are known beside each other
    assert found.mean[0] / found.mean[1] == pytest.approx(1.3 / 0.7, rel=0.1)
    assert found.se[2] > 0.3
    assert abs(found.mean[2] - 1) < found.se[2]


@pytest.mark.parametrize("n_channels", [1, 2])
def test_nothing_measured_is_every_channel_alike(n_channels: int) -> None:
    empty = np.zeros(0, dtype=np.int64)
    found = channel_multipliers(
        np.zeros(0), np.zeros((0, 0)), empty, empty, np.ones(n_channels)
    )
    np.testing.assert_array_equal(found.mean, 1.0)

"""Messages pooled and read: what is planted is found, and noise is not believed."""

from dataclasses import dataclass

import numpy as np
import pytest

from hustings.training.learners.average_effects import shrink
from hustings.training.learners.text_prior import (
    MIN_MESSAGES,
    MessagePrior,
    SentMessages,
    even_noise,
    fit_message_prior,
    held_out_test,
)

ISSUES = ("roads", "schools", "water")


@dataclass(frozen=True)
class World:
    """Messages whose effect is mean of the issue + text + own part, SD 1 each."""

    truth: np.ndarray
    estimate: np.ndarray
    covariance: np.ndarray
    issue: list[str]
    text: list[np.ndarray]

    def fit(self, rows: np.ndarray | slice = slice(None)) -> MessagePrior:
        return fit_message_prior(
            self.estimate[rows], self.covariance[rows][:, rows],
            list(np.array(self.issue)[rows]), [block[rows] for block in self.text],
            rng=np.random.default_rng(0),
        )  # fmt: skip


def draw(
    seed: int, *, n: int = 90, told: float = 1.0, own: float = 1.0, noise: float = 1.0
) -> World:
    """Issues in turn; estimates of an issue share the noise of its controls."""
    rng = np.random.default_rng(seed)
    issue = [ISSUES[i % 3] for i in range(n)]
    code = np.arange(n) % 3
    embedding, readable = rng.normal(size=(n, 12)), rng.normal(size=(n, 3))
    direction = rng.normal(size=12)
    text = embedding @ direction / np.linalg.norm(direction)
    truth = np.array([2.0, 6.0, 4.0])[code] + told * text + own * rng.normal(size=n)
    covariance = noise**2 * (np.eye(n) + 0.3 * (code[:, None] == code))
    error = rng.multivariate_normal(np.zeros(n), covariance)
    # readable features in units of their own
    return World(
        truth, truth + error, covariance, issue,
        [embedding, readable * [1e3, 1.0, 1e-3]],
    )  # fmt: skip


def test_without_text_the_hand_worked_case_is_that_of_plain_shrinking() -> None:
    """0, 3, 6 with variance 1: 8/9 is kept; posterior variance 25/27."""
    estimate = np.array([0.0, 3.0, 6.0])
    prior = fit_message_prior(
        estimate, np.eye(3), ["a"] * 3, [np.zeros((3, 2))], rng=np.random.default_rng(0)
    )
    found = prior.of_sent()
    np.testing.assert_allclose(found.mean, [1 / 3, 3, 17 / 3], atol=1e-5)
    np.testing.assert_allclose(found.se**2, 25 / 27, rtol=1e-4)
    np.testing.assert_allclose(prior.between_variance, 8.0, rtol=1e-4)
    np.testing.assert_allclose(
        found.mean, shrink(estimate, np.eye(3), ["a"] * 3)[0], atol=1e-5
    )


def test_text_that_tells_lowers_the_error_of_sent_messages() -> None:
    errors = []
    for seed in range(4):
        world = draw(seed)
        found = world.fit().of_sent().mean
        plain = shrink(world.estimate, world.covariance, world.issue)[0]
        errors.append(
            [((e - world.truth) ** 2).mean() for e in (world.estimate, plain, found)]
        )
    raw, pooled, told = np.mean(errors, axis=0)
    # noise 1.3 in all; own and text 2: pooled 0.7, with the text known 0.5
    assert told < pooled - 0.05
    assert pooled < raw - 0.2


@pytest.fixture(scope="module")
def unseen() -> tuple[World, MessagePrior, np.ndarray]:
    world = draw(10, n=240)
    kept, new = np.arange(180), np.arange(180, 240)
    return world, world.fit(kept), new


def test_messages_never_sent_are_ranked_by_their_text(unseen) -> None:
    world, prior, new = unseen
    assert prior.test.passed
    text = np.column_stack(world.text)[new]
    issue = [world.issue[i] for i in new]
    found = prior.of_new(text, issue)
    said = ~np.isnan(found.mean)
    assert said.mean() > 0.8
    within = []
    for name in ISSUES:
        mine = said & (np.array(issue) == name)
        within.append(np.corrcoef(found.mean[mine], world.truth[new][mine])[0, 1])
    # text is half of the variance: 0.7 were all of it learnt; 20 messages give ±0.2
    assert np.mean(within) > 0.4, within
    covered = np.abs(found.mean - world.truth[new])[said] < 1.96 * found.se[said]
    assert covered.mean() > 0.85


def test_a_message_never_sent_gets_a_wider_interval(unseen) -> None:
    world, prior, _ = unseen
    text = np.column_stack(world.text)
    again = prior.of_new(text[:180], world.issue[:180])
    assert (again.se > prior.of_sent().se).all()
    # what its text does not explain stays in it
    assert (again.se**2 > prior.between_variance.min()).all()


def test_weights_are_those_that_were_planted(unseen) -> None:
    """Variance 1 by the embedding, 0 by the readable block, 1 of its own."""
    prior = unseen[1]
    embedding, readable, own = prior.weight
    assert embedding == pytest.approx(1.0, abs=0.6)
    assert readable < 0.2
    assert own == pytest.approx(1.0, abs=0.5)


def test_noise_in_the_text_is_seldom_believed_and_then_nothing_is_said() -> None:
    passed = []
    for seed in range(40):
        world = draw(seed, n=45, told=0.0)
        prior = world.fit()
        passed.append(prior.test.passed)
        if not prior.test.passed:
            found = prior.of_new(np.column_stack(world.text)[:2], world.issue[:2])
            assert np.isnan(found.mean).all()
            assert np.isnan(found.se).all()
            np.testing.assert_array_equal(prior.weight[:-1], 0.0)
    # nominal .05: 40 draws give at most 6 with probability .99
    assert sum(passed) <= 6


def test_few_messages_are_not_asked() -> None:
    world = draw(0, n=MIN_MESSAGES - 1, noise=0.1, own=0.1)
    assert not world.fit().test.passed


def test_an_issue_never_sent_and_a_text_unlike_all_are_abstained_from(unseen) -> None:
    world, prior, _ = unseen
    text = np.column_stack(world.text)[:3].copy()
    text[1, :12] += 100.0
    found = prior.of_new(text, ["roads", "schools", "moon"])
    np.testing.assert_array_equal(np.isnan(found.mean), [False, True, True])
    np.testing.assert_array_equal(prior.far(text), [False, True, False])


def test_distance_is_that_of_the_loneliest_sent_message() -> None:
    """Sent at 0, 1 and 3: the last is 2 from its nearest, so 5 is near and 5.1 far."""
    place = np.array([[0.0], [1.0], [3.0]])
    prior = fit_message_prior(
        np.zeros(3), np.eye(3), ["a"] * 3, [place], rng=np.random.default_rng(0)
    )
    found = prior.far(np.array([[5.0], [5.1], [-2.0], [-2.1]]))
    np.testing.assert_array_equal(found, [False, True, False, True])


def test_messages_left_out_do_not_move_what_is_predicted_for_them() -> None:
    """Wild estimates of the held-out fold change the test, not by being learnt."""
    from hustings.training.learners.text_prior import text_ranks

    world = draw(3, n=60)
    prior = world.fit()
    held = np.arange(12)
    before = text_ranks(prior.sent, held)
    wild = SentMessages(
        np.where(np.arange(60) < 12, 1e3, world.estimate), world.covariance,
        prior.sent.pool, prior.sent.text, prior.sent.block,
    )  # fmt: skip
    np.testing.assert_allclose(text_ranks(wild, held), before)


def test_a_pool_where_messages_differ_more_is_shrunken_less() -> None:
    rng = np.random.default_rng(4)
    n = 200
    pool = ["calm", "stormy"] * (n // 2)
    truth = np.where(np.arange(n) % 2, 4.0, 0.5) * rng.normal(size=n)
    prior = fit_message_prior(
        truth + rng.normal(size=n), np.eye(n), pool, [rng.normal(size=(n, 2))],
        rng=np.random.default_rng(0),
    )  # fmt: skip
    calm, stormy = prior.between_variance
    assert stormy > 2 * calm


def test_noise_goes_by_the_number_of_people_worked_by_hand() -> None:
    """Shared 1; own 3, 1 and 0 of 1, 3 and 0 people.

    σ² = (3 × 1² + 1 × 3² + 0) / (1 + 3 + 0.01) = 12 / 4.01, nearly.
    """
    covariance = np.ones((3, 3)) + np.diag([3.0, 1.0, 0.0])
    found = even_noise(covariance, ["a"] * 3, np.array([1, 3, 0]))
    own = np.diag(found) - 1.0
    np.testing.assert_allclose(own, 12 / 4.01 / np.array([1, 3, 0.01]), rtol=1e-9)
    np.testing.assert_array_equal(found[0, 1:], 1.0)


def test_a_message_that_nobody_answered_has_the_effect_of_its_issue() -> None:
    world = draw(5, n=30)
    people = np.where(np.arange(30) == 4, 0, 16)
    noise = even_noise(world.covariance, world.issue, people)
    estimate = np.where(people > 0, world.estimate, -50.0)
    prior = fit_message_prior(
        estimate, noise, world.issue, world.text, rng=np.random.default_rng(0)
    )
    found = prior.of_sent()
    mine = [i for i in range(30) if i % 3 == 1 and i != 4]
    assert abs(found.mean[4] - found.mean[mine].mean()) < 2.5
    assert found.se[4] > found.se[mine].max()


def test_arrays_of_different_messages_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same messages, got lengths \[2, 3\]"):
        fit_message_prior(
            np.zeros(3), np.eye(3), ["a"] * 3, [np.zeros((2, 1))],
            rng=np.random.default_rng(0),
        )  # fmt: skip


def test_what_is_saved_says_the_same(unseen) -> None:
    world, prior, new = unseen
    again = MessagePrior.from_arrays(prior.pools, prior.arrays())
    text, issue = np.column_stack(world.text)[new], [world.issue[i] for i in new]
    np.testing.assert_array_equal(
        again.of_new(text, issue).mean, prior.of_new(text, issue).mean
    )
    assert again.test == prior.test


def test_one_message_is_left_as_it_is() -> None:
    prior = fit_message_prior(
        np.array([2.0]), np.eye(1), ["a"], [np.ones((1, 2))],
        rng=np.random.default_rng(0),
    )  # fmt: skip
    found = prior.of_sent()
    np.testing.assert_allclose([found.mean[0], found.se[0]], [2.0, 1.0], atol=1e-6)
    assert held_out_test(prior.sent, np.random.default_rng(0)).slope == 0

"""A panel made to look like the voter file, its overlap told."""

import numpy as np
import pytest

from hustings.features.tables import PRIORS, check
from hustings.training.learners.transport import Panel, poststratified, raked


def test_raking_two_groups_worked_by_hand() -> None:
    """Three young and one old; half of the voters are old: weights 2/3 and 2."""
    Z = np.array([[0.0], [0.0], [0.0], [1.0]])
    weight = raked(Z, np.ones(4), np.array([0.5]))
    np.testing.assert_allclose(weight, [2 / 3, 2 / 3, 2 / 3, 2], rtol=5e-3)


def test_survey_weights_are_kept_where_they_already_fit() -> None:
    Z = np.array([[0.0], [0.0], [1.0], [1.0]])
    given = np.array([0.5, 1.5, 0.5, 1.5])
    np.testing.assert_allclose(raked(Z, given, np.array([0.5])), given)


def panel_of(rng: np.random.Generator, n: int = 6_000) -> tuple[Panel, np.ndarray]:
    """Young and educated respondents; the message moves the old, 1 a SD of age.

    Returns:
        The panel, and the voter file it is to stand for: effect 2 on average.
    """
    voters = rng.normal(size=(20_000, 3)).astype(np.float32)
    voters[:, 2] = rng.integers(3, size=len(voters))
    X = rng.normal([-0.8, 0.5, 0.0], 1.0, size=(n, 3)).astype(np.float32)
    X[:, 2] = rng.integers(3, size=n)
    arm = rng.integers(2, size=n)
    lift = 2 + X[:, 0]
    Y = 3 * X[:, 1] + arm * lift + rng.normal(size=n)
    return Panel(X, arm, Y.astype(float), np.ones(n)), voters


def test_the_effect_is_that_of_the_voter_file_not_of_the_panel() -> None:
    rng = np.random.default_rng(1)
    panel, voters = panel_of(rng)
    naive = panel.Y[panel.arm == 1].mean() - panel.Y[panel.arm == 0].mean()
    assert naive < 1.5
    found = poststratified(panel, voters, (2,))
    assert found.effect[0] == pytest.approx(2.0, abs=3 * found.se[0])
    assert found.se[0] < 0.2
    assert found.overlap.worst_gap < 0.02
    assert found.weight.mean() == pytest.approx(1.0)


def test_intervals_cover_the_effect_in_the_voter_file() -> None:
    """100 panels: 95 % cover, give or take four standard errors of a share."""
    covered = 0
    for seed in range(100):
        panel, voters = panel_of(np.random.default_rng(seed), n=1_500)
        (interval,) = poststratified(panel, voters[:4_000], (2,)).intervals()
        covered += interval.low < 2.0 < interval.high
    assert covered >= 86


def test_a_panel_like_the_file_knows_as_much_as_it_has_people() -> None:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(4_000, 2)).astype(np.float32)
    panel = Panel(X, np.arange(4_000) % 2, rng.normal(size=4_000), np.ones(4_000))
    voters = rng.normal(size=(20_000, 2)).astype(np.float32)
    found = poststratified(panel, voters).overlap
    assert found.effective_n > 0.98 * found.n
    assert found.outside_share < 0.02


def test_voters_whom_nobody_in_the_panel_resembles_are_told() -> None:
    """A panel of the young; three voters in ten are far beyond the oldest of them."""
    rng = np.random.default_rng(3)
    X = rng.normal(-1, 0.5, size=(3_000, 1)).astype(np.float32)
    panel = Panel(X, np.arange(3_000) % 2, rng.normal(size=3_000), np.ones(3_000))
    voters = np.where(
        np.arange(10_000) < 3_000,
        rng.normal(6, 0.5, 10_000),
        rng.normal(-1, 0.5, 10_000),
    )
    found = poststratified(panel, voters[:, None].astype(np.float32)).overlap
    assert found.outside_share == pytest.approx(0.3, abs=0.02)
    assert found.effective_n < 0.7 * found.n


def test_the_field_effect_is_shrunken_and_widened_by_the_transport() -> None:
    panel, voters = panel_of(np.random.default_rng(1))
    found = poststratified(panel, voters, (2,))
    mean, variance = found.field_effect(transport=0.5, transport_sd=0.2)
    np.testing.assert_allclose(mean, 0.5 * found.effect)
    np.testing.assert_allclose(variance, 0.25 * found.se**2 + found.effect**2 * 0.04)
    rows = found.priors(("m0",), "pretest", transport=0.5, transport_sd=0.2)
    assert check(PRIORS, rows)["kind"].tolist() == ["panel"]


@pytest.mark.parametrize(
    ("arm", "weight", "words"),
    [
        ([0, 1, 0, 1], [1.0, 0.0, 1.0, 1.0], "expected survey weights above 0, got 0"),
        (
            [0, 0, 0, 1],
            [1.0] * 4,
            "expected at least 2 respondents in every arm, got 1",
        ),
    ],
)
def test_a_panel_that_says_nothing_is_refused(
    arm: list, weight: list, words: str
) -> None:
    X = np.arange(4.0, dtype=np.float32)[:, None]
    panel = Panel(X, np.array(arm), np.ones(4), np.array(weight))
    with pytest.raises(ValueError, match=words):
        poststratified(panel, X)

"""Each term and message is believed as far as all of them together support it."""

import numpy as np
import pytest

from hustings.training.learners import pooled
from hustings.training.learners.pooled import (
    Candidates,
    EffectMoments,
    TermPosterior,
    fit_pooled,
    sharing,
)

N_TERMS, N_MESSAGES = 20, 12


def draw(
    rng: np.random.Generator, coefficients: np.ndarray, *, n: int, sd: float
) -> EffectMoments:
    """Independent standard columns; messages share the noise of their controls."""
    p, m = coefficients.shape
    columns = rng.normal(size=(n, p))
    noise = sd**2 * (np.eye(m) + 0.5)
    lift = columns @ coefficients + rng.multivariate_normal(np.zeros(m), noise, n)
    return EffectMoments(columns.T @ columns, columns.T @ lift, noise, n)


def fitted(
    *moments: EffectMoments,
    issues: list[str] | None = None,
    group: np.ndarray | None = None,
) -> TermPosterior:
    p, m = moments[0].cross.shape
    group = np.arange(p) if group is None else group
    n_terms = int(group.max()) + 1
    alive = np.ones((len(moments), n_terms), dtype=bool)
    none = np.zeros(len(moments), np.int64)
    candidates = Candidates(group, np.ones(n_terms, np.int64), alive, {1: none})
    sd = float(np.sqrt(moments[0].noise[0, 0]))
    return fit_pooled(moments, candidates, sharing(issues or ["a"] * m), sd)


def world(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Coefficients (p, M) whose estimates have a standard error of about .09."""
    B = np.zeros((N_TERMS, N_MESSAGES))
    if kind == "of two messages":
        B[3, :2] = 0.6
    elif kind == "of one term":
        B[5] = rng.normal(0, 0.4, N_MESSAGES)
    elif kind == "shared":
        B[:4] = rng.normal(0, 0.3, (4, 1))
    elif kind == "dense":
        B[:] = rng.normal(0, 0.08, B.shape)
    return B


@pytest.mark.parametrize("kind", ["of two messages", "of one term", "shared", "dense"])
def test_what_is_predicted_comes_true_whatever_the_truth_is_like(kind: str) -> None:
    """Slope of the planted on the predicted coefficients, over eight worlds."""
    along, size, error, planted = 0.0, 0.0, 0.0, 0.0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        B = world(kind, rng)
        b = fitted(draw(rng, B, n=2_000, sd=4.0)).coefficients[0]
        along, size = along + (b * B).sum(), size + (b * b).sum()
        error, planted = error + ((b - B) ** 2).sum(), planted + (B * B).sum()
    assert 0.8 < along / size < 1.25
    assert error < {"dense": 0.95}.get(kind, 0.35) * planted


def test_a_term_of_two_messages_of_twelve_gets_its_due() -> None:
    rng = np.random.default_rng(1)
    B = world("of two messages", rng)
    found = fitted(draw(rng, B, n=2_000, sd=4.0))
    np.testing.assert_allclose(found.coefficients[0, 3, :2], 0.6, atol=0.2)
    assert np.abs(found.coefficients[0, 3, 2:]).max() < 0.15
    assert found.inclusion[0].argmax() == 3


def test_noise_alone_leaves_next_to_nothing_and_never_nothing_at_all() -> None:
    spreads = []
    for seed in range(10):
        moments = draw(
            np.random.default_rng(seed), np.zeros((N_TERMS, 3)), n=2_000, sd=4.0
        )
        b = fitted(moments).coefficients[0]
        spreads.append(np.sqrt((b**2).sum(axis=0).mean()))
        assert (b != 0).all()
    # least squares has .49
    assert np.mean(spreads) < 0.12


@pytest.mark.parametrize("sd", [4.0, 40.0, 400.0])
def test_the_larger_the_noise_the_less_is_predicted(sd: float) -> None:
    """Expected lift follows the outcome, not what the noise makes of estimates."""
    spreads = []
    for seed in range(6):
        moments = draw(np.random.default_rng(seed), np.zeros((40, 6)), n=1_000, sd=sd)
        none = np.zeros(1, np.int64)
        alive = np.ones((1, 40), dtype=bool)
        candidates = Candidates(np.arange(40), np.ones(40, np.int64), alive, {1: none})
        b = fit_pooled([moments], candidates, sharing(["a"] * 6), 4.0).coefficients[0]
        spreads.append((b**2).sum(axis=0).mean())
    # an outcome of SD 4: lifts of .2 are expected, whatever noise of rare messages adds
    assert np.sqrt(np.mean(spreads)) < 0.3


def test_what_other_fits_try_tells_a_fit_nothing() -> None:
    """Triples that another fit tries are no terms without effect for this one."""
    rng = np.random.default_rng(8)
    moments = draw(rng, world("shared", rng), n=2_000, sd=4.0)
    order = np.where(np.arange(N_TERMS) < 15, 1, 3)
    alive = np.ones((2, N_TERMS), dtype=bool)
    alive[0, 15:] = False
    untried = {1: np.zeros(2, np.int64), 3: np.array([2, 0])}
    shared = sharing(["a"] * N_MESSAGES)
    both = fit_pooled(
        [moments, moments], Candidates(np.arange(N_TERMS), order, alive, untried),
        shared, 4.0,
    )  # fmt: skip
    first = {o: n[:1] for o, n in untried.items()}
    alone = fit_pooled(
        [moments], Candidates(np.arange(N_TERMS), order, alive[:1], first), shared, 4.0
    )
    np.testing.assert_allclose(both.coefficients[0], alone.coefficients[0], atol=1e-12)


def test_pooling_pays_where_messages_are_alike_and_small() -> None:
    together, alone = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        B = np.tile(rng.normal(0, 0.15, (8, 1)), (1, 10))
        moments = draw(rng, B, n=1_500, sd=4.0)
        together.append(((fitted(moments).coefficients[0] - B) ** 2).mean())
        one = [
            fitted(
                moments._replace(
                    cross=moments.cross[:, [m]], noise=moments.noise[[m]][:, [m]]
                )
            ).coefficients[0, :, 0]
            for m in range(10)
        ]
        alone.append(((np.column_stack(one) - B) ** 2).mean())
    assert np.mean(together) < 0.6 * np.mean(alone)


def test_the_unit_of_the_outcome_changes_the_unit_of_the_answer_alone() -> None:
    rng = np.random.default_rng(2)
    moments = draw(rng, world("shared", rng), n=2_000, sd=4.0)
    scaled = moments._replace(cross=1e3 * moments.cross, noise=1e6 * moments.noise)
    one, other = fitted(moments), fitted(scaled)
    np.testing.assert_allclose(
        1e3 * one.coefficients, other.coefficients, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(one.inclusion, other.inclusion, atol=1e-6)


def test_fits_do_not_see_each_other() -> None:
    rng = np.random.default_rng(3)
    first = draw(rng, world("shared", rng), n=2_000, sd=4.0)
    second = draw(rng, world("of one term", rng), n=2_000, sd=4.0)
    both = fitted(first, second)
    np.testing.assert_allclose(
        both.coefficients[1], fitted(second).coefficients[0], atol=2e-3
    )


def test_a_term_that_a_fit_does_not_try_has_no_coefficients_there() -> None:
    rng = np.random.default_rng(4)
    moments = draw(rng, world("shared", rng), n=2_000, sd=4.0)
    alive = np.ones((2, N_TERMS), dtype=bool)
    alive[1, :4] = False
    candidates = Candidates(
        np.arange(N_TERMS), np.ones(N_TERMS, np.int64), alive, {1: np.array([0, 4])}
    )
    shared = sharing(["a"] * N_MESSAGES)
    found = fit_pooled([moments, moments], candidates, shared, 4.0)
    assert not found.coefficients[1, :4].any()
    assert (found.inclusion[1, :4] < 1e-12).all()
    assert found.coefficients[0, :4].any()


def test_intervals_hold_the_planted_coefficients() -> None:
    held = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        B = world("shared", rng) + world("of two messages", rng)
        moments = draw(rng, B, n=2_000, sd=4.0)
        found = fitted(moments)
        # along random voters, as an interval is read
        voters = rng.normal(size=(200, N_TERMS))
        directions, beside = found.directions(0, moments)
        along = np.tensordot(voters, directions, 1)
        variance = (along**2).sum(axis=2) + beside
        error = voters @ (found.coefficients[0] - B)
        held.append(np.mean(np.abs(error) < 1.96 * np.sqrt(variance)))
    assert 0.9 < np.mean(held) < 0.99


def held_by_intervals(n: int) -> float:
    """Share of lifts within their intervals where every term moves a little.

    Lifts differ by .02 to .14 of the outcome's SD, as in the worlds of the bench.
    """
    held = []
    for seed, share in enumerate(2 * [0.02, 0.05, 0.08, 0.11, 0.14]):
        rng = np.random.default_rng(seed)
        sd = share * 4.0 / np.sqrt(N_TERMS)
        B = sd * rng.normal(size=(N_TERMS, N_MESSAGES))
        moments = draw(rng, B, n=n, sd=4.0)
        posterior = fitted(moments)
        directions, beside = posterior.directions(0, moments)
        voters = rng.normal(size=(200, N_TERMS))
        along = np.tensordot(voters, directions, 1)
        variance = (along**2).sum(axis=2) + beside
        error = voters @ (posterior.coefficients[0] - B)
        held.append(np.mean(np.abs(error) < 1.96 * np.sqrt(variance)))
    return float(np.mean(held))


@pytest.mark.parametrize("n", [300, 2_000])
def test_intervals_hold_lifts_that_are_sums_of_many_small_effects(
    monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    assert 0.93 < held_by_intervals(n) < 0.98
    # what the prior of few terms is sure of by itself
    monkeypatch.setattr(pooled, "unexpected_variance", lambda *_: 0.0)
    assert held_by_intervals(n) < 0.9


def test_an_issue_shares_what_others_do_not() -> None:
    rng = np.random.default_rng(5)
    issues = ["roads"] * 6 + ["schools"] * 6
    B = np.zeros((N_TERMS, N_MESSAGES))
    B[2, :6] = 0.3
    found = fitted(draw(rng, B, n=2_000, sd=4.0), issues=issues).coefficients[0, 2]
    assert found[:6].min() > 0.15
    assert np.abs(found[6:]).max() < 0.15


def test_who_shares_is_all_and_the_issues_of_several() -> None:
    found = sharing(["a", "a", "b", "c", "c"])
    assert found.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert sharing(["a"]).shape == (0, 1)
    assert sharing(["a", "a"]).tolist() == [[1, 1]]


def test_fits_that_still_move_after_the_most_sweeps_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(5)
    moved = draw(rng, world("shared", rng), n=2_000, sd=4.0)
    still = moved._replace(cross=np.zeros_like(moved.cross))
    assert fitted(moved, still).n_unsettled == 0
    monkeypatch.setattr(pooled, "MAX_SWEEPS", 2)
    # of no lift at all there is nothing to search
    assert fitted(moved, still).n_unsettled == 1

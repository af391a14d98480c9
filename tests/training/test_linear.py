"""Columns, selection and folds of the linear lift model."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from hustings.training.learners import linear
from hustings.training.learners.basis import Basis, Shape, raw_columns, term_width
from hustings.training.learners.linear import DEFAULT_LINEAR, LinearFit, fit_linear


def draw(
    rng: np.random.Generator,
    lift: Callable[[np.ndarray], np.ndarray],
    *,
    n: int = 8_000,
    sd: float = 3.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two numbers, a switch, a category and noise; X, true lift, scores and S."""
    X = np.column_stack(
        [
            rng.normal(size=n), rng.uniform(20, 90, n), rng.integers(2, size=n),
            rng.integers(3, size=n), rng.normal(size=n),
        ]
    ).astype(np.float32)  # fmt: skip
    true = lift(X.astype(np.float64))
    noise = sd**2 * (np.eye(true.shape[1]) + 0.3)
    scores = true + rng.multivariate_normal(np.zeros(true.shape[1]), noise, n)
    return X, true, scores, noise


def fitted(X: np.ndarray, scores: np.ndarray, S: np.ndarray, **changed: float):
    fold = np.random.default_rng(0).integers(4, size=len(X))
    m = scores.shape[1]
    params = {**DEFAULT_LINEAR, **changed}
    sd = float(np.sqrt(S[0, 0]))
    fit = fit_linear(X, scores, S, fold, ["a"] * m, [3], params, outcome_sd=sd)
    return fit, fold


def steps(X: np.ndarray) -> np.ndarray:
    """A switch that works in one category only, and a bend in age."""
    both = X[:, 2] * (X[:, 3] == 1)
    bend = np.maximum(X[:, 1] - 60, 0) / 15
    return np.column_stack([2.5 * both, bend, 0 * both])


def test_products_and_bends_are_found() -> None:
    X, true, scores, S = draw(np.random.default_rng(1), steps, n=20_000)
    fit, fold = fitted(X, scores, S)
    assert (2, 3) in fit.basis.terms
    for voters in (None, fold):
        error = fit.deviation(X, voters) - (true - true.mean(axis=0))
        assert (error**2).mean() < 0.1 * true.var(axis=0).mean()


def test_nothing_is_found_where_nothing_is() -> None:
    spreads = []
    for seed in range(5):
        X, _, scores, S = draw(
            np.random.default_rng(seed), lambda X: np.zeros((len(X), 3))
        )
        spreads.append(fitted(X, scores, S)[0].deviation(X, None).std(axis=0).max())
    # a standard error of the effect in half of the voters is 0.08
    assert np.mean(spreads) < 0.06


def test_a_few_people_who_reacted_are_given_no_lift_out_of_nothing() -> None:
    """Linked reactions: one voter in fifty has any, one in hundreds has two kinds.

    Their products, scaled to variance 1, gave such voters 60 points of a null test.
    """
    largest = []
    for seed in (1, 4, 6):
        rng = np.random.default_rng(seed)
        X, _, scores, S = draw(rng, lambda X: np.zeros((len(X), 3)), n=5_000, sd=50.0)
        reacted = (rng.random((5_000, 1)) < 0.02) & (rng.random((5_000, 4)) < 0.5)
        sizes = rng.choice([0.6, 0.65, 0.7, 0.8, 0.9, 1.6, 1.8, 2.2, 2.5], (5_000, 4))
        X = np.column_stack([X[:, :3], reacted * sizes]).astype(np.float32)
        fit, _ = fitted(X, scores, S)
        deviation = np.abs(fit.deviation(X, None))
        assert all(sum(f > 2 for f in term) < 2 for term in fit.basis.terms)
        largest.append(deviation[reacted.any(axis=1)].max())
    # a hundred people's own standard error is 14
    assert max(largest) < 20, largest


def test_a_count_of_what_is_rare_keeps_its_usual_size() -> None:
    """One voter in twenty has a count, one of these a huge one."""
    x = np.zeros(4_000, dtype=np.float32)
    x[:200] = np.linspace(1, 2, 200)
    x[0] = 500
    shape = Shape.of(x, categorical=False)
    assert shape.fine == pytest.approx((0, 1.5), abs=0.01)
    assert (shape.columns(x, coarse=False)[1][:200] > 0.6).all()


def test_intervals_cover_the_planted_lift() -> None:
    covered = []
    for seed in range(6):
        X, true, scores, S = draw(np.random.default_rng(seed), steps, n=6_000)
        fit, fold = fitted(X, scores, S)
        se = np.sqrt(fit.moments(X, fold)[1])
        error = fit.deviation(X, fold) - (true - true.mean(axis=0))
        covered.append((np.abs(error) < 1.96 * se).mean())
    assert 0.88 < np.mean(covered) < 0.995, covered


def test_a_voter_is_predicted_by_a_fit_that_never_saw_its_fold() -> None:
    X, _, scores, S = draw(np.random.default_rng(2), steps, n=6_000)
    fit, fold = fitted(X, scores, S)
    wild = np.where((fold == 1)[:, None], scores + 40 * X[:, [2]], scores)
    again, _ = fitted(X, wild, S)
    before, after = fit.deviation(X, fold), again.deviation(X, fold)
    # the scale of columns and what is centred off come from everybody; fits do not
    np.testing.assert_allclose(before[fold == 1], after[fold == 1], atol=1e-4)
    assert np.abs(before - after)[fold != 1].max() > 1


def test_stored_and_read_again_it_predicts_the_same() -> None:
    X, _, scores, S = draw(np.random.default_rng(3), steps, n=4_000)
    fit, fold = fitted(X, scores, S)
    again = LinearFit.from_json(json.loads(json.dumps(fit.to_json())))
    for voters in (None, fold):
        np.testing.assert_array_equal(
            fit.deviation(X, voters), again.deviation(X, voters)
        )
        deviation, variance = fit.moments(X, voters)
        np.testing.assert_array_equal(deviation, fit.deviation(X, voters))
        np.testing.assert_array_equal(variance, again.moments(X, voters)[1])


def test_missing_and_unseen_values_get_a_finite_deviation() -> None:
    X, _, scores, S = draw(np.random.default_rng(4), steps, n=4_000)
    fit, _ = fitted(X, scores, S)
    strange = np.array([[np.nan] * 5, [1e9, -1e9, 7, 99, 0]], dtype=np.float32)
    assert np.isfinite(fit.deviation(strange, None)).all()
    assert np.isfinite(fit.moments(strange, None)[1]).all()


@pytest.mark.parametrize("n_features", [1, 3, 40])
def test_any_number_of_features_is_fitted(n_features: int) -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(2_000, n_features)).astype(np.float32)
    scores = 3 * X[:, :1] * np.ones(2) + rng.normal(0, 3, (2_000, 2))
    fold = rng.integers(4, size=2_000)
    fit = fit_linear(
        X, scores, 9 * np.eye(2), fold, ["a", "b"], [], DEFAULT_LINEAR, outcome_sd=3.0
    )
    assert np.corrcoef(fit.deviation(X, fold)[:, 0], X[:, 0])[0, 1] > 0.9


def test_of_many_features_the_last_may_be_carried_by_few() -> None:
    """More columns than are tried at once, no product, and a last term without any."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(800, 110)).astype(np.float32)
    X[:, 108:] = rng.random((800, 2)) < 0.01
    scores, fold = rng.normal(0, 3, (800, 1)), rng.integers(2, size=800)
    no_products = {**DEFAULT_LINEAR, "screen": 99.0}
    fit = fit_linear(
        X, scores, 9 * np.eye(1), fold, ["a"], [], no_products, outcome_sd=3.0
    )
    assert fit.deviation(X, None).std() < 0.5


def test_no_features_that_vary_give_no_deviation() -> None:
    rng = np.random.default_rng(6)
    X = np.full((500, 2), np.nan, dtype=np.float32)
    X[:, 1] = 3
    fold = rng.integers(4, size=500)
    fit = fit_linear(
        X, rng.normal(size=(500, 1)), np.eye(1), fold, ["a"], [], outcome_sd=1.0
    )
    assert not fit.deviation(X, None).any()


def test_products_of_three_stay_within_what_voters_can_tell_apart() -> None:
    """Six planted pairs would give 74 triples and thousands of columns."""
    rng = np.random.default_rng(9)
    n = 2_000
    X = rng.normal(size=(n, 12)).astype(np.float32)
    lift = np.column_stack([sum(X[:, 2 * k] * X[:, 2 * k + 1] for k in range(6))] * 2)
    widths = []
    triples = linear._triples

    class CountedError(Exception):
        """What follows is the costly part, and has no say."""

    def counted(chosen, shapes, most):
        found = triples(chosen, shapes, most)
        widths.extend(sum(term_width(shapes, t) for t in fit) for fit in found)
        raise CountedError

    lift = lift + rng.normal(0, 1, (n, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_triples", counted)
        with pytest.raises(CountedError):
            fitted(X, lift, np.eye(2))
    assert 0 < max(widths) <= n // linear.VOTERS_PER_COLUMN


def test_hats_add_up_to_one_and_bend_only_at_the_knots() -> None:
    x = np.linspace(-3, 3, 301).astype(np.float32)
    shape = Shape.of(x, categorical=False)
    hats = shape.columns(x, coarse=False)
    np.testing.assert_allclose(hats.sum(axis=0), 1.0, atol=1e-6)
    # a straight line is one of the things that they can say
    line = np.array(shape.fine) @ hats
    np.testing.assert_allclose(line, x, atol=1e-5)


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        [0, 1], [0, 1, np.nan], [3], [np.nan], [1, 2, 3, 4], list(range(9)),
        [*range(9), np.nan], [5, np.nan],
    ],
)  # fmt: skip
@pytest.mark.parametrize("categorical", [True, False])
def test_the_columns_of_a_feature_are_counted_without_making_them(
    values: list[float], *, coarse: bool, categorical: bool
) -> None:
    x = np.tile(np.array(values, dtype=np.float32), 40)
    shape = Shape.of(x, categorical=categorical)
    assert shape.n_columns(coarse=coarse) == len(shape.columns(x, coarse=coarse))


def test_a_product_is_the_product_of_its_features() -> None:
    X = np.array([[0, 0], [1, 0], [0, 2], [1, 2]], dtype=np.float32)
    many = np.tile(X, (50, 1))
    shapes = [Shape.of(many[:, j], categorical=True) for j in range(2)]
    product = raw_columns(shapes, [(0, 1)], X)
    assert product.shape == (1, 4)
    one_each = [s.levels[-1] for s in shapes]
    expected = (X[:, 0] == one_each[0]) & (X[:, 1] == one_each[1])
    np.testing.assert_array_equal(product[0], expected)


def test_a_basis_of_some_terms_has_their_columns() -> None:
    X, _, scores, S = draw(np.random.default_rng(7), steps, n=2_000)
    basis: Basis = fitted(X, scores, S)[0].basis
    few = basis.only([0, len(basis.terms) - 1])
    kept = np.isin(basis.group, [0, len(basis.terms) - 1])
    np.testing.assert_array_equal(few.raw(X), basis.raw(X)[kept])

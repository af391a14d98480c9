"""A family of simulated message tests with known truth, drawn from a declared prior.

    world(seed, kind="rare12", most_rows=100_000) -> DataSet

A world is a pure function of its seed. Its settings come first (`draw_settings`), then
its people, its lifts, its design and its outcomes, each from a stream of its own: the
same seed with fewer rows is a smaller sample of a world with the same settings.

Notation, for voter i and message m:

    x_i     covariates, shape (n, p)
    f_k(x)  features that lifts depend on: a covariate, a step of one, a product of two;
            of mean 0 in the world; a missing value counts as the average; rare
            covariates matter only where all do
    t_m(x)  lift in points: mean_m + sum_k f_k(x) w_km
    b(x)    expected outcome without a message
    Y_i     b(x_i) + t_m(x_i) + noise (continuous, points), or 1 with that probability

so E[Y | x, m] = b + t_m holds exactly: where the outcome is binary, b(x) leaves room
for every lift of the voter, and nothing is clipped.

The prior, world by world:

    kind                 KIND_SHARES, unless it is given
    rows                 log-uniform on ROWS, its upper end lowered to `most_rows`
    messages             log-uniform on MESSAGES
    propensity           control uniform on CONTROL_SHARE, the rest even, or in half of
                         the worlds uneven (Dirichlet); every message within PROPENSITY
    outcome              binary in half of the worlds
    mean lift            world -> issue -> message, Beta on MEAN_POINTS, mean 5/3 points
    heterogeneity        root mean square over the messages that have any of the SD
                         between voters: uniform on HETEROGENEITY_POINTS
    covariates           log-uniform on COLUMNS; kinds by COLUMN_SHARES, the first five
                         one of each; a fifth of them have gaps
    households           in a third of the worlds; half of these are drawn by household
    missing outcomes     in a quarter of the worlds, more of them at higher b(x)
    costs                1 each, or in half of the worlds log-uniform on COSTS
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from hustings.features.arrays import Bools, Floats, Floats32, Ints
from hustings.features.training_set import Arm, MessageTest
from tests.speed.peers.data_sets import DataSet, Truth

KIND_SHARES = {
    "none": 0.10,  # no lift at all
    "flat": 0.15,  # lifts, the same for everyone
    "shared": 0.20,  # few features, much the same for all messages
    "private": 0.20,  # few features, each of one or two messages
    "dense": 0.20,  # every covariate, partly shared
    "backlash": 0.15,  # few features, and a group that a third of the messages repel
}
RARE12 = "rare12"
"""12 messages at propensity .05: mean lifts of 1 to 3 points, SD of 1 to 2."""
KINDS = (*KIND_SHARES, RARE12)
NULL_KINDS = ("none", "flat")

ROWS = (1_000, 1_000_000)
LEAST_RARE12_ROWS = 100_000
MESSAGES = (2, 50)
CONTROL_SHARE = (0.1, 0.5)
PROPENSITY = (0.01, 0.5)
MEAN_POINTS = (0.0, 5.0)
HETEROGENEITY_POINTS = (0.25, 3.0)
COLUMNS = (5, 200)
COLUMN_SHARES = {
    "numeric": 0.35, "skewed": 0.2, "category": 0.2, "binary": 0.15, "rare": 0.1,
}  # fmt: skip
RARE_SHARE = 0.01
GAPS = (0.2, (0.02, 0.3))
"""Share of the columns that have gaps, and the share of values that they lack."""
COSTS = (1.0, 20.0)
HOUSEHOLD_SHARES = (0.38, 0.40, 0.14, 0.08)
HOUSEHOLD_CORRELATION = 0.2
MISSING_OUTCOMES = (0.05, 0.4)
MOST_FEATURES = 5
"""Features of a world in which few matter."""
N_RARE12_FEATURES, LEAST_RARE12_COLUMNS = 12, 30
FLAT_RARE12 = 2
"""Messages of `rare12` that move everyone alike."""
LARGEST_LIFT = 40.0
"""Points: heterogeneity is scaled down where anybody would be moved by more."""


class Settings(NamedTuple):
    """What a world is drawn with; M messages.

    Attributes:
        kind: One of `KINDS`.
        n_rows: Voters.
        propensities: Of control and every message, shape (1 + M,).
        issue: Issue of every message as a code, shape (M,).
        mean_points: Mean lift of every message, shape (M,).
        heterogeneity_points: See the module; 0 where there is none.
        sharing: Correlation of a feature's weights between messages.
        n_columns: Covariates.
        binary: Whether the outcome is 0 or 1; else points of a scale of 100.
        households: Whether voters live in households.
        drawn_by_household: Whether a household shares its arm.
        missing_outcomes: Share of the outcomes that are missing.
        cost: Of every message, shape (M,).
    """

    kind: str
    n_rows: int
    propensities: Floats
    issue: Ints
    mean_points: Floats
    heterogeneity_points: float
    sharing: float
    n_columns: int
    binary: bool
    households: bool
    drawn_by_household: bool
    missing_outcomes: float
    cost: Floats


class People(NamedTuple):
    """Covariates; n voters, p columns.

    Attributes:
        X: As a tool sees them, NaN where missing, shape (n, p).
        Z: Standardised, 0 where missing, within 3 SD but for rare ones, shape (n, p).
        names: Kind and number of each column.
        categorical: Columns that hold codes.
    """

    X: Floats32
    Z: Floats32
    names: tuple[str, ...]
    categorical: tuple[int, ...]


def world(seed: int, *, kind: str | None = None, most_rows: int = 100_000) -> DataSet:
    """One world of the family.

    Args:
        seed: Settles everything.
        kind: One of `KINDS`; None draws one by `KIND_SHARES`.
        most_rows: Upper end of the rows, at least `ROWS[0]`.

    Raises:
        ValueError: If there is no such kind, or fewer rows than the family has.
    """
    settings = draw_settings(seed, kind=kind, most_rows=most_rows)
    people_rng, lift_rng, design_rng, outcome_rng = _streams(seed)[1:]
    people = _people(settings, people_rng)
    truth = _truth(settings, people, lift_rng)
    household, arm = _design(settings, design_rng)
    Y = _outcome(settings, people, truth.lift, household, arm, outcome_rng)
    row = np.arange(settings.n_rows)
    drawn = household if settings.drawn_by_household else row
    messages = tuple(f"message_{m:02d}" for m in range(len(settings.cost)))
    test = MessageTest(
        experiment_id=_name(seed, settings.kind),
        arms=tuple(Arm(m, "any") for m in messages),
        voter_id=np.array([f"V{i}" for i in row], dtype=object),
        unit=household,
        unit_id=np.array([f"U{u}" for u in household], dtype=object),
        household=household,
        drawn=drawn,
        block=np.zeros(settings.n_rows, dtype=np.int64),
        X=people.X,
        arm=arm,
        Y=Y,
        propensities=np.tile(settings.propensities, (settings.n_rows, 1)),
    )
    return DataSet(
        name=_name(seed, settings.kind),
        test=test,
        features=people.names,
        categorical=people.categorical,
        issue_of={
            m: f"issue_{i}" for m, i in zip(messages, settings.issue, strict=True)
        },
        cost=settings.cost,
        spends=_spends(settings),
        points=100.0 if settings.binary else 1.0,
        null=settings.kind in NULL_KINDS,
        truth=truth,
    )


def draw_settings(
    seed: int, *, kind: str | None = None, most_rows: int = 100_000
) -> Settings:
    """What the world of this seed is drawn with, without drawing it.

    Args:
        seed: As for `world`.
        kind: As for `world`.
        most_rows: As for `world`.

    Raises:
        ValueError: If there is no such kind, or fewer rows than the family has.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"expected a kind of {', '.join(KINDS)}, got {kind!r}")
    if most_rows < ROWS[0]:
        raise ValueError(f"expected at least {ROWS[0]} as most_rows, got {most_rows}")
    rng = _streams(seed)[0]
    drawn_kind = rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values()))
    kind = str(drawn_kind) if kind is None else kind
    rare12 = kind == RARE12
    least = LEAST_RARE12_ROWS if rare12 else ROWS[0]
    n_rows = _log_uniform(rng, min(least, most_rows), min(ROWS[1], most_rows))
    n_messages = int(_log_uniform(rng, MESSAGES[0], MESSAGES[1] + 1))
    n_messages = 12 if rare12 else n_messages
    propensities = _propensities(n_messages, rng)
    if rare12:
        propensities = np.array([0.40, *[0.05] * n_messages])
    issue = rng.integers(rng.integers(1, 5), size=n_messages)
    mean_points = _mean_points(issue, rng)
    if rare12:
        mean_points = rng.uniform(1.0, 3.0, n_messages)
    heterogeneity = rng.uniform(*HETEROGENEITY_POINTS)
    sharing = rng.uniform(0.5, 1.0) if kind == "shared" else rng.uniform(0.0, 1.0)
    n_columns = int(_log_uniform(rng, COLUMNS[0], COLUMNS[1] + 1))
    binary = bool(rng.random() < 0.5)
    households = bool(rng.random() < 1 / 3)
    by_household = bool(rng.random() < 0.5)
    lacks = rng.random() < 0.25
    missing = rng.uniform(*MISSING_OUTCOMES)
    unequal = rng.random() < 0.5
    cost = _log_uniform(rng, *COSTS, size=n_messages).round(2)
    return Settings(
        kind=kind,
        n_rows=round(float(n_rows)),
        propensities=propensities,
        issue=issue,
        mean_points=0.0 * mean_points if kind == "none" else mean_points,
        heterogeneity_points=0.0 if kind in NULL_KINDS else float(heterogeneity),
        sharing=float(sharing),
        n_columns=max(n_columns, LEAST_RARE12_COLUMNS) if rare12 else n_columns,
        binary=binary,
        households=households,
        drawn_by_household=households and by_household,
        missing_outcomes=float(missing) if lacks else 0.0,
        cost=cost if unequal and not rare12 else np.ones(n_messages),
    )


def _streams(seed: int) -> list[np.random.Generator]:
    """Of settings, people, lifts, design and outcomes."""
    return np.random.default_rng([20261130, seed]).spawn(5)


def _name(seed: int, kind: str) -> str:
    return f"world_{kind}_{seed}"


def _log_uniform(
    rng: np.random.Generator, low: float, high: float, size: int | None = None
) -> Floats:
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), size)))


def _spends(settings: Settings) -> tuple[float, ...]:
    if settings.kind == RARE12:
        return (0.1, 0.3, 0.6)
    return (float(round(settings.cost.mean() / 2, 4)),)


def _propensities(n_messages: int, rng: np.random.Generator) -> Floats:
    """Of control and every message, every message within `PROPENSITY`."""
    least, most = PROPENSITY
    control = rng.uniform(*CONTROL_SHARE)
    share = np.full(n_messages, 1 / n_messages)
    weights = rng.dirichlet(np.full(n_messages, 2.0))
    if rng.random() < 0.5:
        share = weights
    message = least + (1 - control - least * n_messages) * share
    even = (1 - control) / n_messages
    if message.max() > most:
        message = even + (message - even) * (most - even) / (message.max() - even)
    return np.array([control, *message])


def _mean_points(issue: Ints, rng: np.random.Generator) -> Floats:
    """World, issue, message: each a Beta around the one above, on `MEAN_POINTS`."""
    low, high = MEAN_POINTS
    around = _log_uniform(rng, 2.0, 50.0)

    def beta(mean: float | Floats, size: int) -> Floats:
        mean = np.clip(mean, 1e-3, 1 - 1e-3)
        return rng.beta(around * mean, around * (1 - mean), size)

    by_issue = beta(rng.beta(1.0, 2.0), int(issue.max()) + 1)
    return low + (high - low) * beta(by_issue[issue], len(issue))


def _people(settings: Settings, rng: np.random.Generator) -> People:
    """Covariates that share two factors, kind by kind."""
    n, p = settings.n_rows, settings.n_columns
    kinds = list(COLUMN_SHARES)
    column_kind = kinds + list(
        rng.choice(kinds, size=p - len(kinds), p=list(COLUMN_SHARES.values()))
    )
    factors = rng.normal(size=(n, 2)).astype(np.float32)
    X, Z = np.empty((n, p), np.float32), np.empty((n, p), np.float32)
    for j, kind in enumerate(column_kind):
        loads = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
        own = np.sqrt(1 - loads @ loads)
        latent = factors @ loads + own * rng.normal(size=n).astype(np.float32)
        X[:, j], Z[:, j] = _column(kind, latent, rng)
        has_gaps, share = rng.random() < GAPS[0], rng.uniform(*GAPS[1])
        if has_gaps:
            gap = rng.random(n) < share
            X[gap, j], Z[gap, j] = np.nan, 0.0
    return People(
        X, Z, tuple(f"{kind}_{j}" for j, kind in enumerate(column_kind)),
        tuple(j for j, kind in enumerate(column_kind) if kind == "category"),
    )  # fmt: skip


def _column(
    kind: str, latent: Floats32, rng: np.random.Generator
) -> tuple[Floats32, Floats32]:
    """A column as it is seen, and standardised, from a standard normal."""
    if kind in ("numeric", "skewed"):
        seen = latent if kind == "numeric" else np.exp(0.8 * latent)
        return seen, np.clip((seen - seen.mean()) / seen.std(), -3, 3)
    if kind == "category":
        share = np.sort(rng.dirichlet(np.full(rng.integers(3, 9), 2.0)))[::-1]
        edges = ndtri(np.clip(np.cumsum(share)[:-1], 1e-9, 1 - 1e-9))
        code = np.searchsorted(edges, latent)
        level = rng.normal(size=len(share))
        of_level = (level - share @ level) / np.sqrt(
            share @ (level - share @ level) ** 2
        )
        return code.astype(np.float32), of_level[code].astype(np.float32)
    share_of_ones = RARE_SHARE if kind == "rare" else rng.uniform(0.2, 0.8)
    ones = (latent > ndtri(1 - share_of_ones)).astype(np.float32)
    sd = np.sqrt(share_of_ones * (1 - share_of_ones))
    return ones, ((ones - share_of_ones) / sd).astype(np.float32)


def _truth(settings: Settings, people: People, rng: np.random.Generator) -> Truth:
    """Lifts as a weighted sum of features, the first of them 1 for everybody."""
    features = _features(settings, people, rng)
    n_messages = len(settings.cost)
    weights = _weights(settings, features.shape[1], rng)
    weights = _scaled(settings, features, weights, rng)
    if settings.kind == "backlash":
        group, repels = _repelled(settings, people, rng)
        features = np.column_stack([features, group])
        weights = np.vstack([weights, repels])
    groups = np.column_stack([np.ones(settings.n_rows), features])
    weights = np.vstack([settings.mean_points, weights]).reshape(-1, n_messages)
    lift = groups @ weights
    largest = np.abs(lift).max()
    if largest > LARGEST_LIFT:
        weights[1:] *= (LARGEST_LIFT - MEAN_POINTS[1]) / largest
        lift = groups @ weights
    return Truth(lift, groups, weights)


def _features(settings: Settings, people: People, rng: np.random.Generator) -> Floats:
    """What lifts depend on, mean 0 and SD 1, shape (n, K)."""
    Z = people.Z
    if settings.kind in NULL_KINDS:
        return np.empty((settings.n_rows, 0))
    if settings.kind == "dense":
        return _standardised(Z.astype(np.float64))
    n_features = int(rng.integers(1, MOST_FEATURES + 1))
    if settings.kind == RARE12:
        n_features = N_RARE12_FEATURES
    # a hundredth of the voters would have to be moved by ten times as much
    common = [j for j, name in enumerate(people.names) if not name.startswith("rare")]
    columns = rng.permutation(common)[:n_features]
    found = np.empty((settings.n_rows, len(columns)))
    for k, j in enumerate(columns):
        form, other = rng.random(), rng.choice(common)
        found[:, k] = Z[:, j]
        if form < 0.25:
            found[:, k] = Z[:, j] * Z[:, other]
        elif form < 0.5 and people.names[j].startswith(("numeric", "skewed")):
            found[:, k] = Z[:, j] > np.quantile(Z[:, j], rng.uniform(0.2, 0.8))
    return _standardised(found)


def _standardised(features: Floats) -> Floats:
    centred: Floats = features - features.mean(axis=0)
    scaled: Floats = centred / np.maximum(centred.std(axis=0), 1e-9)
    return scaled


def _weights(settings: Settings, n_features: int, rng: np.random.Generator) -> Floats:
    """Of every feature for every message before they are scaled, shape (K, M)."""
    shape = n_features, len(settings.cost)
    own: Floats = rng.normal(size=shape)
    common = rng.normal(size=(n_features, 1))
    if settings.kind == "private":
        weights: Floats = own * _few_messages(shape, 2, rng)
    elif settings.kind == RARE12:
        moved = _few_messages((shape[0], shape[1] - FLAT_RARE12), 3, rng)
        # every message but the flat ones has a feature that is its own
        moved[np.arange(moved.shape[1]), np.arange(moved.shape[1])] = True
        weights = own * np.column_stack([moved, np.zeros((shape[0], FLAT_RARE12))])
    else:
        share = settings.sharing
        weights = np.sqrt(share) * common + np.sqrt(1 - share) * own
    return weights


def _few_messages(shape: tuple[int, int], most: int, rng: np.random.Generator) -> Bools:
    """Which messages a feature matters to: 1 to `most` of them, shape (K, M)."""
    rank = rng.random(shape).argsort(axis=1).argsort(axis=1)
    return np.asarray(rank < rng.integers(1, most + 1, size=(shape[0], 1)))


def _scaled(
    settings: Settings, features: Floats, weights: Floats, rng: np.random.Generator
) -> Floats:
    """Weights with the declared heterogeneity."""
    sd = (features @ weights).std(axis=0)
    moved = sd > 1e-9
    if not moved.any():
        return weights
    if settings.kind == RARE12:
        goal = rng.uniform(1.0, 2.0, len(sd))
        factor = np.where(moved, goal / np.where(moved, sd, 1.0), 0.0)
    else:
        factor = settings.heterogeneity_points / np.sqrt(np.mean(sd[moved] ** 2))
    scaled: Floats = weights * factor
    return scaled


def _repelled(
    settings: Settings, people: People, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """A group of a tenth to three tenths of the voters that some messages repel.

    Its members' mean lift by these messages is -2 to -5 points.

    Returns:
        The group less its share, shape (n,), and its weights, shape (M,).
    """
    edge = np.quantile(people.Z[:, 0], 1 - rng.uniform(0.1, 0.3))
    group = (people.Z[:, 0] > edge).astype(np.float64)
    n_messages = len(settings.cost)
    chosen = rng.permutation(n_messages)[: max(1, n_messages // 3)]
    loss = rng.uniform(2.0, 5.0, len(chosen))
    weights = np.zeros(n_messages)
    weights[chosen] = -(settings.mean_points[chosen] + loss) / (1 - group.mean())
    return group - group.mean(), weights


def _design(settings: Settings, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Household and arm of every voter, shape (n,) each."""
    n = settings.n_rows
    row = np.arange(n, dtype=np.int64)
    sizes = rng.choice(len(HOUSEHOLD_SHARES), size=n, p=HOUSEHOLD_SHARES) + 1
    household = np.repeat(row, sizes)[:n] if settings.households else row
    edges = np.cumsum(settings.propensities)[:-1]
    arm = np.searchsorted(edges, rng.random(n), side="right").astype(np.int64)
    return household, arm[household] if settings.drawn_by_household else arm


def _outcome(
    settings: Settings,
    people: People,
    lift: Floats,
    household: Ints,
    arm: Ints,
    rng: np.random.Generator,
) -> Floats:
    """Outcomes in their own units, NaN where missing, shape (n,)."""
    n = settings.n_rows
    index = people.Z @ rng.normal(size=settings.n_columns).astype(np.float32)
    # a bend, so that no straight line is the whole of it
    index = index / max(float(index.std()), 1e-9) + 0.5 * (people.Z[:, 1] > 0.5)
    index = (index - index.mean()) / index.std()
    own, shared = rng.normal(size=n), rng.normal(size=n)[household]
    rho = HOUSEHOLD_CORRELATION if settings.households else 0.0
    noise = np.sqrt(rho) * shared + np.sqrt(1 - rho) * own
    lifted = np.column_stack([np.zeros(n), lift])[np.arange(n), arm]
    base_rate, strength = rng.uniform(0.1, 0.9), rng.uniform(0.3, 1.5)
    middle, noise_sd = rng.uniform(30.0, 70.0), rng.uniform(15.0, 25.0)
    explained = rng.uniform(0.05, 0.5)
    if settings.binary:
        low = np.maximum(0.0, -lift.min(axis=1)) / 100
        high = np.maximum(0.0, lift.max(axis=1)) / 100
        room = 0.98 - low - high
        without = low + 0.01 + room * expit(logit(base_rate) + strength * index)
        Y = (ndtr(noise) < without + lifted / 100).astype(np.float64)
    else:
        slope = noise_sd * np.sqrt(explained / (1 - explained))
        Y = middle + slope * index + lifted + noise_sd * noise
    share = settings.missing_outcomes * (1 + 0.5 * np.tanh(index))
    return np.where(rng.random(n) < share, np.nan, Y)

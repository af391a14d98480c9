"""Affinity of cells for issues: reaction shares, partially pooled, with intervals.

Reactions of row r (one message on one platform in one cell) are binomial,

    y_r ~ Binomial(n_r, p_r),   logit p_r = x_r' b + ε_jc + δ_r,

n_r being the people who were shown it, so that a cell that was shown more is not taken
to be fonder. Terms of b: issue, message within issue, platform, age, sex, place, age ×
sex, and issue × each of them; ε is what an issue and a cell have of their own, δ what
makes counts vary more than a binomial: noise. All are normal with variances by kind of
term, of the highest marginal likelihood (Laplace).

People who were surveyed or linked are rows of another source. How ready they are to
answer at all is a matter of their source, so each source has terms of age, sex and
place of its own; only what an issue adds to them is shared.

Source: Breslow & Clayton (1993); Wood & Fasiolo (2017) for the variances; Gelman &
Little (1997) for poststratification.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.special import expit, logit

from hustings.features.affinity import (
    ANY,
    CELL,
    MARGINS,
    comparable_cells,
    is_small,
    margin,
    place_kind,
    voter_cells,
)
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.asof import before
from hustings.features.reaction import GOOD, valence
from hustings.features.tables import AFFINITIES, check
from hustings.training.estimators.metrics import Z95

BY_REACH = "reach"
"""The source of counts whose denominator is who was shown the message."""
FLAT = 25.0
"""Prior variance of what is not pooled: the level, and each question of a survey."""
GUESS, GUESS_WORTH = 0.1, 1.0
"""Standard deviation of a kind of term before any data, and how many well-determined
coefficients that guess counts for: a variance of few coefficients never falls to 0."""
MAX_ROUNDS, SETTLED = 60, 0.02
MAX_PLACES = 300
"""Places with fewer voters than the first so many are read as the rest of them."""
LINKED = "linked"
_TRIALS = ["source", "issue", "message_id", "platform", *CELL]


def affinities(
    counts: pd.DataFrame,
    voters: pd.DataFrame,
    issue_of: Mapping[str, str],
    *,
    as_of: pd.Timestamp,
    place: str | None = None,
    persons: pd.DataFrame | None = None,
    good_kinds: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Share of each cell that reacts well to each issue, poststratified to the voters.

    Args:
        counts: REACTION_COUNTS table; the latest count of a message and platform that
            ended strictly before `as_of` is read.
        voters: VOTERS table.
        issue_of: Issue of every message; counts of others are left out.
        as_of: Nothing counted at or after this moment is known.
        place: The voters' column that is the place of a cell; the finest that the
            counts know without.
        persons: Trials of people who were surveyed or linked; see `surveyed` and
            `linked`.
        good_kinds: The campaign's own table of kinds, as `features.reaction.valence`.

    Returns:
        AFFINITIES of every cell of `SMALLEST_CELL` voters or more and of the margins;
        empty where nothing was counted before `as_of`.
    """
    latest = latest_counts(counts, as_of)
    latest = latest[latest["message_id"].isin(list(issue_of))]
    kind = place_kind(latest) if place is None else place
    trials = _good_counts(latest, issue_of, kind, good_kinds)
    if persons is not None and len(persons):
        trials = pd.concat([trials, persons], ignore_index=True)
    if not (trials["source"] == BY_REACH).any():
        return check(AFFINITIES, pd.DataFrame(columns=list(AFFINITIES.columns)))
    bands = sorted(set(trials["age_band"]) - {ANY})
    cells = comparable_cells(voter_cells(voters, bands, kind, as_of=as_of), trials)
    cells = _fewer_places(cells)
    trials = _of_places(trials, set(cells["place"].unique()))
    fitted = fit_shares(trials, cells.drop_duplicates(ignore_index=True))
    return _table(fitted, cells, trials, kind)


def latest_counts(counts: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Last count of each message among those that ended strictly before a moment.

    An export counts a message from its first day on, so that a later one holds the
    earlier.
    """
    ended = before(counts, "counted_until", as_of)
    last = ended.groupby(["message_id", "platform"])["counted_until"].transform("max")
    return ended[ended["counted_until"] == last]


def _good_counts(
    counts: pd.DataFrame,
    issue_of: Mapping[str, str],
    place: str,
    good_kinds: Mapping[str, str] | None,
) -> pd.DataFrame:
    """Counts as trials: people shown a message, and how many of them liked it."""
    rows = pd.DataFrame(
        {
            "source": BY_REACH,
            "issue": counts["message_id"].map(dict(issue_of)),
            "message_id": counts["message_id"],
            "platform": counts["platform"],
            "age_band": _part(counts, "age_band"),
            "sex": _part(counts, "sex"),
            "place": _part(counts, place),
        }
    )
    good = counts["n"].where(valence(counts["kind"], good_kinds) == GOOD, 0.0)
    # kinds of one cell have one reach; cells that differ in a coarser place add up
    exact = [c for c in ("state", "county_fips") if c in counts]
    key = [*_TRIALS, *exact]
    by_cell = (
        rows.assign(y=good, n=counts["reach"], **{c: counts[c] for c in exact})
        .groupby(key, dropna=False, sort=True)
        .agg(y=("y", "sum"), n=("n", "first"))
        .reset_index()
    )
    by_cell["y"] = by_cell["y"].clip(upper=by_cell["n"])
    return by_cell.groupby(_TRIALS, sort=True)[["y", "n"]].sum().reset_index()


def _part(counts: pd.DataFrame, column: str) -> pd.Series:
    if column not in counts:
        return pd.Series(ANY, index=counts.index, dtype="str")
    return counts[column].astype("str").fillna(ANY)


def _fewer_places(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the places with most voters; the others are the rest of them."""
    if cells["place"].nunique() <= MAX_PLACES:
        return cells
    most = cells["place"].value_counts().index[:MAX_PLACES]
    return _of_places(cells, set(most))


def _of_places(rows: pd.DataFrame, places: set[str]) -> pd.DataFrame:
    unchanged = {place: place for place in rows["place"].unique() if place in places}
    return rows.assign(place=rows["place"].map(unchanged).fillna(ANY).astype("str"))


# --- people --------------------------------------------------------------------------


def surveyed(answers: pd.DataFrame, source: str) -> pd.DataFrame:
    """Answers of a survey as trials.

    Args:
        answers: A row per person and issue: issue, age_band, sex, place, `favours` in
            [0, 1], and `weight` where the survey has one.
        source: Name of the survey.

    Returns:
        One row per issue and cell; weighted answers count as so many unweighted ones
        as tell as much: (Σ w)² / Σ w².
    """
    weight = answers.get("weight", 1.0)
    weighted = answers.assign(w=weight)
    weighted = weighted.assign(
        wy=weighted["w"] * weighted["favours"], ww=weighted["w"] ** 2
    )
    sums = weighted.groupby(["issue", *CELL], sort=True)[["w", "wy", "ww"]].sum()
    n = sums["w"] ** 2 / sums["ww"]
    trials = pd.DataFrame({"y": n * sums["wy"] / sums["w"], "n": n}).reset_index()
    return trials.assign(source=source, message_id=source, platform=source)


def linked(
    reactions: pd.DataFrame,
    cells: pd.DataFrame,
    issue_of: Mapping[str, str],
    *,
    good_kinds: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Reactions of linked people as trials: the share of each issue among them.

    Nobody knows what they were shown, so only what an issue adds is learnt from them.
    A link is right with probability p; else the reaction is anybody's, who favours the
    issue as everybody does, ȳ. So (y − (1 − p) ȳ) / p has the mean of the cell, and
    tells as much as p² reactions of known people.

    Args:
        reactions: A row per reaction: message_id, kind and `probability` of the link.
        cells: The cell of the voter that each is linked to, in the same order.
        issue_of: Issue of every message; reactions to others are left out.
        good_kinds: The campaign's own table, as `features.reaction.valence`.
    """
    about_an_issue = reactions["message_id"].isin(list(issue_of)).to_numpy()
    rows, where = reactions[about_an_issue], cells[about_an_issue]
    issue = rows["message_id"].map(dict(issue_of))
    good = (valence(rows["kind"], good_kinds) == GOOD).to_numpy(dtype=np.float64)
    p = rows["probability"].to_numpy(dtype=np.float64)
    by_issue = []
    for name in sorted(set(issue_of.values())):
        y = good * (issue == name).to_numpy()
        mean = float(y.mean()) if len(y) else 0.0
        trial = where.assign(issue=name, y=p * (y - (1 - p) * mean), n=p**2)
        by_issue.append(trial.groupby(["issue", *CELL], sort=True)[["y", "n"]].sum())
    table = pd.concat(by_issue).reset_index()
    table["y"] = table["y"].clip(lower=0.0).clip(upper=table["n"])
    return table.assign(source=LINKED, message_id=LINKED, platform=LINKED)


# --- model ---------------------------------------------------------------------------


class _Term(NamedTuple):
    """Effects of one kind.

    Attributes:
        codes: Level of every row, -1 for none, shape (n_rows,).
        n_levels: How many there are.
        kind: Terms of one kind have one variance; empty for a flat prior.
    """

    codes: Ints
    n_levels: int
    kind: str


class _Levels(NamedTuple):
    """Names of the levels of every factor, in the order of their codes."""

    source: list[str]
    issue: list[str]
    message: list[tuple[str, str]]
    question: list[tuple[str, str]]
    platform: list[str]
    age: list[str]
    sex: list[str]
    place: list[str]


@dataclass(frozen=True)
class Shares:
    """The fitted model: effects, their covariance, and effects of single cells.

    Attributes:
        levels: Levels of every factor.
        cells: Every cell that has an own effect, n_cells of them.
        terms: Kinds of the columns of b, in their order.
        b: Coefficients, shape (p,).
        V: Their posterior covariance, ε integrated out, shape (p, p).
        cell_effects: ε of every issue × cell, shape (n_issues · n_cells,).
        pull: d: precision of ε given b, shape (n_issues · n_cells,).
        cross: C: dependence of ε on b, shape (p, n_issues · n_cells).
        mix: Share of each platform in what was shown, shape (n_platforms,).
        variance: Of every kind of term; "own" is that of ε.
        noise: Variance of δ, in squared log odds.
    """

    levels: _Levels
    cells: pd.DataFrame
    terms: tuple[str, ...]
    b: Floats
    V: Floats
    cell_effects: Floats
    pull: Floats
    cross: sparse.csc_array
    mix: Floats
    variance: Mapping[str, float]
    noise: float

    @cached_property
    def predicted(self) -> "PredictedAffinity":
        """Share of every issue × cell."""
        return _predict(self)


class PredictedAffinity(NamedTuple):
    """Shares of issue × cell (issue by issue), J of them, and their gradients.

    Attributes:
        share: Posterior mean, shape (J,).
        median: Shape (J,).
        gradient: Of `median` along b, own effects integrated out, shape (J, p).
        rest: Variance that is independent of b and of other cells, shape (J,).
    """

    share: Floats
    median: Floats
    gradient: sparse.csr_array
    rest: Floats


def fit_shares(trials: pd.DataFrame, cells: pd.DataFrame) -> Shares:
    """Fit the model of the module to trials.

    Args:
        trials: source, issue, message_id, platform, age_band, sex, place (empty where
            unknown), y and n: how many of n reacted well. Rows of source `BY_REACH`
            define the scale.
        cells: Cells that are to be predicted, each once; others are added.

    Raises:
        ValueError: If no trial is of source `BY_REACH`, or y does not lie in [0, n].
    """
    _check_trials(trials)
    trials = trials[trials["n"] > 0].reset_index(drop=True)
    seen = trials.loc[:, CELL].drop_duplicates()
    every = pd.concat([cells[CELL], seen], ignore_index=True)
    every = every.drop_duplicates(ignore_index=True)
    levels = _levels(trials, every)
    terms = _terms(trials, levels)
    X = sparse.hstack([_one_hot(t) for t in terms], format="csr")
    # who has no known cell has no cell's own effect: it is an average of many
    cell_known = _cell_is_known(trials)
    cell = pd.MultiIndex.from_frame(every).get_indexer(
        pd.MultiIndex.from_frame(trials[CELL])
    )
    code = _codes(levels.issue, trials["issue"]) * len(every) + cell
    n_own = len(levels.issue) * len(every)
    Z = _one_hot(_Term(np.where(cell_known, code, -1), n_own, "own"))
    y, n = (trials[c].to_numpy(dtype=np.float64) for c in ("y", "n"))
    kinds = np.repeat([t.kind for t in terms], [t.n_levels for t in terms])
    effects = _laplace(X, Z, y, n, kinds)
    reached = trials[trials["source"] == BY_REACH]
    reached_by_platform = (
        reached.groupby("platform")["n"].sum().reindex(levels.platform)
    )
    mix = reached_by_platform.to_numpy(dtype=np.float64) / float(
        reached_by_platform.sum()
    )
    return Shares(
        levels, every, tuple(t.kind for t in terms), effects.b, effects.V,
        effects.cell_effect, effects.pull, effects.cross, mix,
        effects.variance, effects.noise,
    )  # fmt: skip


def _check_trials(trials: pd.DataFrame) -> None:
    if not (trials["source"] == BY_REACH).any():
        raise ValueError(
            f"expected trials of source {BY_REACH!r}, which give the scale, got "
            f"{sorted(set(trials['source'])) or 'none'}"
        )
    wrong = trials[~trials["y"].between(0, trials["n"])]
    if len(wrong):
        raise ValueError(
            f"expected y in [0, n] of every trial, got {len(wrong)} rows where it is "
            "not: more reacted than there were"
        )


def _cell_is_known(trials: pd.DataFrame) -> Bools:
    """Whether a trial's cell is known in every part that some trial distinguishes."""
    cell_known = np.ones(len(trials), dtype=bool)
    for column in CELL:
        part_known = (trials[column] != ANY).to_numpy()
        cell_known &= part_known | ~part_known.any()
    return cell_known


def _levels(trials: pd.DataFrame, cells: pd.DataFrame) -> _Levels:
    by_reach = trials["source"] == BY_REACH

    def pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
        distinct = rows[["issue", "message_id"]].drop_duplicates()
        return sorted(distinct.itertuples(index=False, name=None))

    def names(column: str) -> list[str]:
        return sorted(set(cells[column]) - {ANY})

    other_sources = sorted(set(trials["source"]) - {BY_REACH})
    return _Levels(
        [BY_REACH, *other_sources], sorted(set(trials["issue"])),
        pairs(trials[by_reach]), pairs(trials[~by_reach]),
        sorted(set(trials.loc[by_reach, "platform"])),
        names("age_band"), names("sex"), names("place"),
    )  # fmt: skip


def _codes(levels: Sequence[str], values: pd.Series) -> Ints:
    return np.asarray(pd.Index(levels).get_indexer(pd.Index(values)), dtype=np.int64)


def _crossed(a: Ints, b: Ints, n_b: int) -> Ints:
    """Level of a pair; none where either has none."""
    return np.where((a >= 0) & (b >= 0), a * n_b + b, -1)


def _terms(rows: pd.DataFrame, levels: _Levels) -> list[_Term]:
    """Every kind of effect; a cell as a row of issue and `BY_REACH` has them too."""
    source = _codes(levels.source, rows["source"])
    issue = _codes(levels.issue, rows["issue"])
    pairs = pd.MultiIndex.from_frame(rows[["issue", "message_id"]])
    age, sex, place = (
        _codes(names, rows[column])
        for names, column in zip(
            (levels.age, levels.sex, levels.place), CELL, strict=True
        )
    )
    nA, nS, nG = len(levels.age), len(levels.sex), len(levels.place)
    age_sex = _crossed(age, sex, nS)
    n_source, n_issue = len(levels.source), len(levels.issue)
    return [
        _Term(np.zeros(len(rows), dtype=np.int64), 1, ""),
        _Term(issue, n_issue, "issue"),
        _Term(_pair_codes(levels.message, pairs), len(levels.message), "message"),
        _Term(_pair_codes(levels.question, pairs), len(levels.question), ""),
        _Term(_codes(levels.platform, rows["platform"]), len(levels.platform), "issue"),
        _Term(_crossed(source, age, nA), n_source * nA, "person"),
        _Term(_crossed(source, sex, nS), n_source * nS, "person"),
        _Term(_crossed(source, age_sex, nA * nS), n_source * nA * nS, "person both"),
        _Term(_crossed(source, place, nG), n_source * nG, "place"),
        _Term(_crossed(issue, age, nA), n_issue * nA, "issue × person"),
        _Term(_crossed(issue, sex, nS), n_issue * nS, "issue × person"),
        _Term(_crossed(issue, age_sex, nA * nS), n_issue * nA * nS, "issue × both"),
        _Term(_crossed(issue, place, nG), n_issue * nG, "issue × place"),
    ]


def _pair_codes(levels: list[tuple[str, str]], pairs: pd.MultiIndex) -> Ints:
    if not levels:
        return np.full(len(pairs), -1, dtype=np.int64)
    return np.asarray(pd.MultiIndex.from_tuples(levels).get_indexer(pairs))


def _one_hot(term: _Term) -> sparse.csr_array:
    has = np.flatnonzero(term.codes >= 0)
    ones = np.ones(len(has))
    shape = (len(term.codes), term.n_levels)
    return sparse.csr_array((ones, (has, term.codes[has])), shape=shape)


class _Effects(NamedTuple):
    b: Floats
    V: Floats
    cell_effect: Floats
    pull: Floats
    cross: sparse.csc_array
    variance: dict[str, float]
    noise: float


def _laplace(
    X: sparse.csr_array,
    Z: sparse.csr_array,
    y: Floats,
    n: Floats,
    kinds: npt.NDArray[np.str_],
) -> _Effects:
    """Mode and curvature of the effects at the variances of most likelihood.

    One Newton step of the effects and one fixed-point step of the variances in turn.
    """
    variance = dict.fromkeys([*sorted(set(kinds) - {""}), "own"], 0.25**2)
    noise = 0.0
    share = (y.sum() + 0.5) / (n.sum() + 1.0)
    # a first guess near the data, so that steps do not overshoot
    eta = logit((y + 2 * share) / (n + 2))
    for _ in range(MAX_ROUNDS):
        work = _working(y, n, eta, noise)
        effects = _newton(X, Z, work, kinds, variance, noise)
        eta = X @ effects.b + Z @ effects.cell_effect
        moved, effective = _variances(kinds, effects)
        now = _next_noise(_working(y, n, eta, noise), eta, noise, effective)
        change = max(abs(np.log(moved[k] / variance[k])) for k in variance)
        change = max(change, abs(now - noise) / (now + GUESS**2))
        variance, noise = moved, now
        if change < SETTLED:
            break
    return _newton(X, Z, _working(y, n, eta, noise), kinds, variance, noise)


class _Working(NamedTuple):
    """Counts as normal observations of the log odds, and their precision, (n_rows,)."""

    z: Floats
    w: Floats


def _working(y: Floats, n: Floats, eta: Floats, noise: float) -> _Working:
    p = expit(eta)
    information = np.maximum(n * p * (1 - p), 1e-6)
    return _Working(eta + (y - n * p) / information, 1.0 / (1.0 / information + noise))


def _newton(
    X: sparse.csr_array,
    Z: sparse.csr_array,
    work: _Working,
    kinds: npt.NDArray[np.str_],
    variance: dict[str, float],
    noise: float,
) -> _Effects:
    """One step; own effects, which depend on b alone, are eliminated first."""
    z, w = work
    precision = np.array([1.0 / variance.get(k, FLAT) for k in kinds])
    WX = X.multiply(w[:, None]).tocsr()
    pull = Z.T @ w + 1.0 / variance["own"]
    cross = sparse.csc_array(WX.T @ Z)
    inside = (cross * (1.0 / pull)[None, :]) @ cross.T
    S = (WX.T @ X - inside).toarray() + np.diag(precision)
    V = np.linalg.inv(S)
    own_z = Z.T @ (w * z)
    b = V @ (X.T @ (w * z) - cross @ (own_z / pull))
    cell_effect = (own_z - cross.T @ b) / pull
    return _Effects(b, V, cell_effect, pull, cross, variance, noise)


def _variances(
    kinds: npt.NDArray[np.str_], effects: _Effects
) -> tuple[dict[str, float], float]:
    """Squared size over the number of well-determined effects, by kind of term.

    Returns:
        The variances, and how many effects are determined in all.
    """
    doubt, moved = np.diag(effects.V), {}
    effective = float((kinds == "").sum())
    for kind in (k for k in effects.variance if k != "own"):
        of_kind, old = kinds == kind, effects.variance[kind]
        determined = max(float((1.0 - doubt[of_kind] / old).sum()), 0.0)
        moved[kind] = _guarded(float((effects.b[of_kind] ** 2).sum()), determined)
        effective += determined
    hang = sparse.csr_array((effects.cross * (1.0 / effects.pull)[None, :]).T)
    own_doubt = 1.0 / effects.pull + _quadratic(hang, effects.V)
    determined = max(float((1.0 - own_doubt / effects.variance["own"]).sum()), 0.0)
    moved["own"] = _guarded(float((effects.cell_effect**2).sum()), determined)
    return moved, effective + determined


def _next_noise(work: _Working, eta: Floats, noise: float, effective: float) -> float:
    """A Newton step to where weighted squared residuals are as many as are free."""
    squared = (work.z - eta) ** 2
    excess = float((work.w * squared).sum()) - max(len(eta) - effective, 1.0)
    return max(0.0, noise + excess / float((work.w**2 * squared).sum()))


def _guarded(size: float, determined: float) -> float:
    return (size + GUESS_WORTH * GUESS**2) / (determined + GUESS_WORTH)


def _quadratic(rows: sparse.csr_array, V: Floats) -> Floats:
    """Quadratic form x' V x of every row x."""
    form = np.empty(rows.shape[0])
    for start in range(0, rows.shape[0], 4096):
        part = rows[start : start + 4096]
        form[start : start + 4096] = part.multiply(part @ V).sum(axis=1)
    return form


# --- what a cell would do ------------------------------------------------------------


def _predict(fit: Shares) -> PredictedAffinity:
    """Share of each cell for an issue's average message, by the mix of platforms."""
    n_cells = len(fit.cells)
    parts = [_predict_issue(fit, i, n_cells) for i in range(len(fit.levels.issue))]
    return PredictedAffinity(
        np.concatenate([p.share for p in parts]),
        np.concatenate([p.median for p in parts]),
        sparse.vstack([p.gradient for p in parts], format="csr"),
        np.concatenate([p.rest for p in parts]),
    )


def _predict_issue(fit: Shares, i: int, n_cells: int) -> PredictedAffinity:
    levels, of_issue = fit.levels, slice(i * n_cells, (i + 1) * n_cells)
    rows = fit.cells.assign(
        source=BY_REACH, issue=levels.issue[i], message_id=ANY, platform=ANY
    )
    base = sparse.hstack([_one_hot(t) for t in _terms(rows, levels)], format="csr")
    sent = [
        k for k, (issue, _) in enumerate(levels.message) if issue == levels.issue[i]
    ]
    at_message = 1 + len(levels.issue)
    at_platform = at_message + len(levels.message) + len(levels.question)
    platforms = at_platform + np.arange(len(levels.platform))
    level = base @ fit.b + fit.cell_effects[of_issue] + fit.mix @ fit.b[platforms]
    messages: list[int | None] = [at_message + k for k in sent]
    # an issue of which only surveys speak has none: that of a typical one
    messages = messages or [None]
    shares = [expit(level + (0.0 if m is None else fit.b[m])) for m in messages]
    slopes = [p * (1 - p) / len(messages) for p in shares]
    slope = np.sum(slopes, axis=0)
    extra = sparse.lil_array(base.shape)
    extra[:, platforms] = np.outer(slope, fit.mix)
    for m, part in zip(messages, slopes, strict=True):
        if m is not None:
            extra[:, [m]] = part[:, None]
    gradient = base.multiply(slope[:, None]) + extra.tocsr()
    hang = fit.cross[:, of_issue].multiply((slope / fit.pull[of_issue])[None, :]).T
    gradient = sparse.csr_array(gradient - hang)
    rest = slope**2 / fit.pull[of_issue]
    doubt = (_quadratic(gradient, fit.V) + rest) / np.maximum(slope, 1e-12) ** 2
    median = np.mean(shares, axis=0)
    bent = np.mean([p * (1 - p) * (1 - 2 * p) for p in shares], axis=0)
    return PredictedAffinity(median + 0.5 * bent * doubt, median, gradient, rest)


def intervals(fit: Shares, weights: sparse.csr_array) -> tuple[Floats, Floats, Floats]:
    """Weighted means of shares, and the ends of their 95 % intervals.

    Args:
        fit: The model.
        weights: Of issue × cell in each mean, rows that sum to 1, shape (k, J).
    """
    predicted = fit.predicted
    mean, middle = weights @ predicted.share, weights @ predicted.median
    variance = _quadratic(sparse.csr_array(weights @ predicted.gradient), fit.V)
    variance = variance + weights.power(2) @ predicted.rest
    # of one cell the median is the middle, of many their mean
    alone = np.diff(weights.indptr) == 1
    middle = np.clip(np.where(alone, middle, mean), 1e-9, 1 - 1e-9)
    width = Z95 * np.sqrt(variance) / (middle * (1 - middle))
    return mean, expit(logit(middle) - width), expit(logit(middle) + width)


def _table(
    fit: Shares, cells: pd.DataFrame, trials: pd.DataFrame, kind: str
) -> pd.DataFrame:
    """AFFINITIES of the cells and margins that hold enough voters."""
    index = pd.MultiIndex.from_frame(fit.cells)
    size = cells.value_counts(CELL).reset_index(name="n_voters")
    position = index.get_indexer(pd.MultiIndex.from_frame(size[CELL]))
    reached = trials[trials["source"] == BY_REACH]
    parts = []
    for cell_parts in dict.fromkeys(MARGINS):
        groups = margin(size[CELL], cell_parts)
        code, names = pd.factorize(pd.MultiIndex.from_frame(groups))
        n_voters = np.bincount(code, size["n_voters"], minlength=len(names))
        share = size["n_voters"].to_numpy() / n_voters[code]
        to_cell = sparse.csr_array(
            (share, (code, position)), shape=(len(names), len(index))
        )
        group_rows = pd.DataFrame(list(names), columns=CELL).assign(
            place_kind=kind, n_voters=n_voters.astype(np.int64)
        )
        parts.append(
            _affinity_rows(fit, to_cell, group_rows, _reached(reached, cell_parts))
        )
    table = pd.concat(parts, ignore_index=True)
    # a margin of nobody but those whose part is unknown is the margin above it
    table = table.drop_duplicates(["issue", *CELL], keep="last")
    table = table[~is_small(table["n_voters"])].reset_index(drop=True)
    return check(AFFINITIES, table[list(AFFINITIES.columns)])


def _affinity_rows(
    fit: Shares, to_cell: sparse.csr_array, group_rows: pd.DataFrame, reached: pd.Series
) -> pd.DataFrame:
    """Groups of cells, for every issue."""
    n_issues = len(fit.levels.issue)
    weights = sparse.kron(sparse.eye_array(n_issues), to_cell, format="csr")
    mean, low, high = intervals(fit, weights)
    every = pd.concat([group_rows] * n_issues, ignore_index=True).assign(
        issue=np.repeat(fit.levels.issue, len(group_rows)),
        affinity=np.clip(mean, 0, 1), low=low, high=high,
    )  # fmt: skip
    n = reached.reindex(pd.MultiIndex.from_frame(every[["issue", *CELL]]))
    return every.assign(n_reached=n.fillna(0.0).to_numpy())


def _reached(reached: pd.DataFrame, cell_parts: Sequence[int]) -> pd.Series:
    """People shown a message of each issue, by group of cells."""
    people: pd.Series = margin(reached, cell_parts).groupby(["issue", *CELL])["n"].sum()
    return people

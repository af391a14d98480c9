"""Organic reactions as a platform counts them, drawn from tastes that nobody sees.

The platform decides what is shown to whom: the young and the towns are shown more of
everything. Of those who were shown a message of issue j,

    P(reacts well)  = expit(a_m + SLOPE s_ij),
    P(reacts badly) = the same with a slope of the other sign, from those left,

s_ij being how much the issue matters to voter i. So counts alone say who was shown
more, counts over reach say who is fonder. A platform gives no cell of fewer than
`SMALLEST_CELL` people: small cells are counted together, as the rest of the state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from hustings.features.arrays import Floats, Ints
from hustings.features.tables import SMALLEST_CELL

AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
AGE_EDGES = (25, 35, 45, 55, 65)
SLOPE, BAD_SLOPE = 0.7, -0.4
GOOD_AT_REST, BAD_AT_REST = -2.6, -3.8
"""Log odds of reacting for whom the issue matters neither more nor less."""
SHOWN_BY_AGE = (0.45, 0.40, 0.30, 0.22, 0.15, 0.09)
COUNTED_UNTIL = pd.Timestamp("2026-03-31T23:59:59")
"""Before the first delivery of the test."""
_PLATFORMS = ("facebook", "instagram")
_INSTAGRAM_SHARES = (0.7, 0.5, 0.35, 0.2, 0.12, 0.05)
_GOOD_KINDS, _GOOD_SHARES = ("like", "love", "share", "click"), (0.5, 0.2, 0.1, 0.2)
_CELL = ["message_id", "platform", "age_band", "sex", "state", "county_fips"]


class Organic(NamedTuple):
    """The platform's counts, and the truth behind them.

    Attributes:
        counts: REACTION_COUNTS table.
        truth: `issue`, `age_band`, `sex`, `county_fips`, `n_voters` and `affinity`, the
            share of the cell's voters who would react well, were they shown a message
            of the issue, every message weighted equally.
    """

    counts: pd.DataFrame
    truth: pd.DataFrame


def draw_organic(
    voters: pd.DataFrame,
    salience: Floats,
    issue: Ints,
    messages: pd.DataFrame,
    rng: np.random.Generator,
) -> Organic:
    """Show messages to voters and count, by cell, how they react.

    Args:
        voters: VOTERS table, n rows, with age, sex, state and county.
        salience: How much each issue matters to a voter, shape (n, n_issues).
        issue: Column of `salience` of every message, shape (M,).
        messages: MESSAGES table, M rows.
        rng: Of every draw.
    """
    band = np.searchsorted(AGE_EDGES, voters["age"].to_numpy(), side="right")
    people = voters[["sex", "state", "county_fips"]].assign(
        age_band=pd.Index(AGE_BANDS, dtype="str").take(band)
    )
    county = pd.factorize(people["county_fips"], sort=True)[0]
    # what a platform pushes in one county it may hide in the next
    pushed = np.exp(0.5 * rng.normal(size=county.max() + 1))[county]
    at_rest = GOOD_AT_REST + 0.3 * rng.normal(size=len(messages))
    parts, chances = [], []
    for m, message_id in enumerate(messages["message_id"]):
        good = expit(at_rest[m] + SLOPE * salience[:, issue[m]])
        bad = expit(BAD_AT_REST + BAD_SLOPE * salience[:, issue[m]])
        chances.append(good)
        chance_shown = np.asarray(SHOWN_BY_AGE)[band] * pushed * rng.uniform(0.6, 1.4)
        seen = np.flatnonzero(rng.random(len(people)) < np.clip(chance_shown, 0, 0.95))
        rows = people.iloc[seen].assign(
            message_id=message_id,
            platform=_platform(band[seen], rng),
            kind=_kinds(good[seen], bad[seen], rng),
        )
        parts.append(rows)
    counts = _counted(pd.concat(parts, ignore_index=True))
    return Organic(counts, _truth(people, messages["issue"], np.array(chances)))


def _platform(band: Ints, rng: np.random.Generator) -> pd.Index:
    on_second = rng.random(len(band)) < np.asarray(_INSTAGRAM_SHARES)[band]
    return pd.Index(_PLATFORMS, dtype="str").take(on_second.astype(int))


def _kinds(good: Floats, bad: Floats, rng: np.random.Generator) -> pd.Index:
    """Reaction of each voter who was shown a message; empty for none."""
    u, kind = rng.random(len(good)), rng.choice(4, len(good), p=_GOOD_SHARES)
    badly = u < good + (1 - good) * bad
    which = np.where(u < good, 1 + kind, np.where(badly, 5, 0))
    return pd.Index(["", *_GOOD_KINDS, "angry"], dtype="str").take(which)


def _counted(exposures: pd.DataFrame) -> pd.DataFrame:
    """Exposures → counts by cell, small cells in the rest of the state."""
    exposures = _without_small(exposures, "county_fips")
    exposures = _without_small(exposures, "sex")
    reach = exposures.groupby(_CELL, dropna=False, sort=True).size().rename("reach")
    kinds = (
        exposures[exposures["kind"] != ""]
        .groupby([*_CELL, "kind"], dropna=False)
        .size()
    )
    cells = reach.reset_index()
    cells = cells[cells["reach"] >= SMALLEST_CELL]
    counts = cells.merge(kinds.rename("n").reset_index(), on=_CELL, how="left")
    # a cell without any reaction has a row too: its reach counts
    counts["kind"] = counts["kind"].fillna("like")
    counts["n"] = counts["n"].fillna(0.0).astype(float)
    counts["reach"] = counts["reach"].astype(float)
    counts["counted_until"] = COUNTED_UNTIL.as_unit("us")
    names = ["message_id", "platform", "kind", "age_band", "sex", "state",
             "county_fips", "n", "reach", "counted_until"]  # fmt: skip
    return counts[names].reset_index(drop=True)


def _without_small(exposures: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mask a value that fewer than `SMALLEST_CELL` people of a cell share."""
    size = exposures.groupby(_CELL, dropna=False)["kind"].transform("size")
    hidden = exposures[column].mask(size < SMALLEST_CELL)
    return exposures.assign(**{column: hidden})


def _truth(
    people: pd.DataFrame, issues: Sequence[str] | pd.Series, chance: Floats
) -> pd.DataFrame:
    cell = ["age_band", "sex", "county_fips"]
    issue_of_message = pd.Index(issues)
    frames = []
    for issue in issue_of_message.unique():
        chance_of_voter = pd.Series(
            chance[issue_of_message == issue].mean(axis=0), people.index
        )
        group = chance_of_voter.groupby([people[c] for c in cell])
        frame = group.agg(n_voters="size", affinity="mean").reset_index()
        frames.append(frame.assign(issue=issue))
    table = pd.concat(frames, ignore_index=True)
    return table[["issue", *cell, "n_voters", "affinity"]]

"""Affinities by cell: planted tastes are found, with intervals that hold them."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import expit

from hustings.features.affinity import CELL
from hustings.features.simulated.campaign import Sample, simulate
from hustings.features.tables import AFFINITIES, SMALLEST_CELL, check
from hustings.training.learners.affinity import (
    BY_REACH,
    affinities,
    fit_shares,
    intervals,
    linked,
    surveyed,
)

AGES, SEXES = ("18-34", "35-64", "65+"), ("F", "M")
PLACES = tuple(f"26{200 + k}" for k in range(8))
ISSUES, MESSAGES_EACH = ("roads", "schools", "taxes"), 3
DAY = pd.Timestamp("2026-04-06")
CELLS = pd.DataFrame(list(product(AGES, SEXES, PLACES)), columns=CELL)


def planted(
    rng: np.random.Generator, *, spread: float = 0.35, own: float = 0.15
) -> dict[tuple[str, str], np.ndarray]:
    """True share of every cell by issue and message.

    logit p = level + message + effects of age, sex and place for everything and for the
    issue + what issue and cell have of their own, all normal.
    """
    age, sex, place = (
        pd.factorize(CELLS[c])[0] for c in ("age_band", "sex", "place")
    )  # fmt: skip
    general = sum(0.2 * rng.normal(size=9)[k] for k in (age, sex, place))
    found = {}
    for issue in ISSUES:
        mine = sum(spread * rng.normal(size=9)[k] for k in (age, sex, place))
        mine = mine + own * rng.normal(size=len(CELLS)) + general
        for m in range(MESSAGES_EACH):
            level = -2.0 + 0.3 * rng.normal()
            found[issue, f"{issue} {m}"] = expit(level + mine)
    return found


def shown(
    truth: dict[tuple[str, str], np.ndarray],
    rng: np.random.Generator,
    *,
    clumping: float = 0.0,
) -> pd.DataFrame:
    """Trials drawn from true shares; reach differs a hundredfold between cells.

    Clumping: reactions of a cell vary more than a binomial by 1 + clumping (n − 1).
    """
    rows = []
    for (issue, message), p in truth.items():
        n = np.round(np.exp(rng.uniform(np.log(20), np.log(2000), len(p))))
        share = p
        if clumping:
            size = 1 / clumping - 1
            share = rng.beta(size * p, size * (1 - p))
        rows.append(
            CELLS.assign(
                source=BY_REACH, issue=issue, message_id=message, platform="page",
                y=rng.binomial(n.astype(int), share).astype(float), n=n,
            )
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def electorate(per_cell: int = 40) -> pd.DataFrame:
    ages = {"18-34": 25.0, "35-64": 50.0, "65+": 70.0}
    voters = CELLS.loc[np.repeat(np.arange(len(CELLS)), per_cell)]
    return pd.DataFrame(
        {
            "age": voters["age_band"].map(ages).to_numpy(dtype=float),
            "sex": voters["sex"].to_numpy(),
            "county_fips": voters["place"].to_numpy(),
        }
    )


def counts(trials: pd.DataFrame, until: str = "2026-03-31") -> pd.DataFrame:
    """Trials as a platform tells them: a row of likes and one of anger each."""
    good = trials.rename(columns={"place": "county_fips", "y": "n", "n": "reach"})
    good = good.assign(kind="like", counted_until=pd.Timestamp(until), state="MI")
    bad = good.assign(kind="angry", n=1.0)
    return pd.concat([good, bad], ignore_index=True)


def issue_of(trials: pd.DataFrame) -> dict[str, str]:
    return dict(zip(trials["message_id"], trials["issue"], strict=True))


def true_share(truth: dict[tuple[str, str], np.ndarray]) -> pd.Series:
    """Of every issue and cell, messages counted alike."""
    parts = [
        CELLS.assign(
            issue=issue,
            truth=np.mean([p for (i, _), p in truth.items() if i == issue], axis=0),
        )
        for issue in ISSUES
    ]
    return pd.concat(parts).set_index(["issue", *CELL])["truth"]


def estimated(trials: pd.DataFrame, **more: object) -> pd.DataFrame:
    found = affinities(
        counts(trials), electorate(), issue_of(trials), as_of=DAY, **more
    )
    return found.set_index(["issue", *CELL])


@pytest.mark.parametrize("clumping", [0.0, 0.02])
def test_intervals_hold_nineteen_in_twenty_of_the_planted_cells(
    clumping: float,
) -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(12):
        truth = planted(rng)
        fit = fit_shares(shown(truth, rng, clumping=clumping), CELLS)
        _, low, high = intervals(
            fit, sparse.eye_array(len(ISSUES) * len(CELLS)).tocsr()
        )
        share = true_share(truth).to_numpy()
        held.append(((low <= share) & (share <= high)).mean())
    assert 0.92 <= np.mean(held) <= 0.98, np.round(held, 2)


def test_intervals_of_margins_hold_the_planted_means() -> None:
    rng = np.random.default_rng(2)
    held: list[bool] = []
    for _ in range(8):
        truth = planted(rng)
        found = estimated(shown(truth, rng))
        for column in CELL:
            mean = true_share(truth).groupby(["issue", column]).mean()
            for (issue, value), share in mean.items():
                key = tuple(value if c == column else "" for c in CELL)
                row = found.loc[(issue, *key)]
                held.append(row["low"] <= share <= row["high"])
    assert 0.91 <= np.mean(held) <= 0.985


def test_a_cell_that_was_shown_more_is_not_fonder() -> None:
    rng = np.random.default_rng(3)
    truth = planted(rng)
    trials = shown(truth, rng)
    often = (trials["place"] == PLACES[0]).to_numpy()
    more = trials.assign(
        y=trials["y"].where(~often, 30 * trials["y"]),
        n=trials["n"].where(~often, 30 * trials["n"]),
    )
    before, after = estimated(trials), estimated(more)
    place = ("roads", "", "", PLACES[0])
    assert after.loc[place, "n_reached"] == 30 * before.loc[place, "n_reached"]
    assert before.loc[place, "low"] < after.loc[place, "affinity"]
    assert after.loc[place, "affinity"] < before.loc[place, "high"]


def test_where_tastes_do_not_differ_cells_are_told_to_be_alike() -> None:
    rng = np.random.default_rng(4)
    flat = {k: np.full(len(CELLS), 0.15) for k in planted(rng)}
    found = estimated(shown(flat, rng))
    cells = found[(found.index.to_frame()[CELL] != "").all(axis=1)]
    assert cells["affinity"].std() < 0.005
    assert cells["affinity"].mean() == pytest.approx(0.15, abs=0.005)


def test_the_share_of_everybody_is_the_voters_mean_of_the_cells() -> None:
    rng = np.random.default_rng(5)
    trials = shown(planted(rng), rng)
    found = estimated(trials)
    whole = (found.index.to_frame()[CELL] != "").all(axis=1)
    cells = found[whole & (found.index.get_level_values("issue") == "taxes")]
    mean = np.average(cells["affinity"], weights=cells["n_voters"])
    assert found.loc[("taxes", "", "", ""), "affinity"] == pytest.approx(mean)
    assert found.loc[("taxes", "", "", ""), "n_voters"] == cells["n_voters"].sum()


def test_what_was_counted_one_second_after_the_moment_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    trials = shown(planted(rng), rng)
    known = counts(trials)
    later = counts(trials.assign(y=trials["n"]), until="2026-04-06")
    late = later.assign(counted_until=DAY + pd.Timedelta(seconds=1))
    at = later.assign(counted_until=DAY)
    before = later.assign(counted_until=DAY - pd.Timedelta(seconds=1))
    told = {
        name: affinities(
            pd.concat([known, more]), electorate(), issue_of(trials), as_of=DAY
        )
        for name, more in (("none", known.head(0)), ("late", late), ("at", at),
                           ("before", before))
    }  # fmt: skip
    pd.testing.assert_frame_equal(told["late"], told["none"])
    pd.testing.assert_frame_equal(told["at"], told["none"])
    # the last export that is known stands for all the earlier ones
    assert told["before"]["affinity"].min() > 0.9


def test_nothing_is_told_of_fewer_than_twenty_voters() -> None:
    rng = np.random.default_rng(7)
    trials = shown(planted(rng), rng)
    few = electorate(SMALLEST_CELL - 1)
    found = affinities(counts(trials), few, issue_of(trials), as_of=DAY)
    assert found["n_voters"].min() >= SMALLEST_CELL
    assert ((found[CELL] == "").sum(axis=1) > 0).all()
    assert check(AFFINITIES, found) is not None


def test_before_anything_was_counted_nothing_is_told() -> None:
    rng = np.random.default_rng(8)
    trials = shown(planted(rng), rng)
    found = affinities(
        counts(trials), electorate(), issue_of(trials), as_of=pd.Timestamp("2026-01-01")
    )
    assert found.empty
    assert list(found) == list(AFFINITIES.columns)


def test_more_reactors_than_people_shown_are_refused() -> None:
    rng = np.random.default_rng(9)
    trials = shown(planted(rng), rng)
    with pytest.raises(ValueError, match="more reacted than there were"):
        fit_shares(trials.assign(y=trials["n"] + 1), CELLS)
    with pytest.raises(ValueError, match="which give the scale"):
        fit_shares(trials.assign(source="panel"), CELLS)


# --- people --------------------------------------------------------------------------


def error(found: pd.DataFrame, truth: dict[tuple[str, str], np.ndarray]) -> float:
    """How far estimates lie from the truth between cells of an issue, in log odds."""
    both = found.join(true_share(truth), how="inner")
    gap = np.log(both["affinity"] / both["truth"])
    return float((gap - gap.groupby("issue").transform("mean")).std())


def test_a_survey_sharpens_what_few_counts_say() -> None:
    rng = np.random.default_rng(10)
    truth = planted(rng, own=0.05)
    trials = shown(truth, rng)
    few = trials.assign(n=20.0, y=rng.binomial(20, trials["y"] / trials["n"]))
    asked = [
        CELLS.assign(issue=issue, p=expit(np.log(p / (1 - p)) + 2.0))
        for (issue, message), p in truth.items() if message.endswith(" 0")
    ]  # fmt: skip
    people = pd.concat([pd.concat(asked)] * 60, ignore_index=True)
    people["favours"] = (rng.random(len(people)) < people["p"]).astype(float)
    survey = surveyed(people, "poll")
    assert survey["n"].sum() == pytest.approx(len(people))
    assert error(estimated(few, persons=survey), truth) < 0.8 * error(
        estimated(few), truth
    )


def test_uneven_weights_count_for_fewer_answers() -> None:
    answers = pd.DataFrame({"favours": [1.0, 0.0, 0.0], "weight": [2.0, 1.0, 1.0]})
    answers = answers.assign(issue="roads", age_band="65+", sex="F", place="")
    one = surveyed(answers, "poll").iloc[0]
    assert one["n"] == pytest.approx(16 / 6)
    assert one["y"] / one["n"] == pytest.approx(0.5)


def reactions_of_linked(rng: np.random.Generator, wrong: float) -> pd.DataFrame:
    """Women react to roads seven times in ten, men three; some links are wrong."""
    n = 20_000
    sex = rng.choice(SEXES, n)
    who = np.where(rng.random(n) < wrong, rng.choice(SEXES, n), sex)
    roads = rng.random(n) < np.where(sex == "F", 0.7, 0.3)
    return pd.DataFrame(
        {
            "message_id": np.where(roads, "r", "s"), "kind": "like",
            "probability": 1 - wrong, "sex": who, "age_band": "65+", "place": "",
        }
    )  # fmt: skip


def test_wrong_links_do_not_blur_what_linked_people_prefer() -> None:
    rows = reactions_of_linked(np.random.default_rng(11), wrong=0.3)
    found = linked(rows, rows[CELL], {"r": "roads", "s": "schools"})
    roads = found[found["issue"] == "roads"].set_index("sex")
    share = roads["y"] / roads["n"]
    assert share["F"] == pytest.approx(0.7, abs=0.015)
    assert share["M"] == pytest.approx(0.3, abs=0.015)
    naive = rows.assign(r=rows["message_id"] == "r").groupby("sex")["r"].mean()
    assert naive["F"] < 0.66


def test_linked_people_say_whom_an_issue_suits_and_not_who_reacts_at_all() -> None:
    rng = np.random.default_rng(12)
    flat = {k: np.full(len(CELLS), 0.1) for k in planted(rng)}
    few = shown(flat, rng)
    few = few.assign(n=20.0, y=rng.binomial(20, 0.1, len(few)).astype(float))
    rows = reactions_of_linked(rng, wrong=0.0)
    # women react three times as often as men, whatever the issue
    rows = rows[(rows["sex"] == "F") | (rng.random(len(rows)) < 1 / 3)]
    issues = {"r": "roads", "s": "schools"}
    persons = linked(rows, rows[CELL], issues)
    found = estimated(few, persons=persons)
    share = found["affinity"].xs("", level="place").xs("", level="age_band")
    women = share.xs("F", level="sex") / share.xs("M", level="sex")
    assert women["roads"] > 1.3 * women["schools"]
    # as a whole women do not react more: they were only linked more
    assert 0.8 < women.mean() < 1.2


# --- the sample ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample() -> Sample:
    return simulate(n_voters=40_000, seed=2)


def test_groups_of_the_sample_rank_as_their_hidden_tastes(sample: Sample) -> None:
    messages = sample.tables["messages"]
    found = affinities(
        sample.tables["reaction_counts"],
        sample.tables["voters"],
        dict(zip(messages["message_id"], messages["issue"], strict=True)),
        as_of=DAY,
    )
    truth = sample.affinities.rename(columns={"county_fips": "place"})
    both = found.merge(
        truth.rename(columns={"affinity": "truth"}).drop(columns="n_voters"),
        on=["issue", *CELL],
    )
    assert len(both) > 1000
    rank = both.groupby("issue")[["affinity", "truth"]].apply(
        lambda rows: rows.corr("spearman").iloc[0, 1]
    )
    assert rank.min() > 0.65
    held = both["truth"].between(both["low"], both["high"])
    # voters of a small cell differ from people like them by chance, which no
    # count can tell: a little under 95 % of cells are held
    assert 0.88 < np.average(held, weights=both["n_voters"]) < 0.99


def test_counts_alone_would_rank_by_who_was_shown_more(sample: Sample) -> None:
    """The trap that reach is for: the young are shown five times as much."""
    known = sample.tables["reaction_counts"].query("kind in ('like', 'love')")
    health = known[known["message_id"].str.startswith("health")]
    by_count = (
        health.groupby("age_band")["n"].sum()
        / sample.affinities.query("issue == 'health care'")
        .groupby("age_band")["n_voters"]
        .sum()
    )
    truth = (
        sample.affinities.query("issue == 'health care'")
        .groupby("age_band")["affinity"]
        .mean()
    )
    assert truth.corr(by_count, method="spearman") < 0.3

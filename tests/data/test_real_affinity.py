"""Affinities from real aggregates: posts of 2016 without a breakdown, and a survey.

The posts tell nothing by state, age or sex: they give the level of each side's pages
and how much its posts differ. Who is fonder of a side than others is from the survey
alone. Good is the share of likes and loves among reactions, for reach is not published:
it is a share of those who react. Race and religion are in the survey; nothing reads
them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import data_dir
from hustings.features.affinity import CELL
from hustings.training.learners.affinity import affinities, surveyed

PAGES = {
    "donaldtrump": "Trump", "barackobama": "Democrats", "berniesanders": "Democrats",
}  # fmt: skip
STATE_NAMES = (
    "AL Alabama,AK Alaska,AZ Arizona,AR Arkansas,CA California,CO Colorado,"
    "CT Connecticut,DE Delaware,FL Florida,GA Georgia,HI Hawaii,ID Idaho,IL Illinois,"
    "IN Indiana,IA Iowa,KS Kansas,KY Kentucky,LA Louisiana,ME Maine,MD Maryland,"
    "MA Massachusetts,MI Michigan,MN Minnesota,MS Mississippi,MO Missouri,MT Montana,"
    "NE Nebraska,NV Nevada,NH New Hampshire,NJ New Jersey,NM New Mexico,NY New York,"
    "NC North Carolina,ND North Dakota,OH Ohio,OK Oklahoma,OR Oregon,PA Pennsylvania,"
    "RI Rhode Island,SC South Carolina,SD South Dakota,TN Tennessee,TX Texas,UT Utah,"
    "VT Vermont,VA Virginia,WA Washington,WV West Virginia,WI Wisconsin,WY Wyoming"
)
STATES = {pair[3:]: pair[:2] for pair in STATE_NAMES.split(",")}
BANDS = ("18-29", "30-39", "40-49", "50-59", "60-69", "70+")
DAY = pd.Timestamp("2016-07-01")
N_VOTERS = 40_000


def read(path: str) -> pd.DataFrame:
    file: Path = data_dir() / path
    if not file.exists():
        pytest.skip(f"the public data is not there: {file}; set HUSTINGS_DATA")
    return pd.read_parquet(file)


def weekly_posts() -> pd.DataFrame:
    """Posts of each side's pages, week by week, as counts without a breakdown."""
    posts = read("facebook_reactions2016/facebook_reactions_2016.parquet")
    posts = posts[posts["page"].isin(PAGES) & (posts["num_reactions"] >= 20)]
    week = posts["status_published"].dt.strftime("%G-%V")
    kinds = ("like", "love", "wow", "haha", "sad", "angry")
    sums = posts.groupby([posts["page"], week])[
        [f"num_{kind}s" for kind in kinds]
    ].sum()
    reach = sums.sum(axis=1)
    rows = [
        pd.DataFrame(
            {
                "message_id": [f"{page} {week}" for page, week in sums.index],
                "platform": "facebook", "kind": kind, "reach": reach.to_numpy(float),
                "n": sums[f"num_{kind}s"].to_numpy(float),
                "counted_until": pd.Timestamp("2016-06-30"),
            }
        )
        for kind in kinds
    ]  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def survey() -> pd.DataFrame:
    """Whom people vote for, by age, sex and state."""
    asked = read("surveys/cces2016_tv16.parquet").dropna(subset=["votetrump", "age"])
    asked = asked.assign(place=asked["state"].map(STATES)).dropna(subset=["place"])
    edges = [18, 30, 40, 50, 60, 70, 200]
    band = pd.cut(asked["age"], edges, right=False, labels=list(BANDS)).astype("str")
    cells = asked.assign(age_band=band, sex=np.where(asked["female"] == 1, "F", "M"))
    sides = [
        cells.assign(issue="Trump", favours=cells["votetrump"]),
        cells.assign(issue="Democrats", favours=1 - cells["votetrump"]),
    ]
    return pd.concat(sides, ignore_index=True)


def electorate() -> pd.DataFrame:
    """Adults drawn from the census cells."""
    cells = read("surveys/poststrat_acs2018.parquet")
    cells = cells[cells["state"].isin(STATES.values())]
    rng = np.random.default_rng(1)
    drawn = cells.iloc[
        rng.choice(len(cells), N_VOTERS, p=cells["n"] / cells["n"].sum())
    ]
    first = drawn["age"].str.extract(r"^(\d+)")[0].astype(float)
    return pd.DataFrame(
        {
            "age": first.to_numpy() + 1,
            "sex": np.where(drawn["male"] > 0, "M", "F"),
            "state": drawn["state"].to_numpy(),
        }
    )


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    counts = weekly_posts()
    issue_of = {m: PAGES[m.split(" ")[0]] for m in counts["message_id"]}
    return affinities(
        counts, electorate(), issue_of, as_of=DAY, place="state",
        persons=surveyed(survey(), "cces"),
    )  # fmt: skip


def by_state(found: pd.DataFrame, issue: str) -> pd.DataFrame:
    mine = found[
        (found["issue"] == issue) & (found[["age_band", "sex"]] == "").all(axis=1)
    ]
    return mine[mine["place"] != ""].set_index("place")


def test_states_rank_as_they_voted(found: pd.DataFrame) -> None:
    votes = read("county_map/2016_US_County_Level_Presidential_Results.parquet")
    sums = votes.groupby("state_abbr")[["votes_gop", "total_votes"]].sum()
    voted = sums["votes_gop"] / sums["total_votes"]
    trump, democrats = by_state(found, "Trump"), by_state(found, "Democrats")
    assert len(trump) == 50
    assert trump["affinity"].corr(voted, method="spearman") > 0.85
    assert democrats["affinity"].corr(voted, method="spearman") < -0.85


def test_a_small_state_is_less_sure_than_a_large_one(found: pd.DataFrame) -> None:
    width = by_state(found, "Trump").eval(
        "log(high / (1 - high)) - log(low / (1 - low))"
    )
    assert width[["WY", "VT", "ND"]].min() > width[["CA", "TX", "FL"]].max()
    assert (width > 0).all()


def test_the_level_is_that_of_the_pages(found: pd.DataFrame) -> None:
    counts = weekly_posts()
    good = counts[counts["kind"].isin(["like", "love"])]
    mine = counts["message_id"].str.startswith("donaldtrump")
    share = good.loc[mine, "n"].sum() / counts.loc[mine, "n"].sum()
    whole = found[(found["issue"] == "Trump") & (found[CELL] == "").all(axis=1)].iloc[0]
    assert whole["low"] < share < whole["high"]
    assert whole["affinity"] == pytest.approx(share, abs=0.03)


def test_race_and_religion_of_the_survey_change_nothing(found: pd.DataFrame) -> None:
    asked = survey()
    barred = ["racef", "bornagain", "religimp", "angryracism", "churchatd"]
    assert set(barred) <= set(asked)
    pd.testing.assert_frame_equal(
        surveyed(asked.drop(columns=barred), "cces"), surveyed(asked, "cces")
    )
    assert not set(barred) & set(found)

"""Real randomised tests beyond the large ones, each a task with declared choices.

Surveys: one outcome per study, the one with most answers (the first in the table of
outcomes where two have as many), turned round where the table says that its scale runs
against intuition, as a share of the scale. The first condition listed is the control.
Issues: the family of language models that wrote the message is the message. Arms that
fewer than `FEWEST_ANSWERS` people answered are left out; a test without control or
without any message left is no task. Every message costs 1, the money reaches half.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tests.speed.peers.data_sets import (
    DataSet,
    TooFewAnswersError,
    from_frame,
    table,
)

FEWEST_ANSWERS = 100
SPENDS = (0.5,)
COVARIATES = ["gender", "party", "age", "education", "ideology"]
STUDIES = (
    "AnsonBRIEF60", "Blair1131", "Bougher893", "Campbell1308", "Connors1226",
    "Craig735", "FaheyS78", "FarrowS6", "Haaland874", "HamiltonS31", "HankinsonS22",
    "Harbridge-Yong1032", "Howat1039", "Iles1294", "Kennedy1017", "Krupnikov719",
    "Merolla843", "Mezzapelle1439", "MunschS68", "Rifkin1073", "SchaadS62",
    "ShannonS28", "Silverman1035", "Stoker1063", "ThorsonS42", "WallaceS9", "berganS20",
    "bolsenM6", "caprarielloS2", "converseS16", "flavinS4", "pedullaS18", "piazzaS8",
    "relihan1399", "senS81", "thompsonS10", "wayne841", "willer845",
)  # fmt: skip
ISSUES = (
    "Affirmative Action", "Assisted Suicide", "Border Restrictions",
    "Electoral College", "Felons Voting", "Foreign Aid", "Medicaid",
    "Solitary Confinement", "Veteran Healthcare", "Worker Pensions",
)  # fmt: skip
_TURNOUT = "turnout2012_wisconsin_connecticut"
_SPECIAL = ["asian", "black", "latino", "mideastern", "nativeamer", "d_miss_race"]
"""Special categories of personal data: no covariates."""


class Enough(NamedTuple):
    """The rows of the arms that enough people answered.

    Attributes:
        rows: Of these arms.
        arms: Control first.
        left_out: The other arms.
    """

    rows: pd.DataFrame
    arms: tuple[str, ...]
    left_out: tuple[str, ...]


def survey(study: str) -> DataSet:
    """A survey experiment of the archive.

    Args:
        study: One of `STUDIES`.

    Raises:
        FileNotFoundError: If the tables are not there.
        TooFewAnswersError: If control, or every message, has too few answers.
    """
    of_study = table("survey_rcts/responses.parquet").query("study == @study")
    outcomes = table("survey_rcts/outcomes.parquet").query("study == @study")
    outcomes = outcomes.set_index("outcome.name")
    answers = of_study.dropna(subset="y").groupby("outcome", observed=True).size()
    # the first of those with most
    chosen = answers.reindex(outcomes.index).idxmax()
    found = of_study[of_study["outcome"] == chosen]
    share = (found["y"] - found["lo"]) / (found["hi"] - found["lo"])
    if str(outcomes.loc[chosen, "scale.direction.intuitive"]) == "0":
        share = 1 - share
    conditions = table("survey_rcts/conditions.parquet").query("study == @study")
    listed = list(dict.fromkeys(conditions["condition.name"]))
    enough = _enough(
        found.assign(Y=share, arm=found["condition"].astype(str)), listed, study
    )
    return _by_shares(f"survey_{study}", enough, COVARIATES, points=100.0)


def issue(name: str) -> DataSet:
    """An issue on which language models and people wrote messages.

    Args:
        name: One of `ISSUES`.

    Raises:
        FileNotFoundError: If the table is not there.
        TooFewAnswersError: If control, or every message, has too few answers.
    """
    rows = table("issue_messages2025/responses.parquet").query("issue == @name")
    arm = rows["model_family"].where(rows["message_id"] != 0, "control")
    rows = rows.assign(Y=rows["dv_response_mean"], arm=arm)
    writers = sorted(set(arm) - {"control"})
    enough = _enough(rows, ["control", *writers], name)
    return _by_shares(
        f"issue_{name.lower().replace(' ', '_')}",
        enough,
        ["party", "ideology", "knowledge"],
        points=1.0,
    )


def _enough(rows: pd.DataFrame, listed: list[str], name: str) -> Enough:
    """Rows of the arms with enough answers, in the order of `listed`."""
    answers = rows.dropna(subset="Y").groupby("arm").size()
    size = answers.reindex(listed, fill_value=0)
    arms = tuple(size.index[size >= FEWEST_ANSWERS])
    if listed[0] not in arms or len(arms) < 2:
        raise TooFewAnswersError(
            f"{name}: expected at least {FEWEST_ANSWERS} answers under "
            f"{listed[0]!r} and another arm, got {size.to_dict()}"
        )
    left_out = tuple(a for a in listed if a not in arms)
    return Enough(rows[rows["arm"].isin(arms)], arms, left_out)


def _by_shares(
    name: str, enough: Enough, covariates: list[str], *, points: float
) -> DataSet:
    """A test whose propensities are the arms' shares."""
    rows, arms, left_out = enough
    arm = pd.Index(arms).get_indexer(pd.Index(rows["arm"]))
    return from_frame(
        name,
        rows[covariates],
        arm=arm,
        Y=rows["Y"].to_numpy(dtype=float),
        propensity=np.bincount(arm) / len(arm),
        messages=arms[1:],
        unit=np.arange(len(rows)),
        spends=SPENDS,
        points=points,
        left_out=left_out,
    )


def climate_agreements() -> DataSet:
    """Sanctions in a climate agreement; none of them is the control."""
    frame = table("conjoints/bs2013.parquet")
    arms = ["No sanctions", *sorted(set(frame["sanctions"]) - {"No sanctions"})]
    return from_frame(
        "bs2013",
        frame[["resp_female", "resp_age", "resp_ideo"]],
        arm=pd.Index(arms).get_indexer(pd.Index(frame["sanctions"].astype(str))),
        Y=frame["choice"].to_numpy(dtype=float),
        propensity=np.full(len(arms), 1 / len(arms)),
        messages=tuple(arms[1:]),
        unit=pd.factorize(frame["respondent"])[0],
        spends=SPENDS,
    )


def candidates() -> DataSet:
    """A candidate's position on the deficit; nothing is known of the respondents.

    Covariates are other attributes of the same profile, drawn independently: age,
    race, family and experience, none of which is thought to change what the position
    is worth.
    """
    frame = table("conjoints/onoburden2018.parquet")
    arms = [
        "Don't reduce deficit now",
        "Reduce deficit through spending cuts",
        "Reduce deficit through tax increase",
    ]
    return from_frame(
        "onoburden2018",
        frame[["age", "race", "family", "experience"]],
        arm=pd.Index(arms).get_indexer(pd.Index(frame["pos_deficit"])),
        Y=frame["Y"].to_numpy(dtype=float),
        propensity=np.full(len(arms), 1 / len(arms)),
        messages=tuple(arms[1:]),
        unit=pd.factorize(frame["id"])[0],
        spends=SPENDS,
        null=True,
    )


def group_competition() -> DataSet:
    """Letters on a competition between groups, and turnout in November 2012."""
    frame = table(f"{_TURNOUT}/wi_group_competition.parquet")
    # votes from the primary of 2012 on are answers
    after = ["vp_12_update", "vs_12_update", "vg_12_update"]
    other = ["treat", "township_id", *after, *_SPECIAL]
    return _letter("wi_group_competition", frame, other, outcome="vg_12_update")


def wisconsin_secrecy() -> DataSet:
    """Letters on the secrecy of the ballot, and turnout in the recall of June 2012."""
    frame = table(f"{_TURNOUT}/wi_ballot_secrecy.parquet")
    other = ["treat", "township_id", "vs_12_update", "vg_12_update", *_SPECIAL]
    return _letter("wi_ballot_secrecy", frame, other, outcome="vs_12_update")


def _letter(
    name: str, frame: pd.DataFrame, other: list[str], *, outcome: str
) -> DataSet:
    """One letter against none, drawn at even chances.

    Args:
        name: Of the task.
        frame: Voters.
        other: Columns that are no covariates.
        outcome: Column of the votes.
    """
    features = frame.drop(columns=other)
    return from_frame(
        name,
        features.loc[:, (features != features.iloc[0]).any()],
        arm=frame["treat"].to_numpy(),
        Y=frame[outcome].to_numpy(dtype=float),
        propensity=np.array([0.5, 0.5]),
        messages=("letter",),
        unit=np.arange(len(frame)),
        spends=SPENDS,
    )


def connecticut_secrecy() -> DataSet:
    """Letters on the secrecy of the ballot against a placebo, November 2010."""
    frame = table(f"{_TURNOUT}/ct_ballot_secrecy.parquet")
    town = [f"town{i}_block" for i in range(1, 7)]
    alone = [f"i_grp_addr_{i}" for i in range(1, 5)]
    arm = frame["anysecrecytreatment"].to_numpy()
    block = frame[town].to_numpy().argmax(axis=1)
    # the blocks' chances differ and are not published: shares by block
    share = pd.Series(arm).groupby(block).transform("mean").to_numpy(dtype=float)
    return from_frame(
        "ct_ballot_secrecy",
        frame[["dem", "rep", "sex_1", "sex_2", "age_md", *town, *alone]],
        arm=arm,
        Y=frame["v_cong_general_10"].to_numpy(dtype=float),
        propensity=np.column_stack([1 - share, share]),
        messages=("secrecy",),
        unit=np.arange(len(frame)),
        spends=SPENDS,
        block=block,
    )

"""Turnout that is known only after the election binds the campaign that comes next.

Letters on a competition between groups, Wisconsin 2012: in the recall of June they did
nothing, in November they lowered turnout by 1.6 points (SE .7). Gerber, Huber and
others (2014).
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.cli import BAD_INPUT
from hustings.experiments.declaration import data_dir
from tests.experiments.test_right_reason import QUICK, Drawn, hustings, results_of

LETTERS = data_dir() / "turnout2012_wisconsin_connecticut"
pytestmark = pytest.mark.skipif(not LETTERS.exists(), reason="needs the public data")
OUTCOME = {
    "name": "recall", "label": "voted in June", "kind": "binary", "measures": "other",
    "unit_per_point": 0.01,
}  # fmt: skip
PUBLISHED, PUBLISHED_SE = -0.016, 0.007


def letters() -> Drawn:
    """The mailing as the tables of a campaign, all voters of the test."""
    file = pd.read_parquet(LETTERS / "wi_group_competition.parquet")
    voter_id = pd.Series([f"W{i:05d}" for i in range(len(file))])
    voters = pd.DataFrame(
        {
            "voter_id": voter_id, "cluster": voter_id,
            "age": file["age_corrected"].where(file["d_miss_age"] == 0),
            "sex": np.where(file["female"] == 1, "F", "M"),
            "g2022": file["vg_06_update"], "g2024": file["vg_08_update"],
        }
    )  # fmt: skip
    campaign = Drawn(0)
    campaign.add("letters", slice(0, 0), {"control": 0.5, "competition": 0.5})
    sent = file["treat"] == 1
    campaign.frames["voters"] = voters
    campaign.frames["deliveries"] = pd.DataFrame(
        {
            "voter_id": voter_id, "experiment": "letters", "by": "person",
            "message_id": np.where(sent, "competition", "control"),
            "channel": np.where(sent, "mail", "none"),
        }
    )  # fmt: skip
    campaign.frames["responses"] = pd.concat(
        [
            pd.DataFrame({"voter_id": voter_id, "experiment": "letters",
                          "outcome": outcome, "value": file[column]})
            for outcome, column in (
                ("recall", "vs_12_update"), ("november", "vg_12_update")
            )
        ]
    )  # fmt: skip
    return campaign


@pytest.mark.usefixtures("one_thread")
def test_a_letter_that_lowered_turnout_in_november_is_not_sent_again(
    tmp_path: Path,
) -> None:
    guardrail = {
        "outcome": "november", "direction": "fall", "margin": 0.01, "absent": "missing",
    }  # fmt: skip
    folder = letters().write(
        tmp_path / "next", outcome=OUTCOME, guardrails={"november": guardrail}
    )
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == BAD_INPUT, done.output
    said = " ".join(done.output.split())
    reason = "message competition: lowers november"
    assert f"Nothing may be sent, because {reason}" in said
    evaluation = json.loads((results_of(folder) / "evaluation.json").read_text())
    (result,) = evaluation["experiments"].values()
    (judged,) = result["guardrails"]
    (row,) = judged["messages"]
    effect = row["effect"]
    assert effect["value"] == pytest.approx(PUBLISHED, abs=PUBLISHED_SE / 2)
    half_width = (effect["high"] - effect["low"]) / 2
    assert half_width == pytest.approx(1.96 * PUBLISHED_SE, rel=0.1)
    # shown to lower it, and far from being shown not to lower it by the margin
    assert row["status"] == "harms"
    assert row["low"] < -judged["margin"] < row["high"] < 0
    page = (results_of(folder) / "report.html").read_text()
    assert "harms: sent to nobody" in page

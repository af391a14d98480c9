"""Who has been sent a message: numbers of groups, none of them small."""

from pathlib import Path

import pandas as pd
import pytest

from hustings.experiments.declaration import load_campaign
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.monitor_config import paused_messages, voters_by_day
from hustings.features.tables import CONTROL
from hustings.serving.monitor.pauses import Pauses
from hustings.serving.reactions.http import STORE_VARIABLE

NOW = pd.Timestamp.now("UTC").floor("s")

FIRST, SECOND = pd.Timestamp("2026-08-01"), pd.Timestamp("2026-09-10")


def table(rows: list[tuple[str, str, pd.Timestamp]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["voter_id", "message_id", "day"])


@pytest.fixture(scope="module")
def sent():
    """50 were sent the bridge first; 30 more on a second day, 10 of them again."""
    test = [(f"v{i}", "bridge", FIRST) for i in range(50)]
    controls = [(f"c{i}", CONTROL, FIRST) for i in range(70)]
    planned = [(f"v{i}", "bridge", SECOND) for i in range(40, 70)]
    few = [(f"v{i}", "clinic", SECOND) for i in range(100, 119)]
    ids = [f"v{i}" for i in range(120)] + [f"c{i}" for i in range(70)]
    voters = pd.DataFrame({"voter_id": ids, "county_fips": "26001"})
    young = pd.Series(
        ["young" if v.startswith("v") and int(v[1:]) < 25 else "old" for v in ids],
        index=ids,
    )
    return voters_by_day(table(test + controls + planned + few), voters, young)


def test_each_voter_counts_once_from_the_first_day_on(sent):
    assert [day["from"] for day in sent["bridge"]] == ["2026-08-01", "2026-09-10"]
    first, second = sent["bridge"]
    # 25 young; 25, then 45 old; 50, then 70 in the county
    assert first["by_segment"] == {"old": 20, "young": 20}
    assert second["by_segment"] == {"old": 40, "young": 20}
    assert (first["by_county"], second["by_county"]) == ({"26001": 40}, {"26001": 60})


def test_a_total_is_the_sum_of_what_is_shown(sent):
    for days in sent.values():
        for day in days:
            assert day["n"] == sum(day["by_segment"].values())


def test_fewer_than_20_are_not_shown_and_controls_were_sent_nothing(sent):
    assert sent["clinic"] == [
        {"from": "2026-09-10", "n": 0, "by_segment": {}, "by_county": {}}
    ]
    assert CONTROL not in sent


def test_a_voter_file_without_counties_will_do():
    rows = [(f"v{i}", "bridge", FIRST) for i in range(20)]
    voters = pd.DataFrame({"voter_id": [row[0] for row in rows]})
    everyone = pd.Series("everyone", index=voters["voter_id"])
    found = voters_by_day(table(rows), voters, everyone)
    assert found["bridge"][0]["by_county"] == {"unknown": 20}


def test_the_plan_asks_the_store_that_the_endpoint_writes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(
        load_campaign("sample"), tmp_path, tmp_path / "r", "r", tmp_path / "m", at=NOW
    )
    assert paused_messages(run) == {}
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "elsewhere.db"))
    pauses = Pauses.open(tmp_path / "elsewhere.db")
    pauses.pause("jobs_paychecks", by="Dana", reason="a wrong figure", at=SECOND)
    pauses.close()
    assert list(paused_messages(run)) == ["jobs_paychecks"]

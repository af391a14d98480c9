"""What moves a champion, and what must not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import ChampionSection, parse_campaign
from hustings.experiments.run import run_stage
from hustings.experiments.stages import models
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.models import _comparable_champion
from hustings.training.registry.register import (
    champion_version,
    earlier_attempts,
    open_store,
)


@pytest.fixture
def again(story: Any, tmp_path: Path) -> Run:
    """A copy of the finished run, in the same store."""
    shutil.copytree(story.run.folder, tmp_path / "again")
    made: Run = replace(
        story.run, home=tmp_path, folder=tmp_path / "again", run_id="again"
    )
    said = made.read_json("run")
    # what is judged again must not overwrite the figures of the story's own run
    made.write_json("run", {k: v for k, v in said.items() if k != "mlflow_run_id"})
    return made


def test_a_broken_log_promotes_nothing_and_drops_nothing(again: Run) -> None:
    """A fifth of the people without a message are logged as if they had one."""
    rows = again.read("training_set")
    rng = np.random.default_rng(0)
    moved = (rows["message_id"] == "control") & (rng.random(len(rows)) < 0.2)
    one = rows.loc[rows["message_id"] != "control", ["message_id", "channel"]].iloc[0]
    rows.loc[moved, ["message_id", "channel"]] = one.to_numpy()
    again.write("training_set", rows)
    run_stage(again, "evaluate")
    evaluation = again.read_json("evaluation")
    (found,) = evaluation["experiments"].values()
    assert found["verdict"] == "not_worth_personalising"
    assert found["gate"]["blocked_by"] == ["sample_ratio"]
    assert "group sizes are not what the design says" in found["sentence"]
    assert evaluation["headline"]["sentence"] == found["sentence"]
    open_store(None, again.store)
    before = champion_version(again.campaign.campaign.name)
    run_stage(again, "promote")
    assert again.read_json("promoted")["kept"]
    assert champion_version(again.campaign.campaign.name) == before


def test_what_gives_a_special_category_away_promotes_nothing(again: Run) -> None:
    """The category becomes what the model acts on: who is most moved by a message."""
    features = again.campaign.features.model_copy(update={"proxy_limit": 0.7})
    run = replace(again, campaign=again.campaign.model_copy(
        update={"features": features}
    ))  # fmt: skip
    scores = run.read("scores").set_index("voter_id")
    lift = scores[next(c for c in scores if c.startswith("lift__"))]
    voters = run.table("voters")
    mine = voters["voter_id"].map(lift)
    assert "church_member" not in run.read("training_set").columns
    told = voters.assign(church_member=(mine > mine.median()).astype(float))
    run.write("tables/voters", told)
    run_stage(run, "evaluate")
    (found,) = run.read_json("evaluation")["experiments"].values()
    assert found["gate"]["blocked_by"] == ["proxies"]
    assert found["verdict"] == "not_worth_personalising"
    (row,) = found["checks"]["proxies"]["categories"]
    assert row["column"] == "church_member"
    assert row["auc"]["low"] > 0.7
    assert "gives away a special category" in found["sentence"]


def test_a_champion_is_defended_until_it_expires(
    again: Run,
) -> None:
    champion = ChampionSection(max_age_days=30)
    campaign = again.campaign.model_copy(update={"champion": champion})
    run = replace(again, campaign=campaign)
    assert _comparable_champion(run) is not None
    in_31_days = run.at + pd.Timedelta(days=31)
    assert _comparable_champion(replace(run, at=in_31_days)) is None
    noted = json.loads((run.folder / "run.json").read_text())["champion_before"]
    assert noted["expired"]
    assert not noted["compared"]
    # a campaign that declares no age keeps its champion
    assert _comparable_champion(again) is not None


def test_an_attempt_on_other_data_counts_and_the_same_data_again_does_not(
    story: Any,
) -> None:
    open_store(None, story.run.store)
    name = story.run.campaign.campaign.name
    own = story.run.read_json("run")["data_hash"]
    assert earlier_attempts(name, data_hash=own) == 0
    assert earlier_attempts(name, data_hash="other data") == 1
    assert earlier_attempts("never run", data_hash=own) == 0
    evaluation = story.run.read_json("evaluation")
    (found,) = evaluation["experiments"].values()
    assert found["gate"]["attempt"] == 1
    assert found["gate"]["alpha"] == pytest.approx(0.0151982, abs=1e-6)


def test_a_champions_age_is_declared_in_days() -> None:
    shipped = (Path(models.__file__).parents[1] / "sample/campaign.toml").read_text()
    assert parse_campaign(shipped).champion.max_age_days is None
    aged = parse_campaign(shipped + "\n[champion]\nmax_age_days = 60\n")
    assert aged.champion.max_age_days == 60
    with pytest.raises(ValueError, match=r"\[champion\]\.max_age_days"):
        parse_campaign(shipped + "\n[champion]\nmax_age_days = 0\n")

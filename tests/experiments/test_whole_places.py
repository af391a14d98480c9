"""`[plan.places]` from the declaration to the list, the money and the replay."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, OK, app
from hustings.experiments.declaration import load_campaign
from hustings.experiments.plans import spent
from hustings.experiments.stages.reactions import store_of
from hustings.features.checksums import write_checksums
from hustings.serving.monitor.pauses import Pauses
from tests.serving.exports import read

PLACES = """
[plan.places]
column = "county_fips"

[plan.places.channels.every_door]
lift_of = "mail"
lift_share = 0.9
usd_per_place = 10.0
usd_per_voter = 0.05

[features]"""
CHANNEL = "every_door"
SECOND = pd.Timestamp("2026-09-07 12:00")
FEW = "26999"
"""A county of nineteen voters."""


class Door:
    """A campaign that was judged once, and the commands that change it.

    Attributes:
        folder: Of campaign.toml.
        home: Of runs and registry.
    """

    def __init__(self, story: Any, home: Path) -> None:
        self.home, self.folder = home, home / "campaign"
        shutil.copytree(story.folder, self.folder)
        shutil.copytree(story.run.home, home / "runs" / "spread")
        shutil.copytree(story.run.store, home / "mlflow")
        self.declare("\n[features]", PLACES)
        # little money: fewer voters are worth a letter of their own
        self.declare("spend_per_voter_usd = 0.45", "spend_per_voter_usd = 0.15")
        path = self.run / "tables" / "voters.parquet"
        voters = pd.read_parquet(path)
        voters.loc[:18, "county_fips"] = FEW
        voters.to_parquet(path)
        write_checksums(self.run)

    def __call__(self, *words: str, code: int = OK) -> str:
        """What a command says."""
        given = [*words, "--campaign", str(self.folder)]
        given += ["--data", str(self.home / "runs")]
        if words[0] in {"plan", "day", "report"}:
            given += ["--store", str(self.home / "mlflow")]
        result = CliRunner().invoke(app, given, env={"MLFLOW_TRACKING_URI": None})
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    def declare(self, old: str, new: str) -> None:
        """Change the declaration."""
        path = self.folder / "campaign.toml"
        assert path.read_text().count(old) == 1, old
        path.write_text(path.read_text().replace(old, new))

    @property
    def campaign(self) -> Path:
        """Folder of the campaign's runs and plans."""
        return self.home / "runs" / "spread"

    @property
    def run(self) -> Path:
        """Folder of the latest run."""
        return self.campaign / (self.campaign / "latest").read_text()

    @property
    def plan_id(self) -> str:
        """Name of the plan of the latest run."""
        return str(self.facts()["plan_id"])

    @property
    def plan(self) -> Path:
        """Folder of that plan."""
        return self.campaign / "plans" / self.plan_id

    def facts(self) -> dict[str, Any]:
        """What the latest run notes of itself."""
        found: dict[str, Any] = json.loads((self.run / "run.json").read_text())
        return found

    def places(self) -> pd.DataFrame:
        """PLACES of the plan, by place."""
        return pd.read_parquet(self.plan / "places.parquet").set_index("place")


@pytest.fixture(scope="module")
def planned(story: Any, tmp_path_factory: pytest.TempPathFactory) -> Door:
    """The story's campaign with a channel of whole counties, planned."""
    hustings = Door(story, tmp_path_factory.mktemp("places"))
    hustings("plan")
    return hustings


@pytest.fixture(scope="module")
def exported(planned: Door) -> tuple[Door, Path]:
    """The same, approved, locked and exported."""
    planned("plans", "approve", planned.plan_id, "--by", "R. Approver", "--yes")
    planned("plans", "lock", planned.plan_id)
    planned("export", planned.plan_id)
    return planned, only(planned.campaign / "exports" / planned.plan_id, "2*")


def only(folder: Path, pattern: str) -> Path:
    """The one file of a pattern."""
    paths = list(folder.glob(pattern))
    assert len(paths) == 1, paths
    return paths[0]


def test_a_plan_whose_draw_holds_out_nobody_is_refused(
    story: Any, tmp_path: Path
) -> None:
    tiny = Door(story, tmp_path)
    tiny.declare("\nholdout_share = 0.1\n", "\nholdout_share = 1e-8\n")
    said = tiny("plan", code=BAD_INPUT)
    assert "to be held out, got nobody by a share of 1e-08: a holdout is" in said
    assert (
        tiny.plan_id
        == json.loads((story.run.folder / "run.json").read_text())["plan_id"]
    )


def test_counties_are_planned_within_the_money_that_voters_share(planned: Door) -> None:
    places, facts = planned.places(), planned.facts()["plan"]
    contacts = pd.read_parquet(planned.plan / "plan.parquet")
    voters = pd.read_parquet(planned.run / "tables" / "voters.parquet")
    here = voters["county_fips"].value_counts()
    taken = places[places["channel"] == CHANNEL]
    assert 3 <= len(taken) < len(here) - 3
    assert (places["n_voters"] == here.reindex(places.index)).all()
    cost = 10 + 0.05 * taken["n_voters"]
    pd.testing.assert_series_equal(taken["cost_usd"], cost, check_names=False)
    usd = taken["cost_usd"].sum() + contacts["cost_usd"].sum()
    assert 0.97 * facts["budget_usd"] < usd <= facts["budget_usd"]
    assert facts["spent_usd"] == pytest.approx(usd)
    # nobody in a county that is taken gets anything of their own
    county = voters.set_index("voter_id")["county_fips"]
    assert not county.loc[contacts["voter_id"]].isin(taken.index).any()
    assert county.isin(taken.index).sum() > 500
    assert planned.places().loc[FEW, "intended_channel"] == "none"


def test_more_is_gained_by_places_and_voters_than_by_voters_alone(
    planned: Door, story: Any, tmp_path: Path
) -> None:
    """By the planted truth, had the channel the effect that is declared."""
    alone = Door(story, tmp_path)
    alone.declare("usd_per_voter = 0.05", "usd_per_voter = 90.0")
    alone("plan")
    assert (alone.places()["intended_channel"] == "none").all()
    voters = story.run.table("voters")[["voter_id", "county_fips"]]

    def gain(hustings: Door) -> float:
        taken = hustings.places().query("channel == @CHANNEL")
        messages = voters["county_fips"].map(taken["message_id"])
        door = voters.assign(message_id=messages.astype("str"), channel="mail")
        door = door[messages.notna()]
        contacts = pd.read_parquet(hustings.plan / "plan.parquet")
        return float(
            story.true_lift(contacts).sum()
            + (0 if door.empty else 0.9 * story.true_lift(door).sum())
        )

    assert gain(planned) > 1.05 * gain(alone)


def test_held_out_counties_are_drawn_and_keep_what_was_meant_for_them(
    planned: Door,
) -> None:
    places = planned.places()
    held = places[places["role"] == "holdout"]
    assert 1 <= len(held) <= 12
    assert (held[["message_id", "channel"]] == ["control", "none"]).all(axis=None)
    assert held["propensity"].unique() == pytest.approx([0.1])
    assert (held["intended_channel"] == CHANNEL).any()


def test_the_lists_name_places_and_nobody(exported: tuple[Door, Path]) -> None:
    hustings, folder = exported
    path = only(folder, f"whole-places-{CHANNEL}-*.csv")
    text = path.read_text()
    listed = read(path).set_index("place")
    taken = hustings.places().query("channel == @CHANNEL")
    assert set(listed.index) == set(taken.index)
    assert (listed["message_id"] == taken["message_id"]).all()
    assert (listed["n_voters"].astype(int) >= 20).all()
    assert listed["disclaimer"].str.contains("Paid for").all()
    voters = pd.read_parquet(hustings.run / "tables" / "voters.parquet")
    assert not any(voter in text for voter in voters["voter_id"].head(500))
    # a county that is held out is in no file of places
    held = hustings.places().query("role == 'holdout'").index
    status = pd.read_parquet(folder / "whole-places.parquet")
    assert not set(held) & {*listed.index, *status["place"]}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["places"] == {
        "planned": len(taken), "exported": len(taken), "refused": {}, "removed_now": 0,
    }  # fmt: skip
    assert "Nothing to hand over" in hustings("export", hustings.plan_id)


def test_a_paused_message_is_taken_back_from_its_places(
    exported: tuple[Door, Path], tmp_path: Path
) -> None:
    hustings, _ = exported
    copy = Door.__new__(Door)
    copy.home, copy.folder = tmp_path, tmp_path / "campaign"
    shutil.copytree(hustings.home, tmp_path, dirs_exist_ok=True)
    taken = copy.places().query("channel == @CHANNEL")
    message = taken["message_id"].iloc[0]
    pauses = Pauses.open(store_of(load_campaign(copy.folder), copy.campaign))
    pauses.pause(message, by="R. Approver", reason="a wrong date", at=SECOND)
    pauses.close()
    said = copy("export", copy.plan_id)
    stopped = taken[taken["message_id"] == message]
    assert f"places refused, paused: {len(stopped)}" in said
    latest = sorted((copy.campaign / "exports" / copy.plan_id).glob("2*"))[-1]
    removed = read(only(latest, "removed-whole-places-*.csv"))
    assert set(removed["place"]) == set(stopped.index)
    # their money is free again
    copy("plans", "sent", copy.plan_id)
    row = spend_of(copy)
    assert row["usd_withheld"] == pytest.approx(stopped["cost_usd"].sum())
    assert row["usd_spent"] == pytest.approx(
        taken["cost_usd"].sum() - stopped["cost_usd"].sum()
    )


def spend_of(hustings: Door) -> pd.Series:
    """The row of the places' channel in the money of all plans."""
    rows = spent(hustings.campaign)
    (row,) = rows[rows["channel"] == CHANNEL].to_dict("records")
    return pd.Series(row)


def test_places_are_handed_over_their_money_is_spent_and_the_plan_replays(
    exported: tuple[Door, Path], tmp_path: Path
) -> None:
    hustings, _ = exported
    taken = hustings.places().query("channel == @CHANNEL")
    assert f"{len(taken)} whole places" in hustings("plans", "list")
    said = hustings("plans", "sent", hustings.plan_id)
    assert f"-{CHANNEL}: {len(taken)} whole places" in said
    row = spend_of(hustings)
    for name in ("planned", "committed", "spent"):
        assert row[f"usd_{name}"] == pytest.approx(taken["cost_usd"].sum()), name
    assert CHANNEL in hustings("plans", "spend")
    out = tmp_path / "bundle"
    said = hustings("evidence", hustings.plan_id, "--replay", "--out", str(out))
    assert said.count("the same, byte for byte") == 4
    n_places = len(hustings.places())
    assert f"places.parquet: the same, byte for byte ({n_places} rows)" in said
    assert len(read(out / "places.csv")) == len(hustings.places())
    notices = json.loads((out / "notices.json").read_text())["messages"]
    assert set(taken["message_id"]) <= set(notices)
    assert "Nothing was altered" in hustings("evidence", "--check", str(out))


def test_the_page_says_which_counties_and_that_nothing_was_measured(
    planned: Door,
) -> None:
    planned("report")
    page = (planned.run / "report.html").read_text()
    taken = planned.places().query("channel == @CHANNEL")
    assert f"{len(taken)} of" in page
    assert "was not measured, it is declared (every_door: 0.9 of the lift by mail)" in (
        " ".join(page.split())
    )
    assert taken.index[0] in page
    (judged,) = planned.facts()["plan"]["judged"]
    assert judged["agrees"] or "places taken whole" in judged["why"]


# --- every key is obeyed or refused ---------------------------------------------------


@pytest.fixture
def replanned(
    story: Any, tmp_path: Path
) -> Callable[[str, str], tuple[Door, pd.DataFrame]]:
    """The campaign planned by a changed declaration."""

    def plan(old: str, new: str) -> tuple[Door, pd.DataFrame]:
        hustings = Door(story, tmp_path / str(abs(hash(new))))
        hustings.declare(old, new)
        hustings("plan")
        return hustings, hustings.places()

    return plan


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("usd_per_place = 10.0", "usd_per_place = 9000.0"),
        ("lift_share = 0.9", "lift_share = 0.001"),
        ('audience = "all"', 'audience = "all"\npolicy = "nobody"'),
        # half of every county's voters are outside
        (
            'audience = "all"',
            'audience = "all"\nonly = { column = "sex", values = ["F"] }',
        ),
    ],
    ids=["place", "share", "policy", "only"],
)  # fmt: skip
def test_what_is_too_dear_does_too_little_or_is_outside_is_not_taken(
    replanned: Callable[[str, str], tuple[Door, pd.DataFrame]], old: str, new: str
) -> None:
    _, places = replanned(old, new)
    assert (places["intended_channel"] == "none").all()


def test_messages_and_the_place_are_the_declared_ones(
    replanned: Callable[[str, str], tuple[Door, pd.DataFrame]], planned: Door
) -> None:
    seen = set(planned.places().query("channel == @CHANNEL")["message_id"])
    messages = pd.read_parquet(planned.run / "tables" / "messages.parquet")
    other = sorted(set(messages["message_id"]) - seen)[0]
    hustings, places = replanned(
        "usd_per_place = 10.0", f'usd_per_place = 1.0\nmessages = ["{other}"]'
    )
    assert set(places["intended_message_id"]) <= {other, "control"}
    hustings.declare('column = "county_fips"', 'column = "state"')
    hustings("plan")
    voters = pd.read_parquet(hustings.run / "tables" / "voters.parquet")
    assert set(hustings.places().index) == set(voters["state"])


def test_what_no_plan_knows_is_refused_by_its_key(
    planned: Door, tmp_path: Path
) -> None:
    text = (planned.folder / "campaign.toml").read_text()

    def refused(old: str, new: str, *words: str) -> str:
        changed = tmp_path / "campaign.toml"
        changed.write_text(text.replace(old, new))
        shutil.copytree(planned.folder / "raw", tmp_path / "raw", dirs_exist_ok=True)
        given = [*words, "--campaign", str(tmp_path)]
        given += ["--data", str(planned.home / "runs")]
        given += ["--store", str(planned.home / "mlflow")]
        result = CliRunner().invoke(app, given, env={"MLFLOW_TRACKING_URI": None})
        assert result.exit_code == BAD_INPUT, result.output
        return " ".join(result.output.split())

    assert "one of mail" in refused('lift_of = "mail"', 'lift_of = "radio"', "plan")
    assert "[plan.places].column" in refused(
        'column = "county_fips"\n\n[plan.places',
        'column = "ward"\n\n[plan.places',
        "plan",
    )
    assert "addresses no person" in refused(".every_door]", ".sms]", "plan")
    assert "usd_per_place or usd_per_voter" in refused(
        "usd_per_place = 10.0\nusd_per_voter = 0.05\n", "", "plan"
    )
    assert 'audience = "all"' in refused(
        'audience = "all"', 'audience = "experiment"', "plan"
    )
    assert "[plan.places]: expected no whole places" in refused(
        "", "", "day", "--date", "2026-09-08"
    )

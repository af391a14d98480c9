"""Runs: whole or not at all, repeatable, and with nobody's data where none belongs."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import hustings.experiments.run as runs
from hustings.experiments import plans
from hustings.experiments.declaration import (
    Campaign,
    CampaignError,
    feature_columns,
    load_campaign,
)
from hustings.experiments.declaration.planning import PlanGroupSection
from hustings.experiments.handover.evidence import replay
from hustings.experiments.plans.ledger import noted_heads, open_ledger
from hustings.experiments.results import record_of_run
from hustings.experiments.run import STAGES, run_campaign, run_stage
from hustings.experiments.stages.context import Run, latest, point_to
from hustings.experiments.stages.persons import known_persons, read_identity
from hustings.features.checksums import file_sha256
from hustings.features.persons.keys import Never, voter_key
from hustings.features.tables import (
    ASSIGNMENTS,
    FROM_ELSEWHERE,
    PLAN,
    QUARANTINE,
    RAW_TABLES,
    SMALLEST_CELL,
    check,
)
from hustings.features.training_set import household
from hustings.serving.monitor.http import MonitoredCampaign as WatchedCampaign
from hustings.serving.monitor.pauses import Pauses
from hustings.serving.plan import held_out
from hustings.serving.plan.explain import MOST_MESSAGES
from hustings.training.registry.register import champion_version, open_store
from tests.scores import by_message

LISTS = ("do_not_contact", "addresses")
BROUGHT = [n for n in RAW_TABLES if n not in (*FROM_ELSEWHERE, *LISTS)]
"""Tables of the simulated campaign."""
VOTER = re.compile(rb"[VH]\d{6,7}")
"""Ids of voters and households of the simulated electorate."""


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def declared(shipped: Campaign, /, **sections: dict[str, Any]) -> Campaign:
    """The campaign with some keys of some sections declared otherwise."""
    changed = {
        name: getattr(shipped, name).model_copy(update=keys)
        for name, keys in sections.items()
    }
    found = shipped.model_copy(update=changed)
    found._file = shipped.file
    return found


Again = Callable[..., Run]


@pytest.fixture
def again(story: Any, tmp_path: Path) -> Again:
    """Makes a copy of the finished run, to repeat a stage under other terms."""

    def copied(**sections: dict[str, Any]) -> Run:
        shutil.copytree(story.run.folder, tmp_path / "again")
        made: Run = replace(
            story.run, home=tmp_path, folder=tmp_path / "again", run_id="again",
            campaign=declared(story.run.campaign, **sections),
        )  # fmt: skip
        return made

    return copied


# --- what a run leaves ----------------------------------------------------------------


def test_a_run_leaves_every_file_that_the_next_stage_or_a_person_needs(
    story: Any,
) -> None:
    tables = [f"tables/{name}.parquet" for name in BROUGHT]
    names = [
        *tables, "quarantine.parquet", "ingest.json", "training_set.parquet",
        "features.parquet", "evaluation.json", "scores.parquet", "plan.parquet",
        "assignments.parquet", "report.html", "run.json", "promoted.json",
    ]  # fmt: skip
    assert [n for n in names if not (story.run.folder / n).is_file()] == []
    assert (story.run.folder / "model" / "model.json").is_file()
    assert not list(story.run.home.rglob("*.partial"))
    assert latest(story.run.home) == "first"


def test_every_table_of_a_run_keeps_its_declaration(story: Any) -> None:
    for name in BROUGHT:
        check(RAW_TABLES[name], story.run.table(name))
    for name, schema in (
        ("quarantine", QUARANTINE), ("plan", PLAN), ("assignments", ASSIGNMENTS),
    ):  # fmt: skip
        assert len(check(schema, story.run.read(name))) > 0


def test_scores_are_of_every_voter_and_message_once(story: Any) -> None:
    scores = by_message(story.run.read("scores"))
    voters, messages = (story.run.table(n) for n in ("voters", "messages"))
    pairs = pd.MultiIndex.from_product([voters["voter_id"], messages["message_id"]])
    assert len(scores) == len(pairs)
    found = pd.MultiIndex.from_frame(scores[["voter_id", "message_id"]])
    assert pairs.difference(found).empty


def test_plan_assignments_and_holdout_agree(story: Any) -> None:
    plan, assigned = story.run.read("plan"), story.run.read("assignments")
    voters, terms = story.run.table("voters"), story.run.campaign.plan
    assert sorted(assigned["voter_id"]) == sorted(voters["voter_id"])
    salt = told(story.run.folder, "plan")["salt"]
    unit = household(voters).to_numpy(dtype=object)
    held = set(voters["voter_id"][held_out(unit, salt=salt, share=terms.holdout_share)])
    assert set(assigned.query("role == 'holdout'")["voter_id"]) == held
    assert not held & set(plan["voter_id"])
    sent = assigned.query("message_id != 'control'")
    assert sorted(sent["voter_id"]) == sorted(plan["voter_id"])


def test_every_assignment_is_in_the_ledger_and_names_nobody(story: Any) -> None:
    assigned, home = story.run.read("assignments"), story.run.home
    ledger, noted = open_ledger(home), noted_heads(home)
    found = ledger.verify(noted)
    assert (found.fault, found.n_entries, len(noted)) == ("", len(assigned) + 1, 1)
    assert not VOTER.search((home / "ledger.db").read_bytes())
    identity = read_identity(home).set_index("voter_id")["person"]
    keys = known_persons(home).keys.keys()
    plan = story.run.read("plan").set_index("voter_id")["send_on"]
    for row in assigned.groupby("role").head(2).itertuples():
        (entry,) = ledger.of_person([keys[identity[row.voter_id]]])
        day = plan.get(row.voter_id)
        told = [row.role, row.message_id, row.channel, row.propensity]
        assert json.loads(entry.body)[:5] == [*told, day and f"{day:%Y-%m-%d}"]


def test_the_plan_of_a_run_is_a_draft_that_can_be_computed_again(story: Any) -> None:
    home, name = story.run.home, told(story.run.folder, "run")["plan_id"]
    record = plans.record_of(home, name)
    assert record.state == plans.DRAFT
    assert record.draft_body["n_contacts"] == len(story.run.read("plan"))
    assert plans.plan_faults(home) == []
    assert replay(home, name).same


def test_the_holdout_follows_persons_to_a_new_house_and_a_new_id(
    story: Any, again: Again
) -> None:
    run = again()
    for name in ("identity.parquet", "keys.db"):
        shutil.copy(story.run.home / name, run.home / name)
    before = run.read("assignments").set_index("voter_id")["role"] == "holdout"
    voters = run.table("voters")
    # every tenth moves into the next one's house, every eleventh has another id
    movers, renamed = voters.index[::10], voters.index[5::11]
    voters.loc[movers, "household_id"] = (
        voters["household_id"].shift(-1).ffill().loc[movers]
    )
    new = {v: f"N{v}" for v in voters.loc[renamed, "voter_id"]}
    for name in ("voters", "deliveries", "permissions"):
        table = voters if name == "voters" else run.table(name)
        moved = table["voter_id"].map(new).fillna(table["voter_id"])
        run.write(f"tables/{name}", table.assign(voter_id=moved))
    known = known_persons(run.home)
    known.remember(run.path("tables/voters.parquet"), new, observed_on="2026-08-01")
    run_stage(run, "plan")
    after = run.read("assignments").set_index("voter_id")["role"] == "holdout"
    expected = before.rename(index=new).reindex(after.index)
    assert (after == expected).all()
    assert before.sum() > 500
    never = Never.from_json(told(run.folder, "plan")["never"], voter_key(run.home))
    assert (never.holds(after.index) == after).all()


def test_a_plan_keeps_to_permissions_days_and_capacities(story: Any) -> None:
    plan, terms = story.run.read("plan"), story.run.campaign.plan
    held = story.run.table("permissions")
    standing = held[held["withdrawn_at"].isna()]
    for channel in ("sms", "phone"):
        asked = set(plan.loc[plan["channel"] == channel, "voter_id"])
        assert asked
        assert asked <= set(standing.loc[standing["channel"] == channel, "voter_id"])
    start = pd.Timestamp(terms.start_on)
    last = start + pd.Timedelta(days=terms.days - 1)
    assert plan["send_on"].between(start, last).all()
    per_day = plan.groupby("channel").apply(lambda c: c.groupby("send_on").size().max())
    most = story.run.table("costs").set_index("channel")["capacity_per_day"]
    assert (per_day <= most.reindex(per_day.index)).all()


def test_a_run_says_what_made_it(story: Any) -> None:
    said = told(story.run.folder, "run")
    assert set(said["timings_s"]) == set(STAGES)
    assert said["seed"] == story.run.campaign.campaign.seed
    assert {"python", "lightgbm", "pandas", "mlflow"} <= set(said["versions"])
    assert said["rows"] == {n: len(story.run.table(n)) for n in BROUGHT}
    for name, digest in said["data_hashes"].items():
        assert digest == file_sha256(story.folder / "raw" / f"{name}.parquet")
    assert said["n_scores"] == len(by_message(story.run.read("scores")))
    assert said["plan"]["n_contacts"] == len(story.run.read("plan"))
    spent = story.run.read("plan")["cost_usd"].sum()
    assert said["plan"]["spent_usd"] == pytest.approx(spent)


def test_the_gap_that_is_told_is_that_of_the_plan(story: Any) -> None:
    said = told(story.run.folder, "run")["plan"]
    assert 0 <= said["optimality_gap"] < 0.02


def test_the_report_says_why_each_message_is_sent_and_names_no_small_group(
    story: Any,
) -> None:
    plan = story.run.read("plan").query("role == 'plan'")
    counts = plan.groupby(["message_id", "channel"], observed=True).size()
    assert (counts < SMALLEST_CELL).any()
    large = counts[counts >= SMALLEST_CELL].nlargest(MOST_MESSAGES)
    reasons = story.run.record().plan.reasons
    assert {(r.message_id, r.channel): r.n_voters for r in reasons} == large.to_dict()
    page = (story.run.folder / "report.html").read_text()
    shown = page[page.index("Why this message and not that") :]
    for (message, channel), n in counts.items():
        # under its title the id
        told = re.search(rf"{message}(</small>)? by {channel}<br>", shown) is not None
        assert told == ((message, channel) in large.index), (message, channel, n)
    for row in reasons:
        assert row.why[0].endswith("this is sent.")
        other_message, other_channel = row.why[1:]
        assert f"{row.message_id} by " not in other_message
        assert other_channel.startswith(f"{row.message_id} by ")


# --- whole or not at all --------------------------------------------------------------


class KilledError(RuntimeError):
    """Stands for a kill."""


@pytest.mark.parametrize("stage", ["features", "train"])
def test_a_run_that_dies_leaves_no_run_and_the_latest_as_it_was(
    story: Any, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = story.elsewhere(tmp_path)
    (run.home / "yesterday").mkdir(parents=True)
    point_to(run.home, "yesterday")

    def dies(_run: Run) -> None:
        raise KilledError

    monkeypatch.setitem(runs._STAGES, stage, dies)
    with pytest.raises(KilledError):
        run_campaign(run)
    assert not (run.home / "again").exists()
    assert (run.home / ".again.partial" / "ingest.json").exists()
    assert latest(run.home) == "yesterday"
    assert not (run.home / "serving").exists()


def test_a_table_whose_writing_dies_leaves_the_old_one(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = again()
    before = (run.folder / "plan.parquet").read_bytes()

    def dies(_frame: pd.DataFrame, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise KilledError

    monkeypatch.setattr(pd.DataFrame, "to_parquet", dies)
    with pytest.raises(KilledError):
        run.write("plan", pd.DataFrame({"x": [1]}))
    assert (run.folder / "plan.parquet").read_bytes() == before


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_without_the_one_before_names_the_file_it_misses(
    story: Any, tmp_path: Path, stage: str
) -> None:
    run = story.elsewhere(tmp_path)
    run.folder.mkdir(parents=True)
    # the champion stands in the registry: it may be of another run
    missing = "expected a registered champion"
    if stage not in {"score", "plan"}:
        missing = "run the stage that makes it first"
    with pytest.raises(FileNotFoundError, match=missing):
        run_stage(run, stage)


def test_planning_again_gives_the_same_plan(story: Any, again: Again) -> None:
    run = again()
    run_stage(run, "plan")
    for name in ("plan", "assignments"):
        pd.testing.assert_frame_equal(run.read(name), story.run.read(name))


def test_a_limit_on_a_group_states_what_it_costs(story: Any, again: Again) -> None:
    """The men are to get more than they would: whom that moves, and what is lost."""
    men = story.run.table("voters").query("sex == 'M'")["voter_id"]
    before = story.run.read("plan")
    share = float(before["voter_id"].isin(men).mean())
    bound = PlanGroupSection(column="sex", values=["M"], low=share + 0.2)
    run = again(plan={"groups": {"men": bound}})
    run_stage(run, "plan")
    run_stage(run, "report")
    priced, plan = record_of_run(run.folder).plan.groups, run.read("plan")
    (group,) = priced.groups
    assert group.share == pytest.approx(plan["voter_id"].isin(men).mean())
    # the plan without the limit is the one that was made without it
    assert group.share_without == pytest.approx(share)
    assert group.share > share + 0.15
    lost = sum(
        float(p.loc[p["role"] == "plan", "lift"].sum()) * sign
        for p, sign in ((before, 1), (plan, -1))
    )
    planned = 1 - run.campaign.plan.holdout_share
    assert priced.price == pytest.approx(lost / planned, rel=0.25)
    page = (run.folder / "report.html").read_text()
    assert f"cost {100 * priced.share:.0f}" in page or priced.share > 0.1
    assert "What limits on groups cost" in page
    assert record_of_run(story.run.folder).plan.groups is None
    assert "limits on groups" not in (story.run.folder / "report.html").read_text()


def test_a_plan_that_holds_out_nobody_is_refused(again: Again) -> None:
    with pytest.raises(ValueError, match="a holdout is always kept"):
        run_stage(again(plan={"holdout_share": 1e-9}), "plan")


def test_scoring_again_gives_the_same_scores(story: Any, again: Again) -> None:
    run = again()
    run_stage(run, "score")
    pd.testing.assert_frame_equal(run.read("scores"), story.run.read("scores"))


# --- nobody's data --------------------------------------------------------------------


def naming_voters(folder: Path, pattern: str = "*") -> list[str]:
    files = [f for f in folder.rglob(pattern) if f.is_file()]
    assert files
    return [str(f.relative_to(folder)) for f in files if VOTER.search(content(f))]


def content(file: Path) -> bytes:
    """Bytes of a file; of a database its values, each by itself.

    In its bytes the end of a number and the digits of a run's id can look like a voter.
    """
    if file.suffix != ".db":
        return file.read_bytes()
    with closing(sqlite3.connect(file)) as database:
        return "\n".join(database.iterdump()).encode()


def test_the_search_for_ids_would_find_one(story: Any, tmp_path: Path) -> None:
    some = story.run.table("voters").sample(500, random_state=0)
    ids = [*some["voter_id"], *some["household_id"]]
    assert all(VOTER.fullmatch(i.encode()) for i in ids)
    (tmp_path / "x").write_bytes(b"\x00so V0000012 it is")
    with closing(sqlite3.connect(tmp_path / "y.db")) as database, database:
        database.execute("CREATE TABLE t AS SELECT 'so V0000012 it is' AS said")
    assert sorted(naming_voters(tmp_path)) == ["x", "y.db"]


def test_mlflow_knows_no_voter_neither_in_its_store_nor_in_an_artifact(
    story: Any,
) -> None:
    assert (story.run.store / "mlflow.db").stat().st_size > 100_000
    assert naming_voters(story.run.store) == []


@pytest.mark.parametrize("pattern", ["*.json", "*.html", "*.txt", "*.png"])
def test_no_page_or_note_or_model_of_a_run_names_a_voter(
    story: Any, pattern: str
) -> None:
    assert naming_voters(story.run.folder, pattern) == []


def test_the_bundle_of_the_endpoint_names_no_voter(story: Any) -> None:
    assert naming_voters(story.run.home / "serving") == []


def test_the_report_loads_nothing_from_elsewhere(story: Any) -> None:
    page = (story.run.folder / "report.html").read_text()
    assert len(page) > 50_000
    assert not re.findall(r"""<[^>]+\b(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.findall(r"@import|url\(\s*[\"']?https?:", page)


# --- MLflow ---------------------------------------------------------------------------


def test_mlflow_holds_parameters_metrics_with_intervals_data_and_figures(
    story: Any,
) -> None:
    open_store(None, story.run.store)
    client = mlflow.MlflowClient()
    run_id = told(story.run.folder, "run")["mlflow_run_id"]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == str(story.run.campaign.campaign.seed)
    metrics = run.data.metrics
    (found,) = told(story.run.folder, "evaluation")["experiments"].values()
    for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert metrics[f"gain_from_personalising{suffix}"] == pytest.approx(
            found["gain_from_personalising"][key], rel=1e-5
        )
    assert run.inputs.dataset_inputs[0].dataset.digest
    artifacts = {f.path for f in client.list_artifacts(run_id)}
    assert {"evaluation.json", "report.html", "figures"} <= artifacts
    assert len(client.list_artifacts(run_id, "figures")) >= 3


def test_the_champion_says_what_judged_it(story: Any) -> None:
    open_store(None, story.run.store)
    champion = champion_version(story.run.campaign.campaign.name)
    assert champion is not None
    said = told(story.run.folder, "run")
    assert champion.tags["judged_by"] == said["mlflow_run_id"]
    assert champion.tags["data_hash"] == said["data_hash"]
    assert champion.tags["verdict"] == "personalise"
    assert champion.version == told(story.run.folder, "promoted")["version"]


def test_the_registered_model_scores_raw_rows_as_the_run_did(story: Any) -> None:
    open_store(None, story.run.store)
    champion = champion_version(story.run.campaign.campaign.name)
    assert champion is not None
    model = mlflow.pyfunc.load_model(champion.uri)
    raw = pd.read_parquet(story.folder / "raw" / "voters.parquet").head(50)
    inputs = model.metadata.get_input_schema().inputs
    assert {spec.name for spec in inputs if spec.required} == {"voter_id"}
    # what is joined to the file may be left out
    wide = model.predict(raw[[spec.name for spec in inputs if spec.name in raw]])
    scores = by_message(story.run.read("scores"))
    scores = scores.set_index(["voter_id", "message_id"])["lift"]
    for message in story.run.table("messages")["message_id"]:
        expected = scores.reindex([(v, message) for v in wide["voter_id"]])
        assert np.allclose(wide[f"lift__{message}"], expected, atol=1e-5)


def test_the_example_of_the_registered_model_is_synthetic_and_can_be_scored(
    story: Any,
) -> None:
    open_store(None, story.run.store)
    champion = champion_version(story.run.campaign.campaign.name)
    assert champion is not None
    model = mlflow.pyfunc.load_model(champion.uri)
    example = pd.DataFrame(model.input_example)
    assert not set(example["voter_id"]) & set(story.truth.index)
    assert np.isfinite(model.predict(example).drop(columns="voter_id")).all(axis=None)


# --- guardrails -----------------------------------------------------------------------


def disclosing(run: Run, message_id: str) -> None:
    """The message shows the record of others."""
    messages = run.table("messages").set_index("message_id")
    messages.loc[message_id, "discloses"] = "others"
    run.write("tables/messages", messages.reset_index())


def test_a_disclosing_message_is_planned_in_a_replay_and_never_under_us_rules(
    again: Again,
) -> None:
    run = again(campaign={"rule_set": "research_replay"})
    plan = run.read("plan")
    most_sent = str(plan["message_id"].value_counts().idxmax())
    disclosing(run, most_sent)
    run_stage(run, "plan")
    assert most_sent in set(run.read("plan")["message_id"])
    rules = declared(run.campaign, campaign={"rule_set": "us_default"})
    run = replace(run, campaign=rules)
    run_stage(run, "plan")
    replanned = run.read("plan")
    assert len(replanned) > 0
    # neither bought nor explored
    assert most_sent not in set(replanned["message_id"])
    assert most_sent not in set(run.read("assignments")["intended_message_id"])
    reasons = [row["reason"] for row in told(run.folder, "run")["plan"]["not_eligible"]]
    assert f"message {most_sent}: discloses the record of others" in reasons


def test_a_message_that_lowers_turnout_is_neither_bought_nor_explored(
    again: Again,
) -> None:
    run = again()
    best = run.read("plan")["message_id"].value_counts().idxmax()
    run.write_json("turnout", {"lowers": [best], "effects": {}})
    run_stage(run, "plan")
    assert best not in set(run.read("plan")["message_id"])


def test_a_paused_message_is_neither_bought_nor_explored_until_it_is_resumed(
    again: Again,
) -> None:
    run = again()
    best = str(run.read("plan")["message_id"].value_counts().idxmax())
    at = pd.Timestamp("2026-09-01 12:00", tz="UTC")
    pauses = Pauses.open(run.home / "events.db")
    pauses.pause(best, by="Ada", reason="angry replies", at=at)
    run_stage(run, "plan")
    assert len(run.read("plan")) > 0
    assert best not in set(run.read("plan")["message_id"])
    assert best not in set(run.read("assignments")["intended_message_id"])
    reasons = [row["reason"] for row in told(run.folder, "run")["plan"]["not_eligible"]]
    said = "is paused since 2026-09-01 12:00 UTC by Ada: angry replies"
    assert f"message {best}: {said}" in reasons
    pauses.resume(best, by="Ada", reason="it was a brigade", at=at)
    pauses.close()
    run_stage(run, "plan")
    assert best in set(run.read("plan")["message_id"])


def test_the_monitor_knows_the_campaign_from_the_bundle(story: Any) -> None:
    plan = json.loads((story.run.home / "serving" / "plan.json").read_text())
    known = WatchedCampaign.of("spread", plan)
    messages = set(story.run.table("messages")["message_id"])
    assert set(known.issue_of) == messages
    assert set(known.lifts) == messages
    assert known.pause_on == "never"
    sent = story.run.table("deliveries").query("message_id != 'control'")
    first = known.sent_by(sent["sent_on"].max())
    for message, told_of in first.items():
        n = (sent["message_id"] == message).sum()
        assert 0 <= n - told_of["n"] < 20 * len(told_of["by_segment"]) + 200


def test_a_campaign_about_turnout_bars_what_lowers_it(again: Again) -> None:
    from hustings.experiments.stages import models

    run = again(
        outcome={"name": "turnout", "measures": "turnout", "turnout": None,
                 "absent": "zero", "kind": "binary", "unit_per_point": 0.01},
    )  # fmt: skip
    responses = run.table("responses").set_index("voter_id")
    sent = run.table("deliveries").query("message_id == 'safety_patrols'")["voter_id"]
    mine = responses.index.isin(sent) & (responses["outcome"] == "turnout")
    responses.loc[mine, "value"] = 0.0
    run.write("tables/responses", responses.reset_index())
    run_stage(run, "features")
    models.before_training(run)
    assert told(run.folder, "turnout")["lowers"] == ["safety_patrols"]


def test_the_holdout_of_a_campaign_outlives_its_plans(story: Any, again: Again) -> None:
    run = again(plan={"start_on": date(2026, 10, 1), "days": 3,
                      "spend_per_voter_usd": 0.1})  # fmt: skip
    run_stage(run, "plan")
    one, two = (r.read("assignments").query("role == 'holdout'")["voter_id"]
                for r in (story.run, run))  # fmt: skip
    assert set(one) == set(two)
    assert run.read("plan")["cost_usd"].sum() <= 0.1 * len(story.truth) + 1e-6


def test_where_nothing_helps_nothing_is_bought(again: Again, tmp_path: Path) -> None:
    run = replace(again(), store=tmp_path / "mlflow")
    evaluation = told(run.folder, "evaluation")
    for result in evaluation["experiments"].values():
        result |= {"champion": "nobody", "verdict": "not_worth_personalising"}
    run.write_json("evaluation", evaluation)
    said = told(run.folder, "run")
    run.write_json("run", {k: v for k, v in said.items() if k != "mlflow_run_id"})
    for stage in ("promote", "plan"):
        run_stage(run, stage)
    plan = run.read("plan")
    assert set(plan["role"]) <= {"explore"}


def test_a_special_category_is_a_feature_only_with_a_stated_basis(
    story: Any, again: Again
) -> None:
    assert "church_member" in story.run.table("voters").columns
    assert "church_member" not in story.run.read("features").columns
    every = {"columns": ["*"]}
    columns = list(story.run.table("voters").columns)
    named = declared(story.run.campaign, features=every)
    assert "church_member" not in feature_columns(named, columns)
    run = again(features=every | {"legal_basis_special": "explicit consent"})
    run_stage(run, "features")
    assert "church_member" in run.read("features").columns


def test_naming_a_special_category_without_a_basis_is_refused(
    story: Any, tmp_path: Path
) -> None:
    text = (story.folder / "campaign.toml").read_text()
    asked = text.replace('"consumer_score"', '"consumer_score", "church_member"', 1)
    (tmp_path / "campaign.toml").write_text(asked)
    with pytest.raises(CampaignError, match=r"church_member.*special category"):
        load_campaign(tmp_path)


def test_ids_and_addresses_are_never_features(story: Any) -> None:
    every = declared(story.run.campaign, features={"columns": ["*"]})
    found = feature_columns(every, list(story.run.table("voters").columns))
    assert not {"voter_id", "household_id", "postcode", "birth_year"} & set(found)


# --- the null twin --------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_where_all_are_moved_alike_the_verdict_is_not_to_personalise(
    tmp_path: Path,
) -> None:
    shipped = load_campaign("sample")
    twin = {"n_voters": 6_000, "n_messages": 4, "null_twin": True, "seed": 3}
    campaign = declared(shipped, simulate=twin)
    run = Run(
        campaign, tmp_path, tmp_path / "null", "null", tmp_path / "mlflow", n_trials=1,
        at=pd.Timestamp("2026-09-01", tz="UTC"),
    )  # fmt: skip
    for stage in STAGES[:4]:
        run_stage(run, stage)
    evaluation = told(run.folder, "evaluation")
    assert evaluation["headline"]["verdict"] != "personalise"
    (found,) = evaluation["experiments"].values()
    gain = found["gain_from_personalising"]
    # one draw: three standard errors, not two
    assert abs(gain["value"]) < 3 * (gain["high"] - gain["low"]) / (2 * 1.96)
    assert found["champion"] in {"best_mix", "single_best", "nobody", "one_covariate"}

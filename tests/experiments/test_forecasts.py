"""What others know of messages, through the commands: forecasts and past effects.

Nine invented messages were tested, and staff forecast what they do; a die does not.
Three more were never sent.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from typer.testing import CliRunner, Result

from hustings.experiments.cli import BAD_INPUT, OK, app
from hustings.experiments.declaration import CampaignError, load_campaign
from hustings.experiments.run import run_stage
from hustings.experiments.stages.champion import promoted
from hustings.experiments.stages.context import Run, latest
from hustings.features import minilm
from hustings.training.registry.campaign_model import CampaignModel
from tests.experiments.test_day import small_text
from tests.experiments.test_right_reason import OWN, QUICK, Drawn
from tests.scores import by_message

EFFECTS = dict(zip("abcdefgh", np.linspace(-5.0, 9.0, 8), strict=True))
DICE = dict(zip("abcdefgh", [3, 1, 4, 1, 5, 2, 2, 4], strict=True))
NEW = {"better": 9.0, "worse": -5.0, "odd": 9.0}
PAST = {
    "campaign": "2024", "message_id": "better", "issue": "jobs", "channel": "mail",
    "audience": "field",
}  # fmt: skip


def forecasts(staff: dict[str, float]) -> list[dict[str, Any]]:
    dice = DICE | {"better": 6, "worse": 1}
    return [
        {"forecaster": name, "message_id": m, "points": float(points)}
        for name, of in (("staff", staff), ("dice", dice))
        for m, points in of.items()
    ]


def by_staff() -> dict[str, float]:
    """Marks of 0 to 10: right but for a little."""
    noise = dict(zip("abcdefgh", [1, -1, 0, 1, -1, 0, 1, -1], strict=True))
    return {m: 4 + (e + noise.get(m, 0.0)) / 3 for m, e in (EFFECTS | NEW).items()}


def brought(folder: Path, **sections: Any) -> Path:
    drawn = Drawn(2_700)
    drawn.add("e", slice(None), dict.fromkeys(["control", *EFFECTS], 1 / 9))
    sent = drawn.frames["deliveries"]["message_id"].map(EFFECTS).fillna(0.0)
    drawn.frames["responses"]["value"] += sent
    for m in NEW:
        issue = "whales" if m == "odd" else "jobs"
        row = {"message_id": m, "text": f"Text {m}", "issue": issue}
        drawn.messages[m] = drawn.messages["a"] | row
    for m in "abcdefgh":
        drawn.messages[m]["text"] = f"Text of {m}, such as it is"
    declared = {
        "tables": {
            "forecasts": OWN | {"most_quarantined": 0.05, "rows": [
                *forecasts(by_staff()),
                {"forecaster": "staff", "message_id": "typo", "points": 3.0},
            ]},
        },
        "forecasts": {"texts": False},
        "outcome": {"scale": [-1000, 1000]},
    }  # fmt: skip
    # what is merged into the declaration joins the tables that are there
    return drawn.write(folder, **{**declared, **sections})


def hustings(folder: Path, *words: str) -> Result:
    where = ("--campaign", str(folder), "--data", str(folder.parent / "data"))
    store = ("--store", str(folder.parent / "mlflow"))
    return CliRunner().invoke(
        app, [*words, *where, *store], env={"MLFLOW_TRACKING_URI": None}
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """The campaign's first run, and what the command said."""
    folder = brought(tmp_path_factory.mktemp("forecasts") / "heard")
    answer = hustings(folder, "run", *QUICK)
    assert answer.exit_code == OK, answer.output
    home = folder.parent / "data" / "heard"
    run_id = latest(home)
    assert run_id is not None
    run = Run(
        load_campaign(folder), home, home / run_id, run_id, folder.parent / "mlflow",
        at=pd.Timestamp("2026-03-01"),
    )  # fmt: skip
    return run, " ".join(answer.output.split())


def expected(run: Run) -> dict[str, dict[str, Any]]:
    unseen = json.loads((run.folder / "run.json").read_text())["unseen"]
    return {name: row["effect"] | row for name, row in unseen["expected"].items()}


def scored_again(run: Run, **tables: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is expected with other tables, under the same registered model."""
    before = {name: run.optional_table(name) for name in tables}
    for name, rows in tables.items():
        run.write(f"tables/{name}", pd.DataFrame(rows))
    try:
        run_stage(run, "score")
        return expected(run)
    finally:
        for name, table in before.items():
            run.path(f"tables/{name}.parquet").unlink()
            if table is not None:
                run.write(f"tables/{name}", table)


def width(row: dict[str, Any]) -> float:
    return float(row["high"] - row["low"])


def test_how_far_each_forecaster_is_believed_is_learnt_and_shown(
    played: tuple[Run, str],
) -> None:
    run, said = played
    (experiment,) = run.read_json("evaluation")["experiments"].values()
    staff, dice = (
        next(r for r in experiment["forecasts"] if r["forecaster"] == name)
        for name in ("staff", "dice")
    )
    assert staff["slope"]["value"] > 0.3 > 0.1 > abs(dice["slope"]["value"])
    assert (staff["n_tested"], staff["n_past"]) == (8, 0)
    assert dice["slope"]["low"] < 0 < dice["slope"]["high"]
    assert dice["noise_share"] > 0.95 > staff["noise_share"]
    page = (run.folder / "report.html").read_text()
    assert "How far forecasts are believed" in page
    assert "outside: unlike all that were tested" in page
    assert "forecasts: 22 rows in = 21 accepted + 1 set aside" in said


def test_a_forecast_of_an_unknown_message_is_set_aside(played: tuple[Run, str]) -> None:
    run, _ = played
    quarantine = run.read("quarantine")
    row = quarantine[quarantine["table"] == "forecasts"].iloc[0]
    assert (row["row"], row["column"]) == (22, "message_id")
    assert "expected one of the tables messages and past_effects" in row["reason"]


def test_a_forecast_moves_what_is_expected_of_a_message_never_sent(
    played: tuple[Run, str],
) -> None:
    run, said = played
    believed = expected(run)
    assert believed["better"]["value"] > believed["worse"]["value"] + 3
    assert not believed["better"]["outside"]
    scores = by_message(run.read("scores"))
    lift = scores.groupby("message_id", observed=True)["lift"].mean()
    assert lift["better"] == pytest.approx(believed["better"]["value"], abs=1e-3)
    assert "3 messages have never been sent: 2 scored by what others know" in said


def test_a_model_with_messages_never_sent_is_read_as_it_was_saved(
    played: tuple[Run, str], tmp_path: Path
) -> None:
    """Under the champion, and under every policy with lifts of its own."""
    run, _ = played
    model, _ = promoted(run)
    voters = run.table("voters").head(40)
    model.save(tmp_path / "model")
    again = CampaignModel.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.score(voters), model.score(voters))
    assert again.messages[-2:] == ["better", "worse"]
    for policy in ("one_covariate", "personalised", "single_best"):
        scores = again.under(policy).score(voters)
        assert set(scores["message_id"]) == {*EFFECTS, "better", "worse"}


def test_an_issue_never_tested_is_outside_with_a_wide_interval(
    played: tuple[Run, str],
) -> None:
    """However good its forecast: nothing shows what such messages do."""
    run, said = played
    believed = expected(run)
    assert believed["odd"]["outside"]
    assert width(believed["odd"]) > 1.3 * width(believed["better"])
    assert "lift__odd" not in run.read("scores")
    assert "Not scored: odd: unlike all messages that were tested (outside)" in said


def test_a_text_unlike_all_that_were_tested_is_outside(
    played: tuple[Run, str],
) -> None:
    """Whatever its issue is said to be; one like the others is not."""
    if importlib.util.find_spec(minilm.PACKAGE) is None:
        pytest.skip("the sentence model is not installed: " + minilm.INSTALL)
    run, _ = played
    section = run.campaign.forecasts.model_copy(update={"texts": True})
    reading = run.campaign.model_copy(update={"forecasts": section})
    reading._file = run.campaign.file
    messages = run.table("messages").set_index("message_id")
    messages.loc["better", "text"] = "Text of a, such as it is, and b"
    messages.loc["worse", "text"] = "Boil two potatoes for twenty minutes in salt water"
    rows = messages.reset_index().to_dict("records")
    believed = scored_again(replace(run, campaign=reading), messages=rows)
    assert not believed["better"]["outside"]
    assert believed["worse"]["outside"]


def test_texts_without_the_sentence_model_are_refused_before_training(
    played: tuple[Run, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = played
    section = run.campaign.forecasts.model_copy(update={"texts": True})
    reading = run.campaign.model_copy(update={"forecasts": section})
    reading._file = run.campaign.file
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_model")
    with pytest.raises(CampaignError, match=r"not installed.*or declare texts = false"):
        run_stage(replace(run, campaign=reading), "features")


def test_a_useless_forecaster_moves_nothing(played: tuple[Run, str]) -> None:
    """The dice give the better message 6 and the worse one 1."""
    run, _ = played
    believed = scored_again(run, forecasts=forecasts({}))
    assert abs(believed["better"]["value"] - believed["worse"]["value"]) < 1.5


def test_an_effect_in_an_earlier_campaign_moves_its_message(
    played: tuple[Run, str],
) -> None:
    run, _ = played
    low, high = (
        scored_again(run, past_effects=[
            PAST | {"effect": effect, "se": 0.5},
            *(PAST | {"message_id": f"old{k}", "effect": 3.0 + k % 3, "se": 0.5}
              for k in range(6)),
        ])
        for effect in (0.0, 12.0)
    )  # fmt: skip
    assert high["better"]["value"] > low["better"]["value"] + 2


def test_staff_are_believed_as_far_as_earlier_campaigns_show(
    played: tuple[Run, str],
) -> None:
    """The wrong way round in eight tests of the past, they are believed less here."""
    run, _ = played
    past = [
        PAST | {"message_id": f"old{k}", "effect": -2.0 * k, "se": 0.5}
        for k in range(20)
    ]
    staff = by_staff() | {f"old{k}": k / 2.0 for k in range(20)}
    before = scored_again(run, forecasts=forecasts(by_staff()))
    after = scored_again(run, forecasts=forecasts(staff), past_effects=past)
    gap = [b["better"]["value"] - b["worse"]["value"] for b in (before, after)]
    assert gap[1] < gap[0] - 1


def test_a_smaller_declared_slope_believes_forecasts_less(
    played: tuple[Run, str],
) -> None:
    run, _ = played
    section = run.campaign.forecasts.model_copy(update={"slope_sd": 0.05})
    doubting = run.campaign.model_copy(update={"forecasts": section})
    doubting._file = run.campaign.file
    usual, doubted = (
        scored_again(replace(run, campaign=campaign))
        for campaign in (run.campaign, doubting)
    )
    gap = [b["better"]["value"] - b["worse"]["value"] for b in (usual, doubted)]
    assert 0 <= gap[1] < 0.5 * gap[0]


def test_a_first_wave_believes_what_earlier_campaigns_show(tmp_path: Path) -> None:
    """Without a test of its own; staff marks are believed as far as they were right."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "campaign.toml").write_text(small_text())
    where = (
        "--campaign", str(folder), "--data", str(tmp_path / "data"),
    )  # fmt: skip
    assert CliRunner().invoke(app, ["ingest", *where]).exit_code == OK
    run_folder = tmp_path / "data" / "small"
    run_id = latest(run_folder)
    assert run_id is not None
    ids = pd.read_parquet(run_folder / run_id / "tables/messages.parquet")
    first, second, *_ = ids["message_id"]
    past = [
        PAST | {"message_id": f"old{k}", "effect": 1.0 + k / 4, "se": 0.3}
        for k in range(16)
    ]
    marks = {f"old{k}": k / 2 for k in range(16)} | {first: 1.0, second: 7.0}
    tables = {
        "past_effects": OWN | {"rows": past},
        "forecasts": OWN | {"rows": [
            {"forecaster": "staff", "message_id": m, "points": p}
            for m, p in marks.items()
        ]},
    }  # fmt: skip
    (folder / "campaign.toml").write_text(
        small_text() + tomli_w.dumps({"tables": tables})
    )
    for words in (["ingest"], ["day", "--date", "2026-09-08"]):
        answer = CliRunner().invoke(app, [*words, *where])
        assert answer.exit_code == OK, answer.output
    rows = pd.read_parquet(
        run_folder / "plans" / "day-2026-09-08" / "assignments.parquet"
    )
    lift = rows.groupby("message_id", observed=True)["predicted_lift"].first()
    assert lift[second] > lift[first] > 0.0


def test_a_key_that_would_change_nothing_is_refused(tmp_path: Path) -> None:
    folder = brought(tmp_path / "idle", tables={}, forecasts={"slope_sd": 0.2})
    answer = hustings(folder, "ingest")
    assert answer.exit_code == BAD_INPUT
    assert "[forecasts].slope_sd: expected a section [tables.forecasts]" in " ".join(
        answer.output.split()
    )

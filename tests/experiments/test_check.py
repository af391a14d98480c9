"""`hustings check`: what a run would find is said before it, and nothing is written."""

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner, Result

from hustings.experiments.cli import BAD_INPUT, OK, app
from tests.experiments.test_right_reason import Drawn

HALVES = {"control": 0.5, "a": 0.5}


def files_under(folder: Path) -> dict[str, str]:
    """Digest of every file under a folder, and its subfolders."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        for path in sorted(folder.rglob("*"))
    }


def checked(folder: Path) -> tuple[Result, str]:
    """Answer of the command, which must leave the folder, and any other, as it was."""
    before = files_under(folder.parent)
    words = ["check", "--campaign", str(folder), "--data", str(folder.parent / "data")]
    answer = CliRunner().invoke(app, words, env={"MLFLOW_TRACKING_URI": None})
    assert files_under(folder.parent) == before
    return answer, " ".join(answer.output.split())


def hustings(folder: Path, *words: str) -> Result:
    where = ("--campaign", str(folder), "--data", str(folder.parent / "data"))
    store = ("--store", str(folder.parent / "mlflow"))
    return CliRunner().invoke(
        app, [*words, *where, *store], env={"MLFLOW_TRACKING_URI": None}
    )


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command may work; it has to be empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_campaign_that_is_fine_is_said_in_a_page_and_nothing_is_written(
    tmp_path: Path, temporary: Path
) -> None:
    drawn = Drawn(400)
    drawn.add("e", slice(None), HALVES)
    voters = drawn.frames["voters"]
    voters["g2024"] = [0] * 10 + [1] * 390
    voters["g2022"] = ""
    voters["score"], voters["rare"] = 7, ["blue"] * 395 + ["pink"] * 5
    voters.loc[3, "sex"] = ""
    folder = drawn.write(tmp_path / "fine")
    mend(folder, "[tables.voters.history]",
         '[tables.voters.extra]\nscore = "score"\nrare = "rare"\n'
         "[tables.voters.history]")  # fmt: skip
    bring_provider(folder, [f"V{k:06d},{k}" for k in range(396)] + [",1", "V000399,?"])
    answer, said = checked(folder)
    assert answer.exit_code == OK, answer.output
    for sentence in (
        "voters: 400 rows in = 400 accepted + 0 set aside",
        "responses: 400 rows in = 400 accepted + 0 set aside",
        "[providers.acme.table]: 398 rows in = 397 accepted + 1 set aside",
        "voter_id: expected a voter_id or another key, got none: 1 (such as row 397)",
        "value lost, income: stands for no value: 1 (such as row 398: ?)",
        "age: mean 5",
        "sex: ",
        "voted_20241105_general: 97.5 % voted",
        "voted_20221108_general: no value at all",
        "score: 1 value",
        "rare: 98.8 % have one value, blue",
        "mail: something may be sent to 400 of 400 voters",
        "controls have answered; seen in 4 of 5 such tests",
        "`hustings run` would go through.",
    ):
        assert sentence in said, (sentence, answer.output)
    assert "pink" not in said  # five people
    assert not list(temporary.iterdir())
    # a campaign that has run has a record, and keeps it as it was
    assert hustings(folder, "ingest").exit_code == OK
    again, _ = checked(folder)
    assert again.exit_code == OK, again.output
    assert not list(temporary.iterdir())


def bring_provider(folder: Path, lines: list[str]) -> None:
    """A provider's file, and its declaration."""
    (folder / "bought.csv").write_text("\n".join(["id,income", *lines]) + "\n")
    with (folder / "campaign.toml").open("a") as file:
        file.write(
            "[providers.acme]\njoin = 'voter_id'\n[providers.acme.table]\n"
            "path = 'bought.csv'\nobserved_on = 2026-01-01\nsource = 's'\n"
            "licence = 'l'\npermitted_use = 'features'\n"
            "columns = { voter_id = 'id' }\nextra = { income = 'income' }\n"
            "types = { income = 'number' }\n"
        )


def mend(folder: Path, old: str, new: str) -> None:
    path = folder / "campaign.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_table_over_its_limit_is_named_not_only_the_first(
    tmp_path: Path, temporary: Path
) -> None:
    drawn = Drawn(200)
    drawn.add("e", slice(None), HALVES)
    drawn.frames["responses"].loc[:19, "value"] = 999
    drawn.frames["deliveries"].loc[50:69, "message_id"] = "unknown"
    drawn.frames["voters"]["race"] = np.resize(["W", "B", "H"], 200)
    folder = drawn.write(tmp_path / "lossy")
    mend(folder, "[tables.voters.history]",
         '[tables.voters.extra]\nrace = "race"\n[tables.voters.history]')  # fmt: skip
    answer, said = checked(folder)
    assert answer.exit_code == BAD_INPUT, answer.output
    for sentence in (
        "table deliveries: 20 of 200 rows of deliveries.csv would be set aside",
        "table responses: 20 of 200 rows of responses.csv would be set aside",
        "expected an answer for every column that may tell of a special category",
        "'race' (its name speaks of race or ethnicity)",
        "`hustings run` would stop, faults: 3",
    ):
        assert sentence in said, (sentence, answer.output)
    assert not list(temporary.iterdir())


def test_what_may_not_be_sent_is_said_with_the_rule_and_how_many_it_stops(
    tmp_path: Path, temporary: Path
) -> None:
    drawn = Drawn(240)
    drawn.add("e", slice(None), dict.fromkeys(("control", "bare", "text"), 1 / 3),
              channels={"text": "sms"})  # fmt: skip
    drawn.messages["bare"]["disclaimer"] = ""
    drawn.designs.append({"experiment_id": "f", "message_id": "bare",
                          "channel": "mail", "probability": 0.5})  # fmt: skip
    drawn.designs.append({"experiment_id": "f", "message_id": "control",
                          "channel": "none", "probability": 0.5})  # fmt: skip
    folder = drawn.write(tmp_path / "unsent")
    mend(folder, "[plan]", '[plan]\naudience = "experiment"')
    bring_provider(folder, [f"V{k:06d},{k}" for k in range(90)] + [",1"] * 10)
    answer, said = checked(folder)
    assert answer.exit_code == BAD_INPUT, answer.output
    for sentence in (
        "table provider_rows: 10 of 100 rows",
        "experiment f, bare by mail: no deliveries, so nothing can be said of it",
        "mail: something may be sent to 0 of 240 voters",
        "sms: something may be sent to 0 of 240 voters",
        "message bare: lacks its sponsor or its 'paid for by' line",
        "(240 voters)",
        "Nothing may be sent, because",
        "experiment e: nothing may be sent, because",
        "`hustings run` would stop",
    ):
        assert sentence in said, (sentence, answer.output)
    assert not list(temporary.iterdir())


def test_files_that_are_not_there_and_columns_that_are_not_are_all_named(
    tmp_path: Path, temporary: Path
) -> None:
    drawn = Drawn(100)
    drawn.add("e", slice(None), HALVES)
    folder = drawn.write(tmp_path / "holes")
    (folder / "deliveries.csv").unlink()
    mend(folder, 'age = "age"', 'age = "alter"')
    answer, said = checked(folder)
    assert answer.exit_code == BAD_INPUT, answer.output
    assert "'alter'" in said
    assert "deliveries.csv" in said
    assert "responses: 100 rows in" in said
    assert "`hustings run` would stop, faults: 2" in said
    assert not list(temporary.iterdir())


def test_a_campaign_without_a_test_is_checked_for_its_first_wave(
    tmp_path: Path, temporary: Path
) -> None:
    drawn = Drawn(300)
    drawn.add("e", slice(None), HALVES)
    folder = drawn.write(tmp_path / "new")
    declared = tomllib.loads((folder / "campaign.toml").read_text())
    for name in ("designs", "deliveries", "responses"):
        del declared["tables"][name]
    declared["loop"] = {
        "channels": ["mail"], "believed_lift": 1.0, "believed_spread": 1.0,
        "outcome_sd": 20.0,
    }  # fmt: skip
    (folder / "campaign.toml").write_text(tomli_w.dumps(declared))
    answer, said = checked(folder)
    assert answer.exit_code == OK, answer.output
    for sentence in (
        "mail: something may be sent to 300 of 300 voters",
        "Lifts believed: by what [loop] declares",
        "Holdout 10 %: an overall lift of",
        "`hustings day` would go through.",
    ):
        assert sentence in said, (sentence, answer.output)
    assert not list(temporary.iterdir())

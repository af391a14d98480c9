"""`hustings plans`, `policies` and `evidence`: from a draft to what came back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, MISSING, app
from hustings.experiments.cli.common import OF_NO_CAMPAIGN, WITH_STORE, WITHOUT_DATA
from hustings.experiments.declaration import EXPERIMENTS
from hustings.experiments.plans.folder import LOCK
from hustings.features.checksums import write_checksums
from hustings.training.policy_value.policies import NAMES
from tests.experiments.test_plan_steps import drafted


@pytest.fixture
def data(tmp_path: Path) -> Path:
    drafted(tmp_path / "sample")
    return tmp_path


def run(data: Path, *words: str, code: int = 0, answer: str = "") -> str:
    where = ("--campaign", "sample", "--data", str(data))
    result = CliRunner().invoke(app, [*words, *where], input=answer)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_a_plan_goes_its_way_by_the_command_line(data: Path) -> None:
    assert "day1 draft 8 contacts 3.36 USD" in run(data, "plans", "list")
    told = run(data, "plans", "diff")
    assert "8 contacts (before 0): 0 added, 0 removed, 0 changed" in told
    assert "trade" not in told
    by = ("--by", "R. Approver")
    told = run(data, "plans", "approve", *by, answer="y\n")
    assert "8 contacts (before 0)" in told
    assert "Plan day1: approved" in told
    run(data, "plans", "lock", "day1")
    assert "2026-09-01-mail: 6 contacts" in run(data, "plans", "sent", "day")
    failed, bills = data / "failed.csv", data / "bills.csv"
    failed.write_text("voter_id,reason\nv00,moved\n")
    bills.write_text("invoice,channel,send_on,amount_usd\n007,mail,2026-09-01,3.5\n")
    files = ("--failed", str(failed), "--invoices", str(bills))
    assert "Plan day1: returned" in run(data, "plans", "returned", *files)
    spend = run(data, "plans", "spend")
    # one delivery failed: a count of few people
    assert "6 3.30 6 3.30 0 0.0 6 3.30 0 0.0 3.5 0.2" in spend
    assert '"by": "R. Approver"' in run(data, "plans", "show")
    assert "as do the files of 1 plans" in run(data, "verify")


def test_who_does_not_say_yes_has_not_approved(data: Path) -> None:
    run(data, "plans", "approve", "--by", "R. Approver", answer="n\n", code=1)
    assert "day1 draft" in run(data, "plans", "list")
    words = ("--by", "R. Approver", "--why", "too dear")
    run(data, "plans", "reject", "day1", *words)
    assert "day1 rejected" in run(data, "plans", "list")


def test_an_altered_file_of_a_plan_is_named(data: Path) -> None:
    path = data / "sample" / "plans" / "day1" / "terms.json"
    path.write_text(path.read_text().replace("7", "8"))
    told = run(data, "verify", code=BAD_INPUT)
    assert "plans/day1/terms.json: its digest" in told


def test_files_taken_as_written_by_a_command_that_was_killed_are_named(
    data: Path,
) -> None:
    folder = data / "sample" / "r1"
    folder.mkdir()
    for name in ("scores", "report", "old"):
        (folder / name).write_text("as the stage wrote it")
    write_checksums(folder)
    # as `kill -9` leaves it: the lock was never given back
    (data / "sample" / LOCK).write_text("`hustings score` (process 7)")
    (folder / "report").write_text("as a person changed it meanwhile")
    (folder / "note").write_text("new")
    (folder / "old").unlink()
    said = run(data, "plans", "spend")
    assert "taken as written by it: r1/note, r1/old, r1/report." in said
    assert "taken as written" not in run(data, "plans", "spend")


def test_every_command_has_the_options_by_which_messages_complete_it() -> None:
    def commands(group: Any) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            yield from (
                ((name, one) for _, one in commands(command))
                if hasattr(command, "commands")
                else [(name, command)]
            )

    for name, command in commands(typer.main.get_command(app)):
        takes = {parameter.name for parameter in command.params}
        assert ("campaign" in takes) == (name not in OF_NO_CAMPAIGN)
        assert ("data" in takes) == (name not in OF_NO_CAMPAIGN | WITHOUT_DATA)
        assert ("store" in takes) == (name in WITH_STORE)


def test_evidence_is_written_and_what_cannot_be_replayed_says_why(data: Path) -> None:
    out = data / "bundle"
    assert "Evidence of plan day1" in run(data, "evidence", "--out", str(out))
    assert (out / "manifest.json").is_file()
    told = run(data, "evidence", "--replay", code=MISSING)
    assert "drafted without them" in told
    assert "got neither" in run(data, "evidence", code=BAD_INPUT)
    shutil.rmtree(data / "sample" / "plans" / "day1")
    run(data, "evidence", "--out", str(data / "other"), code=BAD_INPUT)


def test_a_file_that_is_not_there_is_told(data: Path) -> None:
    words = ("plans", "returned", "--failed", str(data / "absent.csv"))
    assert "expected a CSV file" in run(data, *words, code=MISSING)


# --- policies -------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path: Path) -> dict[str, Any]:
    """The shipped evaluation as that of a run, and a later run that judged nothing."""
    home = tmp_path / "sample"
    for run_id in ("20260601T000000Z-1", "20260701T000000Z-2"):
        (home / run_id).mkdir(parents=True)
    shipped = EXPERIMENTS / "sample" / "evaluation.json"
    shutil.copy(shipped, home / "20260601T000000Z-1")
    evaluation: dict[str, Any] = json.loads(shipped.read_text())
    return evaluation


def test_every_policy_that_can_be_planned_is_listed_with_its_judged_gain(
    judged: dict[str, Any], tmp_path: Path
) -> None:
    (result,) = judged["experiments"].values()
    shown = json.loads(run(tmp_path, "policies", "--json"))
    assert shown["run"] == "20260601T000000Z-1"  # the later one judged nothing
    rows = pd.DataFrame(shown["policies"]).set_index("policy")
    assert list(rows.index) == ["champion", *result["policies"]]
    assert set(rows.index) <= {"champion", *NAMES}
    for name, value in result["policies"].items():
        assert rows.loc[name, "gain"] == value["gain"], name
    champion = result["champion"]
    assert rows.index[rows["is_champions"]].tolist() == ["champion", champion]
    assert rows.loc["champion", "gain"] == result["policies"][champion]["gain"]
    assert rows.index[rows["is_planned"]].tolist() == ["champion"]
    gain = result["policies"]["single_best"]["gain"]
    line = f"single_best {gain['value']:+.2f} ({gain['low']:+.2f} to"
    assert line in run(tmp_path, "policies")


def test_a_policy_that_one_experiment_does_not_know_cannot_be_planned(
    judged: dict[str, Any], tmp_path: Path
) -> None:
    (result,) = judged["experiments"].values()
    other = {**result, "policies": dict(result["policies"])}
    del other["policies"]["group_platform"]
    judged["experiments"]["autumn_test"] = other
    path = tmp_path / "sample" / "20260601T000000Z-1" / "evaluation.json"
    path.write_text(json.dumps(judged))
    shown = run(tmp_path, "policies")
    assert "autumn_test segment_best" in shown
    assert "group_platform" not in shown


def test_policies_before_any_evaluation_say_what_to_do(data: Path) -> None:
    said = run(data, "policies", code=MISSING)
    assert f"`hustings run --campaign sample --data {data}` judges every" in said

"""`hustings`: its stages one by one, its answers, and its exit codes."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from hustings.experiments.cli import BAD_INPUT, FAILED, MISSING, OK, app, common
from hustings.experiments.cli import stages as stages_module
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.run import STAGES
from hustings.experiments.stages.persons import known_persons, read_identity
from hustings.features.atomic import write_parquet
from hustings.features.persons.snapshot import take
from tests.checkout import environment

ROOT = Path(__file__).parents[2]
HEAVY = (
    "pandas", "numpy", "mlflow", "lightgbm", "pandera", "bentoml", "sklearn", "scipy",
    "optuna", "duckdb", "altair", "pyarrow", "pydantic",
)  # fmt: skip


def hustings(*arguments: str | Path) -> Result:
    # mlflow leaves the store of an earlier test in the environment
    nowhere = {"MLFLOW_TRACKING_URI": None}
    return CliRunner().invoke(app, [str(a) for a in arguments], env=nowhere)


def in_a_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hustings.experiments.cli", *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env=environment(COLUMNS="200"),
    )  # fmt: skip


def test_what_a_command_writes_is_its_users_alone(tmp_path: Path) -> None:
    home = tmp_path / "data" / "sample"
    home.mkdir(parents=True)
    home.chmod(0o755)
    where = ("--data", home.parent, "--store", tmp_path / "mlflow")
    done = in_a_process("forget", "V1", "--yes", "--campaign", "sample", *where)
    assert done.returncode == OK, done.stderr
    there = [home, *home.rglob("*")]
    assert len(there) > 3
    assert [path for path in there if path.stat().st_mode & 0o077] == []


# --- help -----------------------------------------------------------------------------


def test_help_lists_the_stages_in_the_order_of_the_data() -> None:
    done = in_a_process("--help")
    assert done.returncode == OK
    lines = done.stdout.splitlines()
    named = [line.strip(" │").split()[0] for line in lines if line.strip(" │")]
    commands = ["init", *STAGES, "run", "compare", "rollback", "serve"]
    assert [word for word in named if word in commands] == commands


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from hustings.experiments.cli import main\n"
        "sys.argv = ['hustings', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


@pytest.mark.parametrize(
    "command",
    ["init", *STAGES, "run", "compare", "rollback", "show", "forget", "verify",
     "serve"],
)  # fmt: skip
def test_every_command_has_help_of_its_own(command: str) -> None:
    done = hustings(command, "--help")
    assert done.exit_code == OK
    assert "--debug" in done.output


def every_command(group: Any, *before: str) -> dict[str, Any]:
    """Commands by their words, those of groups included."""
    commands: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = (*before, name)
        if hasattr(command, "commands"):
            commands |= every_command(command, *words)
        else:
            commands[" ".join(words)] = command
    return commands


def test_every_command_takes_its_campaign_by_one_option() -> None:
    of_no_campaign, with_default = [], []
    for name, command in every_command(typer.main.get_command(app)).items():
        options = {flag: p for p in command.params for flag in p.opts}
        assert "campaign" not in options, f"{name}: positional"
        if "--campaign" not in options:
            of_no_campaign.append(name)
        elif not options["--campaign"].required:
            with_default.append(name)
    # a new voter file is looked at before there is a campaign; keys of campaign.toml
    # and libraries are the installation's; a bundle is checked by people who have none
    assert of_no_campaign == ["init", "schema", "components"]
    assert sorted(with_default) == ["evidence", "run"]
    assert hustings("evidence").exit_code == BAD_INPUT


def test_a_command_without_its_campaign_is_refused(tmp_path: Path) -> None:
    done = hustings("day", "--date", "2026-09-08", "--data", tmp_path)
    assert done.exit_code == BAD_INPUT
    assert "--campaign" in done.output


# --- exit codes -----------------------------------------------------------------------


@pytest.fixture
def declared_wrongly(tmp_path: Path) -> Path:
    shipped = (ROOT / "experiments/sample/campaign.toml").read_text()
    wrong = shipped.replace("holdout_share = 0.1", "holdout_share = 0.0")
    assert wrong != shipped
    (tmp_path / "campaign.toml").write_text(wrong)
    return tmp_path


def test_a_wrong_campaign_is_told_by_file_key_and_line(declared_wrongly: Path) -> None:
    done = in_a_process("run", "--campaign", declared_wrongly)
    assert done.returncode == BAD_INPUT
    said = " ".join(done.stderr.split())
    text = (declared_wrongly / "campaign.toml").read_text().splitlines()
    line = 1 + text.index("holdout_share = 0.0")
    assert "campaign.toml" in said
    assert f"[plan].holdout_share (line {line})" in said
    assert "Traceback" not in done.stderr


def test_debug_shows_where_it_failed(declared_wrongly: Path) -> None:
    done = in_a_process("run", "--campaign", declared_wrongly, "--debug")
    assert done.returncode != OK
    assert "Traceback" in done.stderr
    assert "CampaignError" in done.stderr


@pytest.mark.parametrize(
    ("campaign", "file", "publication"),
    [
        ("2006_mailers", "ggl2008.parquet", "American Political Science Review"),
        ("2024_issue_messages", "issue_messages2025", "PNAS"),
    ],
)
def test_absent_data_is_told_by_file_and_publication(
    campaign: str,
    file: str,
    publication: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUSTINGS_DATA", str(tmp_path))
    done = hustings("run", "--campaign", campaign, "--data", tmp_path / "runs",
                    "--store", tmp_path / "mlflow")  # fmt: skip
    assert done.exit_code == MISSING
    said = " ".join(done.output.split())
    assert file in said
    assert str(tmp_path) in done.output.replace("\n", "")
    assert publication in said
    assert not (tmp_path / "runs" / campaign / "latest").exists()


def test_a_campaign_that_is_not_there_is_told_with_those_that_are() -> None:
    done = hustings("run", "--campaign", "no_such_campaign")
    assert done.exit_code == BAD_INPUT
    assert "persuasion_flyer" in done.output


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_before_any_run_says_what_to_do_first(
    stage: str, tmp_path: Path
) -> None:
    done = hustings(stage, "--campaign", "sample", "--data", tmp_path)
    assert done.exit_code == MISSING
    assert "hustings ingest --campaign sample" in " ".join(done.output.split())


def test_a_fault_of_ours_has_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("hustings.experiments.run.run_campaign", broken)
    done = hustings("run", "--campaign", "sample", "--data", tmp_path)
    assert done.exit_code == FAILED
    assert "ZeroDivisionError" in done.output
    assert len({OK, FAILED, BAD_INPUT, MISSING}) == 4


# --- two at once ----------------------------------------------------------------------


HOLD = """
import pathlib, sys
import pandas as pd
from hustings.experiments.plans.folder import one_command
at = pd.Timestamp("2026-09-08T07:00:00Z")
with one_command(pathlib.Path(sys.argv[1]), "run", at=at):
    print("holds", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_a_run(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is at work on a campaign until it is killed."""
    home.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], text=True, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def test_components_lists_every_pinned_library_with_a_licence() -> None:
    done = hustings("components")
    assert done.exit_code == OK, done.output
    listed = {c["name"]: c for c in json.loads(done.stdout)["components"]}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for pin in declared["dependencies"]:
        name, _, version = pin.partition("==")
        component = listed[name.partition("[")[0].replace("_", "-")]
        assert component["version"].partition("+")[0] == version
        assert component["purl"].startswith(f"pkg:pypi/{component['name']}@{version}")
    unstated = [n for n, c in listed.items() if "not stated" in str(c["licenses"])]
    assert len(unstated) <= len(listed) // 10, unstated


CHANGING = {
    "run": ["run", "--voters", "600"],
    "a stage": ["features"],
    "day": ["day", "--date", "2026-09-08"],
    "approve": ["plans", "approve", "--by", "R. Approver", "--yes"],
    "results": ["results", "none.csv", "--plan", "p1"],
    "forget": ["forget", "V0000001", "--yes"],
    "lift": ["lift"],
}


def test_of_two_commands_at_once_the_second_is_told_who_is_at_work_since_when(
    tmp_path: Path,
) -> None:
    def second(words: list[str]) -> Result:
        return hustings(
            *words,
            "--campaign",
            "sample",
            "--data",
            tmp_path,
            *(["--store", tmp_path / "m"] if words[0] == "run" else []),
        )

    home = tmp_path / "sample"
    with held_by_a_run(home) as process:
        # where a run is there to name
        (home / "latest").write_text("first")
        (home / "first").mkdir()
        before = sorted(home.rglob("*"))
        for name, words in CHANGING.items():
            done = second(words)
            said = " ".join(done.output.split())
            assert done.exit_code == BAD_INPUT, (name, said)
            assert f"`hustings run` (process {process.pid}, since 2026-09-08" in said
            assert "nothing was done" in " ".join(said.split())
        assert sorted(home.rglob("*")) == before
    # killed: the lock went with the process, and nothing has to be cleared by hand
    freed = second(CHANGING["approve"])
    assert "expected to be alone" not in freed.output


@pytest.mark.slow
def test_of_two_first_commands_of_a_campaign_at_once_one_is_told_and_one_ends(
    tmp_path: Path,
) -> None:
    words = ["ingest", "--campaign", "sample", "--voters", "400", "--data", tmp_path]
    command = [sys.executable, "-m", "hustings.experiments.cli", *map(str, words)]
    home = tmp_path / "sample"
    with ExitStack() as closing:
        both = [
            closing.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    text=True, cwd=ROOT, env=environment(COLUMNS="200"),
                )
            )
            for _ in range(2)
        ]  # fmt: skip
        while not (held := re.findall(r"process (\d+)", holder_of(home / ".lock"))):
            assert None in [process.poll() for process in both]
            time.sleep(0.01)
        first, second = sorted(both, key=lambda process: process.pid != int(held[0]))
        # at work until the other one has been told
        first.send_signal(signal.SIGSTOP)
        said = second.communicate(timeout=300)[0]
        first.send_signal(signal.SIGCONT)
        finished = first.communicate(timeout=300)[0]
    assert (first.returncode, second.returncode) == (OK, BAD_INPUT), finished + said
    assert f"(process {first.pid}, since" in said
    assert "nothing was done" in " ".join(said.split())
    # and one after the other: the same people, whose keys are there once
    assert hustings(*words).exit_code == OK
    assert len([path for path in home.iterdir() if (path / "run.json").exists()]) == 2
    identity = read_identity(home)
    assert identity["voter_id"].is_unique
    assert set(known_persons(home).keys.keys()) == set(identity["person"])
    assert len(list((home / "snapshots").iterdir())) == 1
    assert list(home.rglob("*.partial")) == []


def holder_of(lock: Path) -> str:
    return lock.read_text() if lock.exists() else ""


def test_what_only_reads_waits_for_no_command(tmp_path: Path) -> None:
    with held_by_a_run(tmp_path / "sample"):
        for words in (["plans", "list"], ["plans", "spend"], ["verify"]):
            done = hustings(*words, "--campaign", "sample", "--data", tmp_path)
            assert done.exit_code == OK, done.output


def test_what_a_killed_command_left_is_removed_by_the_next_and_said(
    tmp_path: Path,
) -> None:
    home = tmp_path / "sample"
    (home / ".r0.partial" / "tables").mkdir(parents=True)
    (home / ".r0.partial" / "tables" / "voters.parquet.partial").touch()
    (home / "results" / "p1" / "0123.partial").mkdir(parents=True)
    (home / "latest.partial").touch()
    done = hustings("sign", "none", "--by", "R. Approver", "--campaign", "sample",
                    "--data", tmp_path)  # fmt: skip
    assert done.exit_code == MISSING
    said = " ".join(done.output.split())
    for left in (".r0.partial", "latest.partial", "results/p1/0123.partial"):
        assert f"Removed what a command that was cut off left: {left}" in said
    assert list(home.rglob("*.partial")) == []


# --- the clock ------------------------------------------------------------------------

CLOCK = re.compile(
    r"utc_now\(\)|Timestamp\.(?:utc)?now|datetime\.(?:utc)?now|date\.today|time\.time\(|"
    r"gmtime|localtime"
)
EDGES = {
    # a request or a message came in at this moment
    "serving/service.py", "serving/monitor/http.py", "serving/reactions/http.py",
    "serving/reactions/broker.py",
    # how long a search may go on
    "training/registry/tune.py", "training/registry/trials.py",
    "training/registry/learn.py", "experiments/stages/tuning.py",
}  # fmt: skip


def test_the_clock_is_read_at_the_edge_alone() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for part in ("features", "training", "serving", "experiments")
        for path in (ROOT / part).rglob("*.py")
        if CLOCK.search(path.read_text())
    }
    below = {name for name in readers if not name.startswith("experiments/cli/")}
    assert below == EDGES


# --- init -----------------------------------------------------------------------------


def test_init_drafts_a_mapping_of_a_new_file(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "VOTER_ID": [f"X{i}" for i in range(50)],
            "AGE": [20 + i for i in range(50)],
            "RELIGION": ["catholic", "none"] * 25,
            "EMAIL": [f"a{i}@example.org" for i in range(50)],
        }
    )
    rows.to_csv(tmp_path / "file.csv", index=False)
    done = hustings("init", tmp_path / "file.csv")
    assert done.exit_code == OK
    drafted = tomllib.loads(done.stdout)
    columns = drafted["tables"]["voters"]["columns"]
    assert columns["voter_id"] == "VOTER_ID"
    assert columns["age"] == "AGE"
    assert "RELIGION" in drafted["features"]["special_categories"]
    assert "@example.org" not in done.output


def test_init_of_no_file_is_a_missing_file(tmp_path: Path) -> None:
    done = hustings("init", tmp_path / "none.csv")
    assert done.exit_code == MISSING
    # a long path is broken over lines
    assert "none.csv" in "".join(done.output.split())


# --- stage by stage -------------------------------------------------------------------


@dataclass(frozen=True)
class Repeated:
    """The story's campaign again from its raw files, stage by stage, then in one."""

    home: Path
    said: dict[str, str]
    stages: Path
    whole: Path

    def json(self, folder: Path, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        return found


@pytest.fixture(scope="module")
def repeated(story: Any, tmp_path_factory: pytest.TempPathFactory) -> Repeated:
    home = tmp_path_factory.mktemp("cli")
    options: list[str | Path] = [
        "--data",
        home / "runs",
        "--store",
        home / "mlflow",
    ]
    few: list[str | Path] = ["--trials", "2"]
    said = {}
    for stage in STAGES:
        told = few if stage == "train" else []
        done = hustings(stage, "--campaign", story.folder, *options, *told)
        assert done.exit_code == OK, (stage, done.output)
        said[stage] = done.stdout.strip()
    runs = home / "runs" / "spread"
    stages = runs / (runs / "latest").read_text()
    # told apart from the first by its name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages_module, "new_run_id", lambda: "in_one")
        done = hustings("run", "--campaign", story.folder, *options, *few)
    assert done.exit_code == OK, done.output
    said["run"] = done.stdout
    return Repeated(home, said, stages, runs / "in_one")


def test_every_stage_says_where_it_wrote(repeated: Repeated) -> None:
    for stage in STAGES:
        assert Path(repeated.said[stage].splitlines()[-1]) == repeated.stages


@pytest.mark.parametrize("name", ["training_set", "scores", "plan", "assignments"])
def test_stages_one_by_one_give_what_the_whole_run_gives(
    story: Any, repeated: Repeated, name: str
) -> None:
    # from scratch, in another folder, with a registry of its own
    one, two = (
        pd.read_parquet(folder / f"{name}.parquet")
        for folder in (story.run.folder, repeated.stages)
    )
    pd.testing.assert_frame_equal(one, two)


def test_two_runs_from_scratch_judge_alike(story: Any, repeated: Repeated) -> None:
    one = json.loads((story.run.folder / "evaluation.json").read_text())
    assert one == repeated.json(repeated.stages, "evaluation")


def test_the_run_ends_with_the_answer_and_where_everything_lies(
    repeated: Repeated,
) -> None:
    said = repeated.said["run"]
    evaluation = repeated.json(repeated.whole, "evaluation")
    assert said.startswith(evaluation["headline"]["sentence"])
    assert str(repeated.whole / "report.html") in said
    assert "voters: 12,001 rows in = 12,000 accepted + 1 set aside" in said
    assert re.search(r"set aside, age: younger than 16: 1 \(such as row 12001", said)


def test_a_second_run_on_the_same_data_keeps_the_champion(repeated: Repeated) -> None:
    first = repeated.json(repeated.stages, "promoted")
    second = repeated.json(repeated.whole, "promoted")
    assert second["kept"]
    assert (second["name"], second["version"]) == (first["name"], first["version"])


def test_a_second_run_on_the_same_data_does_not_turn_the_verdict(
    repeated: Repeated,
) -> None:
    # compared with itself the champion gains nothing: no reason to drop it
    one, two = (
        pd.read_parquet(folder / "scores.parquet")
        for folder in (repeated.stages, repeated.whole)
    )
    pd.testing.assert_frame_equal(one, two)


def test_a_second_run_says_that_it_was_held_against_the_champion(
    repeated: Repeated,
) -> None:
    said = repeated.json(repeated.whole, "run")["champion_before"]
    assert said == {"version": "1", "compared": True}
    (found,) = repeated.json(repeated.whole, "evaluation")["experiments"].values()
    assert "champion" in found["differences"]
    # no better than itself: it stays
    assert (found["verdict"], found["champion"]) == ("personalise", "champion")


def test_a_stage_can_name_the_run_it_works_in(repeated: Repeated, story: Any) -> None:
    before = (repeated.stages / "plan.parquet").stat().st_mtime_ns
    done = hustings("plan", "--campaign", story.folder,
                    "--data", repeated.home / "runs",
                    "--store", repeated.home / "mlflow", "--run",
                    repeated.stages.name)  # fmt: skip
    assert done.exit_code == OK, done.output
    assert (repeated.stages / "plan.parquet").stat().st_mtime_ns > before


def test_a_run_that_is_not_there_is_told(repeated: Repeated, story: Any) -> None:
    done = hustings("plan", "--campaign", story.folder,
                    "--data", repeated.home / "runs",
                    "--store", repeated.home / "mlflow", "--run", "nosuch")  # fmt: skip
    assert done.exit_code == MISSING
    assert not (repeated.home / "runs" / "spread" / "nosuch").exists()


def test_a_model_that_there_is_not_is_told(repeated: Repeated, story: Any) -> None:
    done = hustings("train", "--campaign", story.folder,
                    "--data", repeated.home / "runs",
                    "--store", repeated.home / "elsewhere", "--model", "oracle",
                    "--run", repeated.whole.name)  # fmt: skip
    assert done.exit_code == BAD_INPUT
    said = " ".join(done.output.split())
    assert "expected one of stack, linear, gbm" in said
    assert "got 'oracle'" in said


def test_runs_that_begin_in_the_same_second_have_names_of_their_own() -> None:
    ids = [common.new_run_id() for _ in range(200)]
    assert len(set(ids)) == 200
    # in their order, to the second
    assert [i[:16] for i in ids] == sorted(i[:16] for i in ids)


# --- MLflow and the champion ----------------------------------------------------------


def test_compare_lays_the_runs_of_a_campaign_side_by_side(
    repeated: Repeated, story: Any
) -> None:
    done = hustings("compare", "--campaign", story.folder,
                    "--data", repeated.home / "runs",
                    "--store", repeated.home / "mlflow")  # fmt: skip
    assert done.exit_code == OK, done.output
    rows = [line for line in done.stdout.splitlines() if "personalise" in line]
    assert repeated.whole.name in rows[0]
    assert repeated.stages.name in rows[1]
    (found,) = repeated.json(repeated.stages, "evaluation")["experiments"].values()
    low = float(rows[1].split("(")[1].split(" to ")[0])
    # both are rounded, so the last figure may differ
    assert low == pytest.approx(found["gain_from_personalising"]["low"], rel=1e-3)
    nothing = hustings(
        "compare", "--campaign", "sample", "--store", repeated.home / "mlflow"
    )
    assert nothing.exit_code == MISSING
    assert "hustings run --campaign sample" in " ".join(nothing.output.split())


def test_rollback_serves_the_plan_of_the_champion_before(
    repeated: Repeated, story: Any
) -> None:
    options = ["--data", repeated.home / "runs", "--store", repeated.home / "mlflow"]
    refused = hustings("rollback", "--campaign", story.folder, *options)
    assert refused.exit_code == BAD_INPUT
    assert "expected a champion before version 1" in " ".join(refused.output.split())
    # the first run promotes again: version 2, planned and served
    for stage in ("promote", "plan"):
        done = hustings(
            stage, "--campaign", story.folder, *options, "--run", repeated.stages.name
        )
        assert done.exit_code == OK, done.output
    served = repeated.home / "runs" / "spread" / "serving" / "version.json"
    assert json.loads(served.read_text())["version"] == "2"
    done = hustings("rollback", "--campaign", story.folder,
                    *options, "--why", "a wrong file",
                    "--by", "the analyst")  # fmt: skip
    assert done.exit_code == OK, done.output
    assert "version 1" in done.stdout
    told = json.loads(served.read_text())
    assert told["version"] == "1"
    why = json.loads(told["tag_rolled_back_from"])
    assert (why["version"], why["by"], why["why"]) == (
        "2", "the analyst", "a wrong file",
    )  # fmt: skip
    # the run that planned with version 1 is the latest again
    assert (served.parents[1] / "latest").read_text() == repeated.whole.name
    assert str(repeated.whole) in done.stdout


# --- the ledger and the persons -------------------------------------------------------


def test_an_altered_ledger_is_told_with_its_first_altered_entry(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "sample")
    for number in range(3):
        ledger.append("note", {"n": number}, at=pd.Timestamp("2026-09-01", tz="UTC"))
    done = hustings("verify", "--campaign", "sample", "--data", tmp_path)
    assert (done.exit_code, done.output[:14]) == (OK, "3 entries hold")
    end = re.search(r"The end: (3 [0-9a-f]{64})", " ".join(done.output.split()))
    assert end is not None
    since = ("--since", end[1])
    done = hustings("verify", "--campaign", "sample", "--data", tmp_path, *since)
    assert "Not checked: entries before 3, verified earlier." in done.output
    since = ("--since", "3 " + 64 * "0")
    done = hustings("verify", "--campaign", "sample", "--data", tmp_path, *since)
    assert done.exit_code == BAD_INPUT
    store = sqlite3.connect(tmp_path / "sample" / "ledger.db")
    store.execute("DROP TRIGGER ledger_no_update")
    store.execute("""UPDATE ledger SET body = '{"n":7}' WHERE seq = 2""")
    store.commit()
    store.close()
    done = hustings("verify", "--campaign", "sample", "--data", tmp_path)
    assert done.exit_code == BAD_INPUT
    assert "1 entries hold; entry 2 (note" in " ".join(done.output.split())


def test_nobody_is_forgotten_without_being_asked_for_it_twice(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    asked = (
        "forget",
        "V0000001",
        "--campaign",
        "sample",
        "--data",
        tmp_path,
        "--store",
        tmp_path / "m",
    )
    assert hustings(*asked).exit_code != OK
    assert list((tmp_path / "sample").iterdir()) == []
    done = hustings(*asked, "--yes")
    assert (done.exit_code, done.output.strip()[:9]) == (OK, "Taken out")
    assert known_persons(tmp_path / "sample").keys.pending() == []


@pytest.mark.parametrize("command", ["show", "forget"])
def test_a_campaign_that_keeps_nothing_is_refused(command: str, tmp_path: Path) -> None:
    more = ["--yes"] if command == "forget" else []
    done = hustings(
        command, "V0000001", "--campaign", "sample", "--data", tmp_path, *more
    )
    assert done.exit_code == MISSING
    assert not list(tmp_path.iterdir())


def test_nothing_is_verified_where_nothing_is(tmp_path: Path) -> None:
    done = hustings("verify", "--campaign", "sample", "--data", tmp_path)
    assert done.exit_code == MISSING
    assert "there is nothing to verify" in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())


def test_what_changed_between_two_voter_files_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "sample" / "snapshots"
    voters = pd.DataFrame({"voter_id": [f"V{i}" for i in range(30)], "party": "D"})
    days = {"2026-03-01": voters, "2026-03-08": voters.head(27).assign(party="R")}
    for day, table in days.items():
        write_parquet(tmp_path / "voters.parquet", table)
        take(folder, tmp_path / "voters.parquet", observed_on=day)
    done = hustings("snapshots", "diff", "--campaign", "sample", "--data", tmp_path)
    assert done.exit_code == OK
    assert "30 → 27 voters" in done.output
    assert re.search(r"changed +27", done.output)
    assert re.search(r"gone +3", done.output)
    listed = hustings(
        "snapshots", "diff", "--ids", "--campaign", "sample", "--data", tmp_path
    )
    assert "changed  V0: party\n" in listed.output
    assert "gone     V29\n" in listed.output
    assert "V29" not in done.output
    again = hustings(
        "snapshots", "diff", "1", "9", "--campaign", "sample", "--data", tmp_path
    )
    assert again.exit_code == MISSING

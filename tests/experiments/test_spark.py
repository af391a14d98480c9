"""`[engine] spark`: the commands of a run, the tables that they write, and its lack."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.cli.common import BAD_INPUT
from hustings.features.engine import Engine

ON_SPARK = '\n[engine]\nspark = "local[2]"\n'


def campaign_of(story: Any, folder: Path, more: str) -> Path:
    """The story's campaign with derived columns, and what more is declared."""
    folder.mkdir()
    (folder / "raw").symlink_to(story.folder / "raw")
    declared = (story.folder / "campaign.toml").read_text()
    derived = 'derived = ["history", "household", "neighbours"]\n'
    declared = declared.replace("[features]\n", f"[features]\n{derived}")
    (folder / "campaign.toml").write_text(declared + more)
    return folder


def run_folder(story: Any, folder: Path) -> Path:
    """What `ingest`, `features` and `score` write, by the story's champion."""
    for command in ("ingest", "features", "score"):
        given = [command, "--campaign", folder, "--data", folder / "runs",
                 "--store", story.run.store]  # fmt: skip
        done = CliRunner().invoke(
            app, [str(part) for part in given], env={"MLFLOW_TRACKING_URI": None}
        )
        assert done.exit_code == 0, done.output
    home = folder / "runs" / "spread"
    return home / (home / "latest").read_text()


def test_the_commands_write_the_same_tables_on_spark(
    story: Any,
    spark: Engine,  # noqa: ARG001 - skips where there is none
    tmp_path: Path,
) -> None:
    here = run_folder(story, campaign_of(story, tmp_path / "here", ""))
    there = run_folder(story, campaign_of(story, tmp_path / "there", ON_SPARK))
    files = sorted(str(path.relative_to(here)) for path in here.rglob("*.parquet"))
    assert files == sorted(
        str(path.relative_to(there)) for path in there.rglob("*.parquet")
    )
    assert {"tables/voters.parquet", "scores.parquet", "quarantine.parquet"} < {*files}
    for file in files:
        one, other = pd.read_parquet(here / file), pd.read_parquet(there / file)
        if file == "example.parquet":  # drawn with random ids
            one, other = one.head(0), other.head(0)
        pd.testing.assert_frame_equal(other, one, atol=1e-6, rtol=0, obj=file)
    for file in ("ingest.json", "reader.json"):
        assert (there / file).read_text() == (here / file).read_text()


def test_an_engine_that_cannot_be_had_is_one_line(
    story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    folder = campaign_of(story, tmp_path / "c", ON_SPARK.replace("[2]", "[9]"))
    given = ["run", "--campaign", folder, "--data", tmp_path / "runs"]
    done = CliRunner().invoke(app, [str(part) for part in given])
    assert done.exit_code == BAD_INPUT
    (line,) = [row for row in done.output.splitlines() if "error" in row]
    assert '[engine].spark = "local[9]" needs' in line
    assert "Java 17" in done.output or "hustings[spark]" in done.output
    assert not list((tmp_path / "runs" / "spread").glob("2*"))


def test_a_master_that_is_none_is_refused(story: Any, tmp_path: Path) -> None:
    folder = campaign_of(
        story, tmp_path / "c", ON_SPARK.replace("local[2]", "http://x")
    )
    done = CliRunner().invoke(app, ["ingest", "--campaign", str(folder)])
    assert done.exit_code == BAD_INPUT
    assert "engine.spark" in done.output.replace("[engine]", "engine")

"""`hustings ingest` and `features` of a large voter file on DuckDB and on Spark.

The file is that of `test_ingest`; `HUSTINGS_VOTERS` sets the sizes, as 1e6,1e7. What is
counted, decided and derived has to be the same, floats to a millionth.
"""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.checkout import environment
from tests.one_message import answers_text, campaign_text
from tests.speed.test_ingest import SIZES, voters_text, write_voters

pytestmark = pytest.mark.speed

DERIVED = 'derived = ["history", "household", "neighbours"]\n'


def seconds_of(command: str, folder: Path) -> float:
    """Wall time of a command of the campaign in a folder."""
    given = ["--campaign", folder, "--data", folder / "d", "--store", folder / "m"]
    line = [sys.executable, "-m", "hustings.experiments.cli", command, *given]
    started = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in line],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - started


@pytest.mark.parametrize("n_voters", SIZES)
def test_both_engines_write_the_same_tables(
    n_voters: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyspark", reason="Spark: pip install 'hustings[spark]'")
    write_voters(tmp_path / "voters.csv", n_voters)
    text = campaign_text("size", voters_text())
    text = text.replace("[features]\n", f"[features]\n{DERIVED}")
    took, runs = {}, []
    for name, more in (("DuckDB", ""), ("Spark", '[engine]\nspark = "local[2]"\n')):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "voters.csv").symlink_to(tmp_path / "voters.csv")
        (folder / "campaign.toml").write_text(text + more)
        (folder / "test.csv").write_text(
            answers_text([f"NC{i:09d}" for i in range(2_000)])
        )
        took[name] = [seconds_of(command, folder) for command in ("ingest", "features")]
        (home,) = (folder / "d").iterdir()
        runs.append(home / (home / "latest").read_text())
    here, there = runs
    for file in ("tables/voters", "training_set", "features", "quarantine"):
        one, other = (pd.read_parquet(run / f"{file}.parquet") for run in runs)
        pd.testing.assert_frame_equal(other, one, atol=1e-6, rtol=0, obj=file)
    assert (there / "ingest.json").read_text() == (here / "ingest.json").read_text()
    with capsys.disabled():
        for name, (ingest, features) in took.items():
            print(  # noqa: T201 - this is what a benchmark is for
                f"\n  {n_voters:,} voters on {name}: ingest {ingest:.0f} s, features "
                f"{features:.0f} s of wall time"
            )

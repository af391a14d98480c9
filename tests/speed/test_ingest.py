"""CPU seconds and memory of `hustings ingest` by the size of the voter file.

The file is a CSV of forty columns and about 300 bytes a line: an id, a household, a
date of birth, sex, party, places, a date of registration, twelve elections as Y or
blank, eight provider columns, and names and addresses that nothing maps.
`HUSTINGS_VOTERS` sets the sizes, as 1e6,1e7.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.checkout import environment
from tests.one_message import answers_text, campaign_text

pytestmark = pytest.mark.speed

SIZES = [int(float(n)) for n in os.environ.get("HUSTINGS_VOTERS", "1e6").split(",")]
ELECTIONS = [
    f"{kind}_{year}" for year in range(2014, 2026, 2) for kind in ("General", "Primary")
]
SCORES = [f"score_{k}" for k in range(8)]
HEADER = [
    "voter_id", "household_id", "first_name", "last_name", "address", "city", "dob",
    "sex", "party", "county", "precinct", "zip", "registered", "status", "email",
    "phone", "district_us", "district_state", "ward", "school", *ELECTIONS, *SCORES,
]  # fmt: skip
TILE = 100_000
VOTERS = """
[tables.voters]
path = "voters.csv"
source = "s"
licence = "l"
permitted_use = "p"
observed_on = 2026-01-01
[tables.voters.columns]
voter_id = "voter_id"
household_id = "household_id"
birth_year = {{ column = "dob", format = "%m/%d/%Y" }}
sex = {{ column = "sex", map = {{ F = "F", M = "M" }}, default = "U" }}
party = "party"
county_fips = "county"
precinct = "precinct"
postcode = "zip"
registered_on = {{ column = "registered", format = ["%m/%d/%Y", "%Y-%m-%d"] }}
[tables.voters.history]
{history}
[tables.voters.extra]
names = ["score_*"]
"""


def write_voters(path: Path, n: int) -> None:
    """Write n invented voters; all but ids and households repeat after a tile."""
    rng = np.random.default_rng(1)
    tail = _tile(rng)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(HEADER) + "\n")
        for start in range(0, n, TILE):
            rows = range(start, min(start + TILE, n))
            file.write(
                "".join(f"NC{i:09d},H{i // 2:09d},{tail[i - start]}" for i in rows)
            )


def _tile(rng: np.random.Generator) -> list[str]:
    day, month = rng.integers(1, 29, TILE), rng.integers(1, 13, TILE)
    year, registered = rng.integers(1932, 2005, TILE), rng.integers(1990, 2025, TILE)
    sex, party = rng.choice(list("FMU"), TILE), rng.choice(["DEM", "REP", "UNA"], TILE)
    county, precinct = rng.integers(1, 100, TILE), rng.integers(0, 300, TILE)
    zip_code = rng.integers(27000, 29000, TILE)
    voted = np.where(rng.random((TILE, len(ELECTIONS))) < 0.5, "Y", "")
    scores = rng.uniform(0, 100, (TILE, len(SCORES)))
    return [
        f"PAT,RIVERA-OKONKWO,{k} OLD QUARRY ROAD APT 4,SPRINGFIELD,"
        f"{month[k]:02d}/{day[k]:02d}/{year[k]},{sex[k]},{party[k]},37{county[k]:03d},"
        f"{precinct[k]:04d},{zip_code[k]},{month[k]:02d}/{day[k]:02d}/{registered[k]},"
        f"ACTIVE,pat.rivera-okonkwo.{k}@mail.example.org,(919) 555-{k % 10_000:04d},"
        f"US HOUSE DISTRICT {k % 13},STATE HOUSE DISTRICT {k % 50},WARD {k % 9},"
        f"CONSOLIDATED SCHOOL DISTRICT {k % 40}," + ",".join(voted[k]) + ","
        + ",".join(f"{x:.1f}" for x in scores[k]) + "\n"
        for k in range(TILE)
    ]  # fmt: skip


def voters_text() -> str:
    days = {"General": "11-03", "Primary": "05-05"}
    history = [
        f'"{name[-4:]}-{days[name[:7]]} {name[:7].lower()}" = '
        f'{{ column = "{name}", map = {{ Y = 1, "" = 0 }} }}'
        for name in ELECTIONS
    ]
    return VOTERS.format(history="\n".join(history))


@pytest.mark.parametrize("n_voters", SIZES)
def test_seconds_and_memory_of_ingest(
    n_voters: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voters(tmp_path / "voters.csv", n_voters)
    text = campaign_text("size", voters_text())
    (tmp_path / "campaign.toml").write_text(text)
    ids = [f"NC{i:09d}" for i in range(2_000)]
    (tmp_path / "test.csv").write_text(answers_text(ids))
    size = (tmp_path / "voters.csv").stat().st_size
    code = (
        "import resource, sys, time\n"
        "from hustings.experiments.cli import app\n"
        "started = time.perf_counter()\n"
        "try:\n    app(sys.argv[1:])\n"
        "except SystemExit as stop:\n    rc = stop.code\n"
        "u = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('MEASURED', rc, u.ru_utime + u.ru_stime, u.ru_maxrss / 1e6,"
        " time.perf_counter() - started)\n"
    )
    options = ["ingest", "--campaign", str(tmp_path), "--data", str(tmp_path / "d")]
    done = subprocess.run(
        [sys.executable, "-c", code, *options, "--store", str(tmp_path / "m")],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    line = next(x for x in done.stdout.splitlines() if x.startswith("MEASURED"))
    _, rc, cpu, peak, wall = line.split()
    assert rc == "0", done.stdout + done.stderr
    assert f"voters: {n_voters:,} rows in = {n_voters:,} accepted" in done.stdout
    with capsys.disabled():
        print(  # noqa: T201 - this is what a benchmark is for
            f"\n  ingest of {n_voters:,} voters, {size / n_voters:.0f} bytes a line: "
            f"{float(cpu):.1f} CPU s ({float(cpu) / n_voters * 1e6:.1f} a million), "
            f"peak {float(peak):.2f} GB, {float(wall):.0f} s of wall time"
        )
